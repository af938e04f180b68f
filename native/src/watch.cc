// SPDX-License-Identifier: Apache-2.0
#include "watch.h"

#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <string.h>
#include <sys/socket.h>
#include <uv.h>

#include <vector>

namespace fairlead {

namespace {

// Bits of NetworkChange in src/dataplane/native.ts.
enum Change : uint32_t { kLink = 1, kAddress = 2, kRoute = 4, kNeighbour = 8, kOverrun = 16 };

// NeighbourEvents of src/dataplane/native.ts reads this layout.
struct NeighbourRecord {
  uint32_t interface;
  uint16_t state;  // NUD_*, 0 when it is gone
  uint8_t family;
  uint8_t mac_size;
  uint8_t address[16];
  uint8_t mac[6];
  uint8_t pad[2];
};
static_assert(sizeof(NeighbourRecord) == 32, "as NeighbourEvents reads it");

constexpr const char* kWatchPhrase = "watch the network";
constexpr int kQueueBytes = 2 << 20;  // the kernel doubles it: some 5000 events
constexpr int kReadsPerTurn =
    512;  // under a millisecond; the rest comes in the next turn of the loop
constexpr int kDrainMost = 1 << 17;  // more than the queue can hold
constexpr size_t kMessageBytes = 1 << 16;

constexpr rtnetlink_groups kGroups[] = {
    RTNLGRP_LINK,        RTNLGRP_NEIGH,      RTNLGRP_IPV4_IFADDR,
    RTNLGRP_IPV6_IFADDR, RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV6_ROUTE,
    RTNLGRP_IPV4_RULE,   RTNLGRP_IPV6_RULE,  RTNLGRP_NEXTHOP,
};

// What one turn of the loop has read.
struct Batch {
  uint32_t changed = 0;
  std::vector<NeighbourRecord> neighbours;
};

void AddNeighbour(const nlmsghdr* header, Batch* batch) {
  if (header->nlmsg_len < NLMSG_LENGTH(sizeof(ndmsg))) return;
  const auto* message = static_cast<const ndmsg*>(NLMSG_DATA(header));
  size_t size = message->ndm_family == AF_INET ? 4 : message->ndm_family == AF_INET6 ? 16 : 0;
  if (size == 0) return;  // a bridge has learnt an address
  NeighbourRecord record = {};
  record.interface = static_cast<uint32_t>(message->ndm_ifindex);
  record.state = header->nlmsg_type == RTM_DELNEIGH ? 0 : message->ndm_state;
  record.family = message->ndm_family;
  size_t left = header->nlmsg_len - NLMSG_LENGTH(sizeof(ndmsg));
  const auto* bytes = reinterpret_cast<const uint8_t*>(message) + NLMSG_ALIGN(sizeof(ndmsg));
  for (const auto* attribute = reinterpret_cast<const rtattr*>(bytes); RTA_OK(attribute, left);
       attribute = RTA_NEXT(attribute, left)) {
    size_t payload = RTA_PAYLOAD(attribute);
    if (attribute->rta_type == NDA_DST && payload == size) {
      memcpy(record.address, RTA_DATA(attribute), size);
    } else if (attribute->rta_type == NDA_LLADDR && payload == sizeof record.mac) {
      memcpy(record.mac, RTA_DATA(attribute), sizeof record.mac);
      record.mac_size = sizeof record.mac;
    }
  }
  batch->changed |= kNeighbour;
  batch->neighbours.push_back(record);
}

void AddMessage(const nlmsghdr* header, Batch* batch) {
  switch (header->nlmsg_type) {
    case RTM_NEWLINK:
    case RTM_DELLINK:
      // Of a family: the state of a bridge port or the like, not of the link.
      if (header->nlmsg_len >= NLMSG_LENGTH(sizeof(ifinfomsg)) &&
          static_cast<const ifinfomsg*>(NLMSG_DATA(header))->ifi_family == AF_UNSPEC) {
        batch->changed |= kLink;
      }
      break;
    case RTM_NEWADDR:
    case RTM_DELADDR:
      batch->changed |= kAddress;
      break;
    case RTM_NEWROUTE:
    case RTM_DELROUTE:
    case RTM_NEWRULE:
    case RTM_DELRULE:
    case RTM_NEWNEXTHOP:
    case RTM_DELNEXTHOP:
      batch->changed |= kRoute;
      break;
    case RTM_NEWNEIGH:
    case RTM_DELNEIGH:
      AddNeighbour(header, batch);
      break;
    case NLMSG_OVERRUN:
      batch->changed |= kOverrun;
      break;
  }
}

// Reads what is there, at most `most` messages. False when the kernel has thrown messages away.
bool ReadMessages(int fd, int most, std::vector<uint8_t>* buffer, Batch* batch) {
  for (int reads = 0; reads < most; reads++) {
    sockaddr_nl from = {};
    socklen_t from_size = sizeof from;
    ssize_t got = recvfrom(fd, buffer->data(), buffer->size(), MSG_DONTWAIT | MSG_TRUNC,
                           reinterpret_cast<sockaddr*>(&from), &from_size);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0)
      return errno == EAGAIN;  // anything else: whatever it was, something may be missing
    if (static_cast<size_t>(got) > buffer->size()) return false;
    if (from.nl_pid != 0) continue;  // not the kernel
    auto left = static_cast<uint32_t>(got);
    for (auto* header = reinterpret_cast<nlmsghdr*>(buffer->data()); NLMSG_OK(header, left);
         header = NLMSG_NEXT(header, left)) {
      AddMessage(header, batch);
    }
  }
  return true;
}

}  // namespace

