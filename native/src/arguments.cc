// SPDX-License-Identifier: Apache-2.0
#include "arguments.h"

#include <math.h>

#include "job.h"

namespace fairlead {

View Arguments::Bytes(size_t index, const char* name) {
  if (failure_) return {};
  Napi::Value value = info_[index];
  napi_typedarray_type type = napi_int8_array;
  View view;
  void* data = nullptr;
  bool bytes = value.IsTypedArray() &&
               napi_get_typedarray_info(info_.Env(), value, &type, &view.size, &data, nullptr,
                                        nullptr) == napi_ok &&
               type == napi_uint8_array;
  if (!bytes) {
    Bad(name, Kind(value), "a Uint8Array");
    return {};
  }
  view.data = static_cast<const uint8_t*>(data);
  return view;
}

View Arguments::Bytes(size_t index, const char* name, size_t size) {
  View view = Bytes(index, name);
  if (!failure_ && view.size != size) {
    Bad(name, std::to_string(view.size) + " bytes", std::to_string(size).c_str());
  }
  return view;
}

View Arguments::BytesOrNull(size_t index, const char* name) {
  return IsNull(index) ? View{} : Bytes(index, name);
}

uint32_t Arguments::Number(size_t index, const char* name, uint32_t least, uint32_t most) {
  if (failure_) return 0;
  Napi::Value value = info_[index];
  double number = value.IsNumber() ? value.As<Napi::Number>().DoubleValue() : NAN;
  if (number >= least && number <= most && number == trunc(number)) {
    return static_cast<uint32_t>(number);
  }
  std::string got = value.IsNumber() ? value.ToString().Utf8Value() : Kind(value);
  std::string wanted = "an integer from " + std::to_string(least) + " to " + std::to_string(most);
  Bad(name, got, wanted.c_str());
  return 0;
}

bool Arguments::Boolean(size_t index, const char* name) {
  if (failure_) return false;
  if (info_[index].IsBoolean()) return info_[index].As<Napi::Boolean>().Value();
  Bad(name, Kind(info_[index]), "a boolean");
  return false;
}

void Arguments::Function(size_t index, const char* name) {
  if (!failure_ && !info_[index].IsFunction()) Bad(name, Kind(info_[index]), "a function or null");
}

uint32_t Arguments::Choice(size_t index, const char* name,
                           std::initializer_list<std::pair<const char*, uint32_t>> choices) {
  std::string text = Text(index, name);
  std::string wanted;
  for (const auto& [word, number] : choices) {
    if (text == word) return number;
    wanted += (wanted.empty() ? "" : " or ") + Quoted(word);
  }
  if (!failure_) Bad(name, Quoted(text), wanted.c_str());
  return 0;
}

std::string Arguments::Text(size_t index, const char* name) {
  if (failure_) return {};
  Napi::Value value = info_[index];
  std::string text = value.IsString() ? value.As<Napi::String>().Utf8Value() : "";
  // A NUL would cut the name short on its way through C.
  if (text.empty() || text.find('\0') != std::string::npos) {
    Bad(name, value.IsString() ? "an empty string or one with a NUL" : Kind(value),
        "a non-empty string");
  }
  return text;
}

std::optional<std::string> Arguments::TextOrNull(size_t index, const char* name) {
  if (IsNull(index)) return std::nullopt;
  return Text(index, name);
}

void Arguments::Closed(const char* kind) {
  if (failure_) return;
  failure_ = PlainFailure("CLOSED", Phrase(), call_, object_,
                          std::string("the ") + kind + " was closed before");
}

void Arguments::Refuse(int error, const char* hint) {
  if (!failure_) failure_ = System(error, hint);
}

Napi::Value Arguments::Reject() const { return Rejected(info_.Env(), *failure_); }

std::string Arguments::Phrase() const {
  return object_.empty() ? what_ : what_ + (" " + Quoted(object_));
}

std::string Arguments::Kind(Napi::Value value) {
  if (value.IsNull()) return "null";
  if (value.IsUndefined()) return "undefined";
  if (value.IsString()) return "a string";
  if (value.IsNumber()) return "a number";
  if (value.IsBoolean()) return "a boolean";
  if (value.IsFunction()) return "a function";
  if (value.IsTypedArray()) return "another typed array";
  return "another object";
}

void Arguments::Bad(const char* name, const std::string& got, const char* wanted) {
  failure_ = PlainFailure("ARGUMENT", Phrase(), call_, object_,
                          std::string(name) + " is " + got + ", want " + wanted);
}

}  // namespace fairlead
