// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <napi.h>

namespace fairlead {

// attachXdp of src/dataplane/native.ts.
Napi::Value AttachXdp(const Napi::CallbackInfo& info);

}  // namespace fairlead
