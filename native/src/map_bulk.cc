// SPDX-License-Identifier: Apache-2.0
// Whole maps and batches: BPF_MAP_*_BATCH where the map type has it, one element at a time where
// not.
#include <bpf/bpf.h>
#include <errno.h>

#include <algorithm>

#include "job.h"
#include "map.h"

namespace fairlead {

namespace {

constexpr int kNoBatch = 524;  // ENOTSUPP, in the kernel only
// Elements per system call; the time of a dump does not depend on it, the memory at hand does.
constexpr uint32_t kChunk = 8192;
// A generic batch gives up with EINTR when elements vanish under it too often; as often is it worth
// another try.
constexpr int kRetries = 1000;

// Everything a job needs, on its own.
struct Bulk {
  SharedFd fd;
  std::string name;
  Shape shape;
  Buffer keys;
  Buffer values;
  size_t count = 0;

  const uint8_t* Key(size_t i) const { return keys.data() + i * shape.key_size; }
  const uint8_t* Value(size_t i) const { return values.data() + i * shape.slot_size; }
  uint8_t* Key(size_t i) { return keys.data() + i * shape.key_size; }
  uint8_t* Value(size_t i) { return values.data() + i * shape.slot_size; }
  bool Room(size_t elements) {
    return keys.Reserve(elements * shape.key_size) && values.Reserve(elements * shape.slot_size);
  }
  Failure Failed(const std::string& verb, const char* call, int error) const {
    return SystemFailure(error, verb + " map " + Quoted(name), call, name, StoreHint(shape, error));
  }
};

using SharedBulk = std::shared_ptr<Bulk>;

SharedBulk Gather(const Map& map) {
  auto bulk = std::make_shared<Bulk>();
  bulk->fd = map.fd();
  bulk->name = map.name();
  bulk->shape = map.shape();
  return bulk;
}

// For map types without a batch: small ones, whose keys do not come and go by themselves.
Result ReadOneByOne(Bulk& all) {
  std::vector<uint8_t> key(all.shape.key_size), next(all.shape.key_size);
  int fd = all.fd->number();
  for (uint64_t step = 0; step < all.shape.max_entries; step++) {
    if (bpf_map_get_next_key(fd, step == 0 ? nullptr : key.data(), next.data()) < 0) {
      if (errno == ENOENT) break;
      return all.Failed("read", "bpf_map_get_next_key", errno);
    }
    key.swap(next);
    if (!all.Room(all.count + 1)) return all.Failed("read", "realloc", ENOMEM);
    if (bpf_map_lookup_elem(fd, key.data(), all.Value(all.count)) == 0) {
      std::copy(key.begin(), key.end(), all.Key(all.count));
      all.count++;
    } else if (errno != ENOENT) {
      return all.Failed("read", "bpf_map_lookup_elem", errno);
    }
  }
  return std::nullopt;
}

Result ReadAllOf(Bulk& all) {
  // The position in the map: a bucket number or a key, so as long as the longer of the two.
  size_t width = std::max<size_t>(all.shape.key_size, sizeof(uint32_t));
  std::vector<uint8_t> position(width), after(width);
  bool started = false;
  uint32_t chunk = std::clamp(all.shape.max_entries, 1u, kChunk);
  for (int retries = 0;;) {
    if (!all.Room(all.count + chunk)) return all.Failed("read", "realloc", ENOMEM);
    uint32_t count = chunk;
    int rc =
        bpf_map_lookup_batch(all.fd->number(), started ? position.data() : nullptr, after.data(),
                             all.Key(all.count), all.Value(all.count), &count, nullptr);
    int error = rc < 0 ? errno : 0;
    if (error == kNoBatch && !started) return ReadOneByOne(all);
    if (error == ENOSPC) {
      chunk *= 2;  // one bucket holds more than a chunk
    } else if (error == EINTR && retries < kRetries) {
      retries++;
    } else if (error == 0 || error == ENOENT) {
      all.count += count;
      if (error == ENOENT) return std::nullopt;
      position.swap(after);
      started = true;
    } else {
      return all.Failed("read", "bpf_map_lookup_batch", error);
    }
  }
}

Result StoreAll(Bulk& all) {
  uint32_t done = static_cast<uint32_t>(all.count);
  int fd = all.fd->number();
  const char* call = "bpf_map_update_batch";
  int error = 0;
  if (bpf_map_update_batch(fd, all.Key(0), all.Value(0), &done, nullptr) < 0) error = errno;
  if (error == kNoBatch) {
    call = "bpf_map_update_elem";
    for (done = 0, error = 0; done < all.count && error == 0; done++) {
      if (bpf_map_update_elem(fd, all.Key(done), all.Value(done), BPF_ANY) < 0) error = errno;
    }
    if (error != 0) done--;
  }
  if (error == 0) return std::nullopt;
  std::string part = std::to_string(done) + " of " + std::to_string(all.count);
  return all.Failed("store (stopped after " + part + ") in", call, error);
}

// A key that is gone already is what was wanted, so a batch stopped by one goes on behind it.
Result DeleteAll(Bulk& all) {
  int fd = all.fd->number();
  const char* call = "bpf_map_delete_batch";
  size_t done = 0;
  bool batches = true;
  while (done < all.count) {
    uint32_t count = static_cast<uint32_t>(all.count - done);
    int error = 0;
    if (batches) {
      if (bpf_map_delete_batch(fd, all.Key(done), &count, nullptr) < 0) error = errno;
      if (error == kNoBatch) {
        batches = false;
        call = "bpf_map_delete_elem";
        continue;
      }
    } else {
      count = bpf_map_delete_elem(fd, all.Key(done)) == 0 ? 1 : 0;
      if (count == 0) error = errno;
    }
    if (error != 0 && error != ENOENT) {
      std::string part = std::to_string(done + count) + " of " + std::to_string(all.count);
      std::string verb = "delete (stopped after " + part + ") from map " + Quoted(all.name);
      return SystemFailure(error, verb, call, all.name);
    }
    done += count + (error == ENOENT ? 1 : 0);
  }
  return std::nullopt;
}

}  // namespace

Napi::Value Map::ReadAll(const Napi::CallbackInfo& info) {
  Arguments args = Call(info, "read map", "bpf_map_lookup_batch");
  if (args.failed()) return args.Reject();
  SharedBulk all = Gather(*this);
  return Start(
      info.Env(), "fairlead.readAll", [all] { return ReadAllOf(*all); },
      [all](Napi::Env env) -> Napi::Value {
        Napi::Object result = Napi::Object::New(env);
        result.Set("count", Napi::Number::New(env, static_cast<double>(all->count)));
        result.Set("keys", all->keys.Release(env, all->count * all->shape.key_size));
        result.Set("values", all->values.Release(env, all->count * all->shape.slot_size));
        return result;
      });
}

Napi::Value Map::SetBatch(const Napi::CallbackInfo& info) {
  Arguments args = Call(info, "store in map", "bpf_map_update_batch");
  size_t count = args.Number(0, "count", 0, UINT32_MAX);
  View keys = args.Bytes(1, "keys", count * shape_.key_size);
  View values = args.Bytes(2, "values", count * shape_.slot_size);
  if (args.failed()) return args.Reject();
  SharedBulk all = Gather(*this);
  // Copied: the caller may write to its arrays, or transfer them, while the job runs.
  if (!all->keys.Assign(keys) || !all->values.Assign(values)) {
    return Rejected(info.Env(), args.System(ENOMEM));
  }
  all->count = count;
  return Start(info.Env(), "fairlead.setBatch", [all] { return StoreAll(*all); });
}

Napi::Value Map::DeleteBatch(const Napi::CallbackInfo& info) {
  Arguments args = Call(info, "delete from map", "bpf_map_delete_batch");
  size_t count = args.Number(0, "count", 0, UINT32_MAX);
  View keys = args.Bytes(1, "keys", count * shape_.key_size);
  if (args.failed()) return args.Reject();
  SharedBulk all = Gather(*this);
  if (!all->keys.Assign(keys)) return Rejected(info.Env(), args.System(ENOMEM));
  all->count = count;
  return Start(info.Env(), "fairlead.deleteBatch", [all] { return DeleteAll(*all); });
}

}  // namespace fairlead
