// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <napi.h>

namespace fairlead {

// attachXdp and attachTcx of src/dataplane/native.ts.
Napi::Value AttachXdp(const Napi::CallbackInfo& info);
Napi::Value AttachTcx(const Napi::CallbackInfo& info);

}  // namespace fairlead
