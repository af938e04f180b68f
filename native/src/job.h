// SPDX-License-Identifier: Apache-2.0
// Work off the main thread that settles one promise.
#pragma once

#include <napi.h>

#include <functional>

#include "error.h"

namespace fairlead {

// Runs on a libuv thread: no JavaScript, no Napi value. What it needs it holds itself (SharedFd,
// copied bytes).
using Work = std::function<Result()>;
// Runs on the main thread after work that went well; what it returns or throws settles the promise.
using Finish = std::function<Napi::Value(Napi::Env)>;

// A promise for the outcome of `work`; resolves with undefined without `finish`.
Napi::Value Start(Napi::Env env, const char* name, Work work, Finish finish = nullptr);

Napi::Value Rejected(Napi::Env env, const Failure& failure);

}  // namespace fairlead
