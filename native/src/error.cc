// SPDX-License-Identifier: Apache-2.0
#include "error.h"

#include <bpf/libbpf.h>
#include <string.h>

#include <cctype>

namespace fairlead {

namespace {

// The kernel's own ENOTSUPP leaks out of bpf(2) and is unknown to the C library.
constexpr int kKernelNotSupported = 524;

std::string Describe(int error) {
  if (error == kKernelNotSupported) return "operation not supported by this kind of object";
  char text[256];
  libbpf_strerror(error, text, sizeof text);
  text[0] = static_cast<char>(tolower(text[0]));
  return text;
}

}  // namespace

std::string Quoted(const std::string& text) { return '"' + text + '"'; }

std::string ErrorName(int error) {
  if (error == kKernelNotSupported) return "ENOTSUPP";
  const char* name = strerrorname_np(error);
  return name != nullptr ? name : "E" + std::to_string(error);
}

Failure SystemFailure(int error, const std::string& what, const char* call,
                      const std::string& object, const std::string& hint) {
  if (error < 0) error = -error;
  std::string text = hint.empty() ? Describe(error) : hint;
  // Libbpf's private numbers (4000 and up) are all kinds of a malformed or unsuitable object.
  if (error >= __LIBBPF_ERRNO__START) error = EINVAL;
  std::string code = ErrorName(error);
  return {what + ": " + code + ", " + text, code, error, call, object, std::nullopt};
}

Failure PlainFailure(const char* code, const std::string& what, const char* call,
                     const std::string& object, const std::string& text) {
  return {what + ": " + code + ", " + text, code, 0, call, object, std::nullopt};
}

Napi::Error ToError(Napi::Env env, const Failure& failure) {
  Napi::Error error = Napi::Error::New(env, failure.message);
  error.Set("name", Napi::String::New(env, "NativeError"));
  error.Set("code", Napi::String::New(env, failure.code));
  error.Set("errno", Napi::Number::New(env, failure.number));
  error.Set("call", Napi::String::New(env, failure.call));
  error.Set("object", Napi::String::New(env, failure.object));
  error.Set("log", failure.log ? Napi::String::New(env, *failure.log) : env.Null());
  return error;
}

Napi::Value Throw(Napi::Env env, const Failure& failure) {
  ToError(env, failure).ThrowAsJavaScriptException();
  return Napi::Value();
}

}  // namespace fairlead
