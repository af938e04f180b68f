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

struct Attachment {
  SharedFd program;
  std::string program_name;
  std::string interface;
  std::optional<std::string> netns;
  uint32_t flags = 0;
  SharedFd link;  // the result

  std::string Phrase() const {
    return "attach program " + Quoted(program_name) + " to " + Quoted(interface);
  }
};

// What the kernel means by the number, which depends on what is on the interface already.
std::string AttachHint(int error, uint32_t flags, int index) {
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
  int fd = bpf_link_create(a.program->number(), static_cast<int>(index), BPF_XDP, &opts);
  if (fd < 0) {
    int error = errno;
    std::string hint = AttachHint(error, a.flags, static_cast<int>(index));
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

}  // namespace

Napi::Value AttachXdp(const Napi::CallbackInfo& info) {
  const std::string none;
  Arguments args(info, "attach program", "bpf_link_create", none);
  auto a = std::make_shared<Attachment>();
  Program* program = args.Handle<Program>(0, "program");
  a->interface = args.Text(1, "interfaceName");
  a->netns = args.TextOrNull(2, "netns");
  a->flags =
      args.Choice(3, "mode", {{"native", XDP_FLAGS_DRV_MODE}, {"generic", XDP_FLAGS_SKB_MODE}});
  if (args.failed()) return args.Reject();
  a->program = program->fd();
  a->program_name = program->name();
  return Start(
      info.Env(), "fairlead.attachXdp",
      [a] { return a->netns ? AttachInThread(*a) : AttachHere(*a); },
      [a](Napi::Env env) { return Link::Make(env, std::move(a->link), a->interface); });
}

}  // namespace fairlead
