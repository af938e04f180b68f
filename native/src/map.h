// SPDX-License-Identifier: Apache-2.0
// NativeMap: bytes in, bytes out. What takes a time that grows with the map is in map_bulk.cc, off
// the main thread.
#pragma once

#include <linux/bpf.h>

#include <vector>

#include "handle.h"

namespace fairlead {

// What a map looks like from user space. Plain data, copied into jobs.
struct Shape {
  uint32_t id = 0;
  uint32_t type = 0;
  uint32_t key_size = 0;
  uint32_t value_size = 0;
  uint32_t max_entries = 0;
  uint32_t flags = 0;
  uint32_t slot_size = 0;  // of one value as user space reads it
};

class Map : public Handle<Map> {
 public:
  static constexpr napi_type_tag kTag = {0x6fd13c6ab9d04a51, 0x8e10a3f5d87c2b04};
  static constexpr const char* kKind = "map";
  static constexpr const char* kPinPhrase = "pin map";
  static Napi::FunctionReference& Class(Addon& addon) { return addon.map; }
  static void Define(Napi::Env env, Addon& addon);
  // createMap of src/dataplane/native.ts.
  static Napi::Value Create(const Napi::CallbackInfo& info);

  explicit Map(const Napi::CallbackInfo& info);

  const Shape& shape() const { return shape_; }

 private:
  Napi::Value Get(const Napi::CallbackInfo& info);
  Napi::Value Set(const Napi::CallbackInfo& info);
  Napi::Value Delete(const Napi::CallbackInfo& info);
  Napi::Value NextKey(const Napi::CallbackInfo& info);
  Napi::Value ReadAll(const Napi::CallbackInfo& info);
  Napi::Value SetBatch(const Napi::CallbackInfo& info);
  Napi::Value DeleteBatch(const Napi::CallbackInfo& info);
  Napi::Value Mmap(const Napi::CallbackInfo& info);

  Shape shape_;
  std::vector<uint8_t> scratch_;  // one value or one key
};

// Why a store failed, in words that know the map.
std::string StoreHint(const Shape& shape, int error);

inline uint64_t RoundUp(uint64_t size, uint64_t step) { return (size + step - 1) / step * step; }

}  // namespace fairlead
