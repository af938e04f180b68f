// SPDX-License-Identifier: Apache-2.0
// NativeProgram: a loaded program, run in place with BPF_PROG_TEST_RUN.
#pragma once

#include "handle.h"

namespace fairlead {

class Program : public Handle<Program> {
 public:
  static constexpr napi_type_tag kTag = {0x2b7c1fd0e85546b9, 0xa4f0927d1c3e6b5f};
  static constexpr const char* kKind = "program";
  static constexpr const char* kPinPhrase = "pin program";
  static Napi::FunctionReference& Class(Addon& addon) { return addon.program; }
  static void Define(Napi::Env env, Addon& addon);

  explicit Program(const Napi::CallbackInfo& info);

  uint32_t id() const { return id_; }

 private:
  Napi::Value Run(const Napi::CallbackInfo& info);
  Napi::Value RunMany(const Napi::CallbackInfo& info);
  Napi::Value MapIds(const Napi::CallbackInfo& info);

  uint32_t id_ = 0;
};

}  // namespace fairlead
