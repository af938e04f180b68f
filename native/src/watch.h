// SPDX-License-Identifier: Apache-2.0
// NativeWatch: what changes in this network namespace, as rtnetlink tells it.
#pragma once

#include "handle.h"

namespace fairlead {

struct Watcher;

class Watch : public Handle<Watch> {
 public:
  static constexpr napi_type_tag kTag = {0x2b7e151628aed2a6, 0xabf7158809cf4f3c};
  static constexpr const char* kKind = "watch";
  static Napi::FunctionReference& Class(Addon& addon) { return addon.watch; }
  static void Define(Napi::Env env, Addon& addon);
  // watchNetwork of src/dataplane/native.ts.
  static Napi::Value Open(const Napi::CallbackInfo& info);

  explicit Watch(const Napi::CallbackInfo& info) : Handle(info) {}

 private:
  Napi::Value Close(const Napi::CallbackInfo& info);

  Watcher* watcher_ = nullptr;  // of an open watch; frees itself, and with the environment
};

}  // namespace fairlead
