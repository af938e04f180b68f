// SPDX-License-Identifier: Apache-2.0
// State of one JavaScript environment (the main thread or a worker thread).
#pragma once

#include <napi.h>

#include <string>

#include "memory.h"

namespace fairlead {

// What the next handle is made of. Handles are made here only: a constructor called from JavaScript
// finds none.
struct Parts {
  SharedFd fd;
  std::string name;
};

struct Addon {
  Napi::FunctionReference map, program, link, object, watch;
  Parts* parts = nullptr;
  napi_threadsafe_function log = nullptr;  // guarded by the lock in log.cc
};

}  // namespace fairlead
