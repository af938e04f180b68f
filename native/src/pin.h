// SPDX-License-Identifier: Apache-2.0
// Pins: files of a bpffs that keep maps, programs and links alive.
#pragma once

#include <napi.h>

#include <string>

#include "error.h"

namespace fairlead {

// Is `path` on a bpffs?
bool OnBpffs(const std::string& path);

Failure PinFailure(int error, const std::string& what, const std::string& path);

Napi::Value OpenMap(const Napi::CallbackInfo& info);
Napi::Value OpenProgram(const Napi::CallbackInfo& info);
Napi::Value OpenLink(const Napi::CallbackInfo& info);

// mountBpffs of src/dataplane/native.ts.
Napi::Value MountBpffs(const Napi::CallbackInfo& info);

}  // namespace fairlead
