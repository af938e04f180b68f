// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <napi.h>

namespace fairlead {

// askRoutes of src/dataplane/native.ts.
Napi::Value AskRoutes(const Napi::CallbackInfo& info);

}  // namespace fairlead
