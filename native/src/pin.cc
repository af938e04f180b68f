// SPDX-License-Identifier: Apache-2.0
#include "pin.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <linux/magic.h>
#include <sys/mount.h>
#include <sys/vfs.h>

#include "arguments.h"
#include "link.h"
#include "map.h"
#include "program.h"

namespace fairlead {

namespace {

// What a descriptor of bpf(2) is; the kernel says so only in the name of the file.
std::string KindOf(const Fd& fd) {
  char target[64];
  std::string path = "/proc/self/fd/" + std::to_string(fd.number());
  ssize_t size = readlink(path.c_str(), target, sizeof target);
  std::string kind(target, size > 0 ? static_cast<size_t>(size) : 0);
  if (kind == "anon_inode:bpf-map") return Map::kKind;
  if (kind == "anon_inode:bpf-prog") return Program::kKind;
  if (kind == "anon_inode:bpf_link" || kind == "anon_inode:bpf-link") return Link::kKind;
  return kind;
}

template <class T>
Napi::Value Open(const Napi::CallbackInfo& info, const char* what) {
  const std::string none;
  Arguments unnamed(info, what, "bpf_obj_get", none);
  std::string path = unnamed.Text(0, "pin");
  if (unnamed.failed()) return unnamed.Throw();
  Arguments args(info, what, "bpf_obj_get", path);
  int number = bpf_obj_get(path.c_str());
  if (number < 0) {
    int error = errno;
    bool plain = error == EPERM && !OnBpffs(path);
    return args.ThrowSystem(error, plain ? "the path is not on a bpffs" : "");
  }
  SharedFd fd = Own(number);
  std::string kind = KindOf(*fd);
  if (kind != T::kKind) {
    return args.ThrowSystem(EINVAL, "the pin is a " + kind + ", want a " + T::kKind);
  }
  // Maps and programs bring the name they have in the kernel; a link has none.
  return T::Make(info.Env(), std::move(fd), std::is_same_v<T, Link> ? path : "");
}

}  // namespace

bool OnBpffs(const std::string& path) {
  struct statfs fs;
  return statfs(path.c_str(), &fs) == 0 && fs.f_type == BPF_FS_MAGIC;
}

Failure PinFailure(int error, const std::string& what, const std::string& path) {
  size_t slash = path.rfind('/');
  std::string directory = slash == std::string::npos ? "." : path.substr(0, slash + 1);
  std::string hint;
  if (error == EPERM && !OnBpffs(directory)) hint = "the directory is not on a bpffs";
  if (error == ENOENT) hint = "the directory does not exist";
  if (error == EEXIST) hint = "the path is taken already";
  return SystemFailure(error, what + " at " + Quoted(path), "bpf_obj_pin", path, hint);
}

Napi::Value OpenMap(const Napi::CallbackInfo& info) { return Open<Map>(info, "open map"); }

Napi::Value OpenProgram(const Napi::CallbackInfo& info) {
  return Open<Program>(info, "open program");
}

Napi::Value OpenLink(const Napi::CallbackInfo& info) { return Open<Link>(info, "open link"); }

Napi::Value MountBpffs(const Napi::CallbackInfo& info) {
  const std::string none;
  Arguments unnamed(info, "mount bpffs", "mount", none);
  std::string path = unnamed.Text(0, "path");
  if (unnamed.failed()) return unnamed.Throw();
  if (OnBpffs(path)) return Napi::Boolean::New(info.Env(), false);
  // The same flags and mode as systemd's.
  unsigned long flags = MS_NOSUID | MS_NODEV | MS_NOEXEC;
  if (mount("bpf", path.c_str(), "bpf", flags, "mode=0700") != 0) {
    int error = errno;
    Arguments args(info, "mount bpffs at", "mount", path);
    return args.ThrowSystem(error);
  }
  return Napi::Boolean::New(info.Env(), true);
}

}  // namespace fairlead
