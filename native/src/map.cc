// SPDX-License-Identifier: Apache-2.0
#include "map.h"

#include <bpf/libbpf.h>
#include <sys/mman.h>

#include <algorithm>

namespace fairlead {

namespace {

bool PerCpu(uint32_t type) {
  return type == BPF_MAP_TYPE_PERCPU_HASH || type == BPF_MAP_TYPE_PERCPU_ARRAY ||
         type == BPF_MAP_TYPE_LRU_PERCPU_HASH || type == BPF_MAP_TYPE_PERCPU_CGROUP_STORAGE;
}

bool Array(uint32_t type) {
  return type == BPF_MAP_TYPE_ARRAY || type == BPF_MAP_TYPE_PERCPU_ARRAY;
}

Shape ShapeOf(const bpf_map_info& info) {
  uint32_t slot = info.value_size;
  if (PerCpu(info.type)) slot = RoundUp(slot, 8) * libbpf_num_possible_cpus();
  return {info.id,          info.type,      info.key_size, info.value_size,
          info.max_entries, info.map_flags, slot};
}

}  // namespace

std::string StoreHint(const Shape& shape, int error) {
  std::string count = std::to_string(shape.max_entries);
  if (error == E2BIG && Array(shape.type)) return "the index is not below " + count;
  if (error == E2BIG) return "the map is full, it holds " + count;
  if (error == EEXIST) return "the key is there already";
  if (error == ENOENT) return "the key is not there";
  return "";
}

void Map::Define(Napi::Env env, Addon& addon) {
  addon.map = Napi::Persistent(DefineClass(env, "NativeMap",
                                           {
                                               InstanceMethod<&Map::Get>("get"),
                                               InstanceMethod<&Map::Set>("set"),
                                               InstanceMethod<&Map::Delete>("delete"),
                                               InstanceMethod<&Map::NextKey>("nextKey"),
                                               InstanceMethod<&Map::ReadAll>("readAll"),
                                               InstanceMethod<&Map::SetBatch>("setBatch"),
                                               InstanceMethod<&Map::DeleteBatch>("deleteBatch"),
                                               InstanceMethod<&Map::Mmap>("mmap"),
                                               InstanceMethod("pin", &Map::Pin),
                                               InstanceMethod("close", &Map::Close),
                                           }));
}

Map::Map(const Napi::CallbackInfo& info) : Handle(info) {
  if (closed()) return;
  Napi::Env env = info.Env();
  bpf_map_info kernel = {};
  uint32_t size = sizeof kernel;
  if (bpf_obj_get_info_by_fd(fd_->number(), &kernel, &size) < 0) {
    Throw(env,
          SystemFailure(errno, "describe map " + Quoted(name_), "bpf_obj_get_info_by_fd", name_));
    return;
  }
  if (name_.empty()) name_ = kernel.name;
  shape_ = ShapeOf(kernel);
  scratch_.resize(std::max(shape_.slot_size, shape_.key_size));

  Napi::Object facts = Napi::Object::New(env);
  Fact(facts, "id", Napi::Number::New(env, shape_.id));
  Fact(facts, "type", Napi::Number::New(env, shape_.type));
  Fact(facts, "keySize", Napi::Number::New(env, shape_.key_size));
  Fact(facts, "valueSize", Napi::Number::New(env, shape_.value_size));
  Fact(facts, "maxEntries", Napi::Number::New(env, shape_.max_entries));
  Fact(facts, "flags", Napi::Number::New(env, shape_.flags));
  Fact(facts, "name", Napi::String::New(env, kernel.name));
  Napi::Object self = info.This().As<Napi::Object>();
  Fact(self, "info", facts);
  Fact(self, "slotSize", Napi::Number::New(env, shape_.slot_size));
}

Napi::Value Map::Create(const Napi::CallbackInfo& info) {
  const std::string none;
  Arguments unnamed(info, "create map", "bpf_map_create", none);
  std::string name = unnamed.Text(0, "name");
  if (unnamed.failed()) return unnamed.Throw();
  Arguments args(info, "create map", "bpf_map_create", name);
  bpf_map_create_opts opts = {};
  opts.sz = sizeof opts;
  auto type = static_cast<bpf_map_type>(args.Number(1, "type", 1, UINT32_MAX));
  uint32_t key_size = args.Number(2, "keySize", 0, UINT32_MAX);
  uint32_t value_size = args.Number(3, "valueSize", 0, UINT32_MAX);
  uint32_t max_entries = args.Number(4, "maxEntries", 0, UINT32_MAX);
  opts.map_flags = args.Number(5, "flags", 0, UINT32_MAX);
  if (args.failed()) return args.Throw();
  int fd = bpf_map_create(type, name.c_str(), key_size, value_size, max_entries, &opts);
  if (fd < 0) return args.ThrowSystem(errno);
  return Make(info.Env(), Own(fd), name);
}

Napi::Value Map::Get(const Napi::CallbackInfo& info) {
  Arguments args = Call(info, "get element of map", "bpf_map_lookup_elem");
  View key = args.Bytes(0, "key", shape_.key_size);
  if (args.failed()) return args.Throw();
  if (bpf_map_lookup_elem(fd_->number(), key.data, scratch_.data()) < 0) {
    return errno == ENOENT ? info.Env().Null() : args.ThrowSystem(errno);
  }
  return CopyToJs(info.Env(), scratch_.data(), shape_.slot_size);
}

Napi::Value Map::Set(const Napi::CallbackInfo& info) {
  Arguments args = Call(info, "set element of map", "bpf_map_update_elem");
  View key = args.Bytes(0, "key", shape_.key_size);
  View value = args.Bytes(1, "value", shape_.slot_size);
  uint32_t flags = args.Number(2, "flags", BPF_ANY, BPF_EXIST);
  if (args.failed()) return args.Throw();
  if (bpf_map_update_elem(fd_->number(), key.data, value.data, flags) < 0) {
    int error = errno;
    return args.ThrowSystem(error, StoreHint(shape_, error));
  }
  return info.Env().Undefined();
}

Napi::Value Map::Delete(const Napi::CallbackInfo& info) {
  Arguments args = Call(info, "delete element of map", "bpf_map_delete_elem");
  View key = args.Bytes(0, "key", shape_.key_size);
  if (args.failed()) return args.Throw();
  if (bpf_map_delete_elem(fd_->number(), key.data) < 0) {
    int error = errno;
    if (error == ENOENT) return Napi::Boolean::New(info.Env(), false);
    return args.ThrowSystem(error, Array(shape_.type) ? "an array keeps its elements" : "");
  }
  return Napi::Boolean::New(info.Env(), true);
}

Napi::Value Map::NextKey(const Napi::CallbackInfo& info) {
  Arguments args = Call(info, "find next key of map", "bpf_map_get_next_key");
  View key = args.IsNull(0) ? View{} : args.Bytes(0, "key", shape_.key_size);
  if (args.failed()) return args.Throw();
  if (bpf_map_get_next_key(fd_->number(), key.data, scratch_.data()) < 0) {
    return errno == ENOENT ? info.Env().Null() : args.ThrowSystem(errno);
  }
  return CopyToJs(info.Env(), scratch_.data(), shape_.key_size);
}

Napi::Value Map::Mmap(const Napi::CallbackInfo& info) {
  Arguments args = Call(info, "map memory of map", "mmap");
  if (args.failed()) return args.Throw();
  if (shape_.type != BPF_MAP_TYPE_ARRAY || (shape_.flags & BPF_F_MMAPABLE) == 0) {
    return args.ThrowSystem(EINVAL, "it is not an array with BPF_F_MMAPABLE");
  }
  uint64_t size = shape_.max_entries * RoundUp(shape_.value_size, 8);
  uint64_t mapped = RoundUp(size, static_cast<uint64_t>(sysconf(_SC_PAGESIZE)));
  void* memory = mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_SHARED, fd_->number(), 0);
  if (memory == MAP_FAILED) return args.ThrowSystem(errno);
  // The memory holds the map by itself, so it outlives this handle.
  auto release = [mapped](Napi::Env, void* start) { munmap(start, mapped); };
  return Napi::ArrayBuffer::New(info.Env(), memory, size, release);
}

}  // namespace fairlead
