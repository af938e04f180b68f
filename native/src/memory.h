// SPDX-License-Identifier: Apache-2.0
// Owners of what the kernel and malloc hand out.
#pragma once

#include <fcntl.h>
#include <napi.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <memory>
#include <utility>

namespace fairlead {

// A file descriptor. Shared by a handle and its running jobs, so close() during a job takes nothing
// away from it.
class Fd {
 public:
  explicit Fd(int number) : number_(number) {}
  ~Fd() {
    if (number_ >= 0) close(number_);
  }
  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;
  int number() const { return number_; }

 private:
  const int number_;
};

using SharedFd = std::shared_ptr<const Fd>;

inline SharedFd Own(int number) { return std::make_shared<const Fd>(number); }

// Bytes that somebody else owns.
struct View {
  const uint8_t* data = nullptr;
  size_t size = 0;
};

inline Napi::Value CopyToJs(Napi::Env env, const uint8_t* data, size_t size) {
  Napi::Uint8Array array = Napi::Uint8Array::New(env, size);
  if (size > 0) memcpy(array.Data(), data, size);
  return array;
}

// Memory that grows in place where it can, and goes to JavaScript without a copy.
class Buffer {
 public:
  Buffer() = default;
  ~Buffer() { free(data_); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  uint8_t* data() const { return data_; }

  // Room for `size` bytes; false when there is no memory.
  bool Reserve(size_t size) {
    if (size <= capacity_) return true;
    size_t wanted = size > 2 * capacity_ ? size : 2 * capacity_;
    void* grown = realloc(data_, wanted);
    if (grown == nullptr) return false;
    data_ = static_cast<uint8_t*>(grown);
    capacity_ = wanted;
    return true;
  }

  bool Assign(View view) {
    if (!Reserve(view.size)) return false;
    if (view.size > 0) memcpy(data_, view.data, view.size);
    return true;
  }

  // Gives the first `size` bytes away; the buffer is empty afterwards.
  Napi::Value Release(Napi::Env env, size_t size) {
    if (size == 0) return Napi::Uint8Array::New(env, 0);
    void* kept = realloc(std::exchange(data_, nullptr), size);
    capacity_ = 0;
    auto release = [](Napi::Env, void* memory) { free(memory); };
    return Napi::Uint8Array::New(env, size, Napi::ArrayBuffer::New(env, kept, size, release), 0);
  }

 private:
  uint8_t* data_ = nullptr;
  size_t capacity_ = 0;
};

}  // namespace fairlead
