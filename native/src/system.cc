// SPDX-License-Identifier: Apache-2.0
#include "system.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <limits.h>
#include <linux/membarrier.h>
#include <net/if.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <time.h>

#include "arguments.h"
#include "job.h"

namespace fairlead {

namespace {

constexpr const char* kWait = "wait for a grace period";

// An update of a map of maps returns only after a grace period, so that the old inner map is out of
// use.
Result WaitByMapOfMaps() {
  Fd inner(bpf_map_create(BPF_MAP_TYPE_ARRAY, "wait_inner", 4, 4, 1, nullptr));
  if (inner.number() < 0) return SystemFailure(errno, kWait, "bpf_map_create", "wait_inner");
  bpf_map_create_opts opts = {};
  opts.sz = sizeof opts;
  opts.inner_map_fd = static_cast<uint32_t>(inner.number());
  Fd outer(bpf_map_create(BPF_MAP_TYPE_ARRAY_OF_MAPS, "wait_outer", 4, 4, 1, &opts));
  if (outer.number() < 0) return SystemFailure(errno, kWait, "bpf_map_create", "wait_outer");
  uint32_t key = 0;
  int value = inner.number();
  if (bpf_map_update_elem(outer.number(), &key, &value, BPF_ANY) < 0) {
    return SystemFailure(errno, kWait, "bpf_map_update_elem", "wait_outer");
  }
  return std::nullopt;
}

// The global barrier of membarrier(2) is synchronize_rcu() in the kernel; it is refused where CPUs
// run without a tick (nohz_full), and may be configured away.
Result Wait() {
  if (syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) == 0) return std::nullopt;
  if (errno == EINVAL || errno == ENOSYS) return WaitByMapOfMaps();
  return SystemFailure(errno, kWait, "membarrier", "");
}

}  // namespace

Napi::Value Synchronize(const Napi::CallbackInfo& info) {
  return Start(info.Env(), "fairlead.synchronize", Wait);
}

// The coarse clock moves once per tick, so its resolution is the tick.
Napi::Value TickNs(const Napi::CallbackInfo& info) {
  timespec tick = {};
  if (clock_getres(CLOCK_MONOTONIC_COARSE, &tick) < 0) {
    return Throw(info.Env(), SystemFailure(errno, "read the length of a tick", "clock_getres", ""));
  }
  return Napi::Number::New(info.Env(), static_cast<double>(tick.tv_nsec));
}

Napi::Value PossibleCpus(const Napi::CallbackInfo& info) {
  int count = libbpf_num_possible_cpus();
  if (count < 0) {
    return Throw(info.Env(),
                 SystemFailure(count, "count possible CPUs", "libbpf_num_possible_cpus", ""));
  }
  return Napi::Number::New(info.Env(), count);
}

Napi::Value TryLock(const Napi::CallbackInfo& info) {
  const std::string none;
  Arguments args(info, "lock a file", "flock", none);
  uint32_t fd = args.Number(0, "fd", 0, INT_MAX);
  if (args.failed()) return args.Throw();
  if (flock(static_cast<int>(fd), LOCK_EX | LOCK_NB) == 0)
    return Napi::Boolean::New(info.Env(), true);
  if (errno == EWOULDBLOCK) return Napi::Boolean::New(info.Env(), false);
  return Throw(info.Env(), SystemFailure(errno, "lock a file", "flock", none));
}

Napi::Value PeerUser(const Napi::CallbackInfo& info) {
  const std::string none;
  Arguments args(info, "ask who is connected", "getsockopt", none);
  uint32_t fd = args.Number(0, "fd", 0, INT_MAX);
  if (args.failed()) return args.Throw();
  ucred peer = {};
  socklen_t size = sizeof peer;
  if (getsockopt(static_cast<int>(fd), SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0)
    return Throw(info.Env(), SystemFailure(errno, "ask who is connected", "getsockopt", none));
  return Napi::Number::New(info.Env(), peer.uid);
}

Napi::Value SendDatagram(const Napi::CallbackInfo& info) {
  const std::string none;
  Arguments unnamed(info, "send a datagram", "sendto", none);
  std::string path = unnamed.Text(0, "path");
  std::string text = unnamed.Text(1, "text");
  if (unnamed.failed()) return unnamed.Throw();
  Arguments args(info, "send a datagram", "sendto", path);
  sockaddr_un to = {};
  if (path.empty() || path.size() >= sizeof to.sun_path) return args.ThrowSystem(ENAMETOOLONG);
  to.sun_family = AF_UNIX;
  memcpy(to.sun_path, path.data(), path.size());
  if (path[0] == '@') to.sun_path[0] = 0;  // the abstract namespace, as systemd writes it
  auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.size());
  Fd fd(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (fd.number() < 0) return args.ThrowSystem(errno);
  auto* address = reinterpret_cast<sockaddr*>(&to);
  if (sendto(fd.number(), text.data(), text.size(), MSG_NOSIGNAL, address, size) < 0)
    return args.ThrowSystem(errno);
  return info.Env().Undefined();
}

Napi::Value InterfaceIndex(const Napi::CallbackInfo& info) {
  const std::string none;
  Arguments args(info, "find interface", "if_nametoindex", none);
  std::string name = args.Text(0, "name");
  if (args.failed()) return args.Throw();
  return Napi::Number::New(info.Env(), if_nametoindex(name.c_str()));
}

}  // namespace fairlead
