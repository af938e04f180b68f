// SPDX-License-Identifier: Apache-2.0
#include "attach.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_link.h>
#include <net/if.h>
#include <pthread.h>
#include <sched.h>

#include "arguments.h"
#include "job.h"
#include "link.h"
#include "program.h"

namespace fairlead {

namespace {

// Of enum bpf_attach_type, for headers older than Linux 6.6.
constexpr uint32_t kTcxIngress = 46, kTcxEgress = 47;

// BPF_F_BEFORE, likewise: with nothing named it means in front of all.
constexpr uint32_t kInFront = 1u << 3;

struct Attachment {
  SharedFd program;
  std::string program_name;
  std::string interface;
  std::optional<std::string> netns;
  uint32_t hook = BPF_XDP;
  uint32_t flags = 0;
  SharedFd link;  // the result

  std::string Phrase() const {
    return "attach program " + Quoted(program_name) + " to " + Quoted(interface);
  }
};

// EINVAL is what a kernel says of a hook it does not know, and of a program that is not for it.
std::string TcxHint(int error, uint32_t hook, int index) {
  if (error != EINVAL) return "";
  uint32_t flags = 0, count = 0;
  if (bpf_prog_query(index, static_cast<bpf_attach_type>(hook), 0, &flags, nullptr, &count) == 0)
    return "the program is not of type tc";
  return "this kernel has no tcx, which Linux has since 6.6";
}

// What the kernel means by the number, which depends on what is on the interface already.
std::string XdpHint(int error, uint32_t flags, int index) {
  bpf_xdp_query_opts query = {};
  query.sz = sizeof query;
  std::string present = "another XDP program is attached already";
  if (bpf_xdp_query(index, 0, &query) == 0) {
    uint32_t id = query.drv_prog_id != 0 ? query.drv_prog_id : query.skb_prog_id;
    if (id != 0) present += " (id " + std::to_string(id) + ")";
  }
  if (error == EBUSY) return present;
  if (error == EEXIST) return present + ", in the other mode";
  if (flags != XDP_FLAGS_DRV_MODE) return "";
  if (error == EOPNOTSUPP) return "the driver has no native XDP; set xdp: generic";
  if (error == ERANGE) return "the MTU is too large for native XDP without xdp.frags";
  return "";
}

Result AttachHere(Attachment& a) {
  unsigned index = if_nametoindex(a.interface.c_str());
  if (index == 0) {
    std::string hint = errno == ENODEV ? "there is no such interface" : "";
    return SystemFailure(errno, a.Phrase(), "if_nametoindex", a.interface, hint);
  }
  bpf_link_create_opts opts = {};
  opts.sz = sizeof opts;
  opts.flags = a.flags;
  int target = static_cast<int>(index);
  int fd =
      bpf_link_create(a.program->number(), target, static_cast<bpf_attach_type>(a.hook), &opts);
  if (fd < 0) {
    int error = errno;
    std::string hint =
        a.hook == BPF_XDP ? XdpHint(error, a.flags, target) : TcxHint(error, a.hook, target);
    return SystemFailure(error, a.Phrase(), "bpf_link_create", a.interface, hint);
  }
  a.link = Own(fd);
  return std::nullopt;
}

Result AttachThere(Attachment& a) {
  int number = open(a.netns->c_str(), O_RDONLY | O_CLOEXEC);
  const char* call = "open";
  int error = number < 0 ? errno : 0;
  Fd fd(number);
  if (error == 0 && setns(number, CLONE_NEWNET) != 0) {
    call = "setns";
    error = errno;
  }
  if (error == 0) return AttachHere(a);
  return SystemFailure(error, a.Phrase() + " in network namespace " + Quoted(*a.netns), call,
                       *a.netns);
}

struct Visit {
  Attachment* attachment;
  Result result;
};

void* DoVisit(void* pointer) {
  auto* visit = static_cast<Visit*>(pointer);
  visit->result = AttachThere(*visit->attachment);
  return nullptr;
}

// In a thread of its own that ends afterwards: there is no way back that could fail and leave a
// thread of the pool in the wrong namespace.
Result AttachInThread(Attachment& a) {
  Visit visit{&a, std::nullopt};
  pthread_t thread;
  int error = pthread_create(&thread, nullptr, DoVisit, &visit);
  if (error != 0) return SystemFailure(error, a.Phrase(), "pthread_create", a.interface);
  pthread_join(thread, nullptr);
  return std::move(visit.result);
}

// Reads the arguments all kinds have; the fourth says where on the interface.
std::shared_ptr<Attachment> ReadAttachment(Arguments& args) {
  auto a = std::make_shared<Attachment>();
  Program* program = args.Handle<Program>(0, "program");
  a->interface = args.Text(1, "interfaceName");
  a->netns = args.TextOrNull(2, "netns");
  if (args.failed()) return a;
  a->program = program->fd();
  a->program_name = program->name();
  return a;
}

Napi::Value StartAttach(Napi::Env env, const char* name, std::shared_ptr<Attachment> a) {
  return Start(
      env, name, [a] { return a->netns ? AttachInThread(*a) : AttachHere(*a); },
      [a](Napi::Env env) { return Link::Make(env, std::move(a->link), a->interface); });
}

}  // namespace

Napi::Value AttachXdp(const Napi::CallbackInfo& info) {
  const std::string none;
  Arguments args(info, "attach program", "bpf_link_create", none);
  auto a = ReadAttachment(args);
  a->flags =
      args.Choice(3, "mode", {{"native", XDP_FLAGS_DRV_MODE}, {"generic", XDP_FLAGS_SKB_MODE}});
  if (args.failed()) return args.Reject();
  return StartAttach(info.Env(), "fairlead.attachXdp", a);
}

Napi::Value AttachTcx(const Napi::CallbackInfo& info) {
  const std::string none;
  Arguments args(info, "attach program", "bpf_link_create", none);
  auto a = ReadAttachment(args);
  a->hook = args.Choice(3, "direction", {{"ingress", kTcxIngress}, {"egress", kTcxEgress}});
  a->flags = kInFront;
  if (args.failed()) return args.Reject();
  return StartAttach(info.Env(), "fairlead.attachTcx", a);
}

}  // namespace fairlead
