// SPDX-License-Identifier: Apache-2.0
#include "clsact.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <limits.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <string.h>
#include <sys/socket.h>

#include "arguments.h"
#include "program.h"

namespace fairlead {

namespace {

// Behind filters that somebody gave a low number on purpose, before those that were given none
// (49152 and down).
constexpr uint32_t kPriority = 250;

constexpr uint32_t kClsact = 0xffff0000;  // the handle of clsact, and of ingress, which is older

// Which filter of which interface; the first arguments of all that is here.
struct Place {
  bpf_tc_hook hook = {};
  uint32_t handle = 0;

  bpf_tc_opts Opts() const {
    bpf_tc_opts opts = {};
    opts.sz = sizeof opts;
    opts.handle = handle;
    opts.priority = kPriority;
    return opts;
  }
};

Place ReadPlace(Arguments& args, size_t first) {
  Place place;
  place.hook.sz = sizeof place.hook;
  place.hook.ifindex = static_cast<int>(args.Number(first, "interfaceIndex", 1, INT_MAX));
  place.hook.attach_point = static_cast<bpf_tc_attach_point>(args.Choice(
      first + 1, "direction", {{"ingress", BPF_TC_INGRESS}, {"egress", BPF_TC_EGRESS}}));
  place.handle = args.Number(first + 2, "handle", 1, UINT32_MAX);
  return place;
}

struct Request {
  nlmsghdr header;
  tcmsg tc;
};

// Asks rtnetlink for what is on an interface; `visit` says of each answer whether that was enough.
// 0 or an errno.
template <class Visit>
int Ask(uint16_t type, int index, uint32_t parent, Visit visit) {
  Fd fd(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
  if (fd.number() < 0) return errno;
  Request request = {};
  request.header.nlmsg_len = sizeof request;
  request.header.nlmsg_type = type;
  request.header.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
  request.tc.tcm_family = AF_UNSPEC;
  request.tc.tcm_ifindex = index;
  request.tc.tcm_parent = parent;
  if (send(fd.number(), &request, sizeof request, 0) < 0) return errno;
  alignas(nlmsghdr) char answer[32768];
  for (;;) {
    ssize_t size = recv(fd.number(), answer, sizeof answer, 0);
    if (size < 0 && errno == EINTR) continue;
    if (size < 0) return errno;
    auto left = static_cast<uint32_t>(size);
    for (auto* each = reinterpret_cast<nlmsghdr*>(answer); NLMSG_OK(each, left);
         each = NLMSG_NEXT(each, left)) {
      if (each->nlmsg_type == NLMSG_DONE) return 0;
      if (each->nlmsg_type == NLMSG_ERROR) return -static_cast<nlmsgerr*>(NLMSG_DATA(each))->error;
      if (visit(each)) return 0;
    }
  }
}

// The kind of the qdisc that filters on ingress and egress belong to; empty without one.
int QdiscKind(int index, std::string* kind) {
  return Ask(RTM_GETQDISC, index, 0, [&](nlmsghdr* each) {
    auto* tc = static_cast<tcmsg*>(NLMSG_DATA(each));
    if (tc->tcm_ifindex != index || tc->tcm_handle != kClsact) return false;
    int left = static_cast<int>(TCA_PAYLOAD(each));
    for (rtattr* at = TCA_RTA(tc); RTA_OK(at, left); at = RTA_NEXT(at, left))
      if (at->rta_type == TCA_KIND) *kind = static_cast<const char*>(RTA_DATA(at));
    return true;
  });
}

int HasFilters(int index, bool* found) {
  for (uint32_t minor : {TC_H_MIN_INGRESS, TC_H_MIN_EGRESS}) {
    int error = Ask(RTM_GETTFILTER, index, TC_H_MAKE(TC_H_CLSACT, minor),
                    [&](nlmsghdr* each) { return *found = each->nlmsg_type == RTM_NEWTFILTER; });
    if (error != 0 || *found) return error;
  }
  return 0;
}

// What is said where there is no filter: no such filter, no clsact, no interface.
bool IsNone(int error) { return error == -ENOENT || error == -EINVAL || error == -ENODEV; }

}  // namespace

Napi::Value AttachClsact(const Napi::CallbackInfo& info) {
  const std::string none;
  Arguments unnamed(info, "attach program", "bpf_tc_attach", none);
  Program* program = unnamed.Handle<Program>(0, "program");
  Place place = ReadPlace(unnamed, 1);
  bool replace = unnamed.Boolean(4, "replace");
  if (unnamed.failed()) return unnamed.Throw();
  char name[IF_NAMESIZE] = "?";
  if_indextoname(static_cast<unsigned>(place.hook.ifindex), name);
  std::string phrase = "attach program " + Quoted(program->name()) + " to " + Quoted(name);
  auto refuse = [&](int error, const char* call, const char* hint = "") {
    return Throw(info.Env(), SystemFailure(error, phrase, call, name, hint));
  };
  std::string kind;
  if (int error = QdiscKind(place.hook.ifindex, &kind)) return refuse(error, "RTM_GETQDISC");
  if (!kind.empty() && kind != "clsact")
    return refuse(EEXIST, "RTM_GETQDISC", "there is an ingress qdisc, want clsact in its place");
  bool made = kind.empty();
  if (made) {
    int error = bpf_tc_hook_create(&place.hook);
    if (error == -EEXIST) made = false;  // by another since
    if (error != 0 && error != -EEXIST) return refuse(error, "bpf_tc_hook_create");
  }
  bpf_tc_opts opts = place.Opts();
  opts.prog_fd = program->fd()->number();
  opts.flags = replace ? BPF_TC_F_REPLACE : 0;
  if (int error = bpf_tc_attach(&place.hook, &opts))
    return refuse(error, "bpf_tc_attach",
                  error == -EEXIST ? "another filter has the same priority and handle" : "");
  return Napi::Boolean::New(info.Env(), made);
}

Napi::Value ClsactProgramId(const Napi::CallbackInfo& info) {
  const std::string none;
  Arguments args(info, "find the program of a filter", "bpf_tc_query", none);
  Place place = ReadPlace(args, 0);
  if (args.failed()) return args.Throw();
  bpf_tc_opts opts = place.Opts();
  int error = bpf_tc_query(&place.hook, &opts);
  if (error != 0 && !IsNone(error)) return args.ThrowSystem(error);
  return Napi::Number::New(info.Env(), error == 0 ? opts.prog_id : 0);
}

Napi::Value ClsactProgram(const Napi::CallbackInfo& info) {
  const std::string none;
  Arguments args(info, "find the program of a filter", "bpf_tc_query", none);
  Place place = ReadPlace(args, 0);
  if (args.failed()) return args.Throw();
  bpf_tc_opts opts = place.Opts();
  int error = bpf_tc_query(&place.hook, &opts);
  if (IsNone(error)) return info.Env().Null();
  if (error != 0) return args.ThrowSystem(error);
  int number = bpf_prog_get_fd_by_id(opts.prog_id);
  if (number < 0 && errno == ENOENT) return info.Env().Null();
  if (number < 0) return args.ThrowSystem(errno);
  return Program::Make(info.Env(), Own(number), "");
}

Napi::Value DetachClsact(const Napi::CallbackInfo& info) {
  const std::string none;
  Arguments args(info, "take off a filter", "bpf_tc_detach", none);
  Place place = ReadPlace(args, 0);
  if (args.failed()) return args.Throw();
  bpf_tc_opts opts = place.Opts();
  int error = bpf_tc_detach(&place.hook, &opts);
  if (error != 0 && !IsNone(error)) return args.ThrowSystem(error);
  return info.Env().Undefined();
}

Napi::Value RemoveClsact(const Napi::CallbackInfo& info) {
  const std::string none;
  Arguments args(info, "remove a clsact qdisc", "bpf_tc_hook_destroy", none);
  auto index = static_cast<int>(args.Number(0, "interfaceIndex", 1, INT_MAX));
  if (args.failed()) return args.Throw();
  std::string kind;
  bool used = false;
  if (int error = QdiscKind(index, &kind)) return args.ThrowSystem(error);
  if (kind != "clsact") return Napi::Boolean::New(info.Env(), false);
  if (int error = HasFilters(index, &used)) return args.ThrowSystem(error);
  if (used) return Napi::Boolean::New(info.Env(), false);
  bpf_tc_hook hook = {};
  hook.sz = sizeof hook;
  hook.ifindex = index;
  hook.attach_point = static_cast<bpf_tc_attach_point>(BPF_TC_INGRESS | BPF_TC_EGRESS);
  int error = bpf_tc_hook_destroy(&hook);
  if (error != 0 && !IsNone(error)) return args.ThrowSystem(error);
  return Napi::Boolean::New(info.Env(), error == 0);
}

}  // namespace fairlead
