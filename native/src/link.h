// SPDX-License-Identifier: Apache-2.0
// NativeLink: a program on an interface.
#pragma once

#include "handle.h"

namespace fairlead {

class Link : public Handle<Link> {
 public:
  static constexpr napi_type_tag kTag = {0xd1e84b27630f4c9a, 0x95c2be6f0a7d1483};
  static constexpr const char* kKind = "link";
  static constexpr const char* kPinPhrase = "pin link";
  static Napi::FunctionReference& Class(Addon& addon) { return addon.link; }
  static void Define(Napi::Env env, Addon& addon);

  explicit Link(const Napi::CallbackInfo& info);

 private:
  using Read = Napi::Value (*)(Napi::Env, const bpf_link_info&);
  template <Read read>
  static napi_value Getter(napi_env env, napi_callback_info info);

  Napi::Value Current(const Napi::CallbackInfo& info);
  Napi::Value Update(const Napi::CallbackInfo& info);
  Napi::Value Detach(const Napi::CallbackInfo& info);
};

}  // namespace fairlead
