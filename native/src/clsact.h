// SPDX-License-Identifier: Apache-2.0
// Programs of type tc as filters of the clsact qdisc: for kernels without tcx.
#pragma once

#include <napi.h>

namespace fairlead {

Napi::Value AttachClsact(const Napi::CallbackInfo& info);
Napi::Value ClsactProgramId(const Napi::CallbackInfo& info);
Napi::Value ClsactProgram(const Napi::CallbackInfo& info);
Napi::Value DetachClsact(const Napi::CallbackInfo& info);
Napi::Value RemoveClsact(const Napi::CallbackInfo& info);

}  // namespace fairlead
