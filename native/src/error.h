// SPDX-License-Identifier: Apache-2.0
// What went wrong, as plain data that may cross threads, and its way into JavaScript.
#pragma once

#include <napi.h>

#include <optional>
#include <string>

namespace fairlead {

// NativeFailure of src/dataplane/native.ts, plus the message.
struct Failure {
  std::string message;
  std::string code;
  int number = 0;  // errno, positive; 0 when no system call failed
  std::string call;
  std::string object;
  std::optional<std::string> log;
};

// Nothing when all went well.
using Result = std::optional<Failure>;

std::string Quoted(const std::string& text);

// "EBUSY" for EBUSY, and so on; "E999" for a number without a name.
std::string ErrorName(int error);

// A failed call. `what` is the phrase with its objects, as in: attach program "xdp_lb" to "eth0".
// `hint` says what the number means here; the C library's words when empty.
Failure SystemFailure(int error, const std::string& what, const char* call,
                      const std::string& object, const std::string& hint = "");

// A failure found before any call was made.
Failure PlainFailure(const char* code, const std::string& what, const char* call,
                     const std::string& object, const std::string& text);

Napi::Error ToError(Napi::Env env, const Failure& failure);

// Throws into JavaScript; returns an empty value to return to it.
Napi::Value Throw(Napi::Env env, const Failure& failure);

}  // namespace fairlead