// Owned by the loop from uv_poll_init to the end of uv_close.
struct Watcher {
  uv_poll_t poll;
  SharedFd fd;
  Napi::Env env;
  Napi::FunctionReference listener;
  Napi::AsyncContext context;
  std::vector<uint8_t> buffer = std::vector<uint8_t>(kMessageBytes);
  napi_async_cleanup_hook_handle hook = nullptr;

  Watcher(Napi::Env environment, SharedFd socket, Napi::Function function)
      : fd(std::move(socket)),
        env(environment),
        listener(Napi::Persistent(function)),
        context(environment, "fairlead.watch") {}

  void Start() {
    uv_poll_start(&poll, UV_READABLE, [](uv_poll_t* handle, int status, int) {
      static_cast<Watcher*>(handle->data)->Read(status);
    });
  }

  void Read(int status) {
    Batch batch;
    bool whole = ReadMessages(fd->number(), kReadsPerTurn, &buffer, &batch);
    // After an overrun the kernel queues nothing, and says nothing of it, until the queue is empty:
    // what is asked anew before that could miss a change.
    if (!whole || batch.changed & kOverrun) {
      batch = {};
      for (int rest = 64; rest > 0 && !ReadMessages(fd->number(), kDrainMost, &buffer, &batch);
           rest--)
        batch = {};
      batch = {kOverrun, {}};
    }
    if (status < 0)
      Start();  // the loop takes the error of an overrun for a broken descriptor and stops polling
    if (batch.changed != 0) Deliver(batch);
  }

  void Deliver(const Batch& batch) {
    Napi::HandleScope scope(env);
    size_t size = batch.neighbours.size() * sizeof(NeighbourRecord);
    Napi::Uint8Array records = Napi::Uint8Array::New(env, size);
    if (size > 0) memcpy(records.Data(), batch.neighbours.data(), size);
    listener.MakeCallback(env.Global(), {Napi::Number::New(env, batch.changed), records}, context);
    if (env.IsExceptionPending())
      napi_fatal_exception(env, env.GetAndClearPendingException().Value());
  }

  void Close() {
    uv_close(reinterpret_cast<uv_handle_t*>(&poll), [](uv_handle_t* handle) {
      auto* self = static_cast<Watcher*>(handle->data);
      napi_async_cleanup_hook_handle last = self->hook;
      delete self;
      napi_remove_async_cleanup_hook(last);
    });
  }
};

void Watch::Define(Napi::Env env, Addon& addon) {
  addon.watch =
      Napi::Persistent(DefineClass(env, "NativeWatch", {InstanceMethod<&Watch::Close>("close")}));
}

Napi::Value Watch::Open(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const std::string none;
  Arguments args(info, kWatchPhrase, "socket", none);
  args.Function(0, "listener");
  if (args.failed()) return args.Throw();
  auto fd = std::make_shared<Fd>(
      socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE));
  if (fd->number() < 0) return args.ThrowSystem(errno);
  auto set = [&](int level, int option, int value) {
    return setsockopt(fd->number(), level, option, &value, sizeof value) == 0;
  };
  // Forced past the limit for everybody, where we may. A smaller queue overruns sooner, no more.
  if (!set(SOL_SOCKET, SO_RCVBUFFORCE, kQueueBytes)) set(SOL_SOCKET, SO_RCVBUF, kQueueBytes);
  sockaddr_nl local = {};
  local.nl_family = AF_NETLINK;
  if (bind(fd->number(), reinterpret_cast<sockaddr*>(&local), sizeof local) < 0) {
    return fairlead::Throw(env, SystemFailure(errno, kWatchPhrase, "bind", none));
  }
  for (rtnetlink_groups group : kGroups) {
    if (!set(SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, group)) {
      return fairlead::Throw(env, SystemFailure(errno, kWatchPhrase, "setsockopt", none));
    }
  }
  uv_loop_t* loop = nullptr;
  napi_get_uv_event_loop(env, &loop);
  auto watcher = std::make_unique<Watcher>(env, fd, info[0].As<Napi::Function>());
  if (int error = uv_poll_init(loop, &watcher->poll, fd->number())) {
    return fairlead::Throw(env, SystemFailure(error, kWatchPhrase, "uv_poll_init", none));
  }
  Watcher* open = watcher.release();
  open->poll.data = open;
  uv_unref(
      reinterpret_cast<uv_handle_t*>(&open->poll));  // a listener does not keep the process alive
  napi_add_async_cleanup_hook(
      env, [](napi_async_cleanup_hook_handle, void* data) { static_cast<Watcher*>(data)->Close(); },
      open, &open->hook);
  open->Start();
  Napi::Value made = Make(env, fd, "");
  if (made.IsEmpty()) {
    open->Close();
    return made;
  }
  Watch* watch = Unwrap(made.As<Napi::Object>());
  watch->watcher_ = open;
  return made;
}

Napi::Value Watch::Close(const Napi::CallbackInfo& info) {
  if (!closed()) watcher_->Close();
  fd_.reset();
  return info.Env().Undefined();
}

}  // namespace fairlead
