// SPDX-License-Identifier: Apache-2.0
// Checked arguments: the first bad one is remembered, later ones read as zero, the caller looks
// once.
#pragma once

#include <napi.h>

#include <initializer_list>
#include <string>
#include <utility>

#include "error.h"
#include "memory.h"

namespace fairlead {

class Arguments {
 public:
  // `what` and `object` make the phrase of a failure, only put together when there is one.
  Arguments(const Napi::CallbackInfo& info, const char* what, const char* call,
            const std::string& object)
      : info_(info), what_(what), call_(call), object_(object) {}

  View Bytes(size_t index, const char* name);
  View Bytes(size_t index, const char* name, size_t size);
  View BytesOrNull(size_t index, const char* name);
  uint32_t Number(size_t index, const char* name, uint32_t least, uint32_t most);
  bool Boolean(size_t index, const char* name);
  void Function(size_t index, const char* name);
  // The number that belongs to one of a few words.
  uint32_t Choice(size_t index, const char* name,
                  std::initializer_list<std::pair<const char*, uint32_t>> choices);
  std::string Text(size_t index, const char* name);
  std::optional<std::string> TextOrNull(size_t index, const char* name);

  // A handle of class T that is still open; null after a failure.
  template <class T>
  T* Handle(size_t index, const char* name) {
    if (failure_) return nullptr;
    Napi::Value value = info_[index];
    if (!value.IsObject() || !value.As<Napi::Object>().CheckTypeTag(&T::kTag)) {
      Bad(name, Kind(value), (std::string("a ") + T::kKind + " handle").c_str());
      return nullptr;
    }
    T* handle = T::Unwrap(value.As<Napi::Object>());
    if (handle->closed()) {
      Closed(T::kKind);
      return nullptr;
    }
    return handle;
  }

  bool IsNull(size_t index) const { return info_[index].IsNull(); }

  // Marks the call as made on a closed handle.
  void Closed(const char* kind);

  // Marks the call as made at the wrong time.
  void Refuse(int error, const char* hint);

  bool failed() const { return failure_.has_value(); }
  Napi::Value Throw() const { return fairlead::Throw(info_.Env(), *failure_); }
  Napi::Value Reject() const;

  // A failure of the call itself.
  Failure System(int error, const std::string& hint = "") const {
    return SystemFailure(error, Phrase(), call_, object_, hint);
  }
  Napi::Value ThrowSystem(int error, const std::string& hint = "") const {
    return fairlead::Throw(info_.Env(), System(error, hint));
  }
  std::string Phrase() const;

 private:
  static std::string Kind(Napi::Value value);
  void Bad(const char* name, const std::string& got, const char* wanted);

  const Napi::CallbackInfo& info_;
  const char* const what_;
  const char* const call_;
  const std::string& object_;
  Result failure_;
};

}  // namespace fairlead
