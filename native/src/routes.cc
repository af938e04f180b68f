// SPDX-License-Identifier: Apache-2.0
#include "routes.h"

#include <errno.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <vector>

#include "arguments.h"
#include "job.h"

namespace fairlead {

namespace {

constexpr const char* kRoutesPhrase = "ask the kernel about routes";
constexpr size_t kAnswerBytes = 1 << 16;  // more than the kernel puts into one datagram
constexpr int kAnswerSeconds = 5;         // it answers at once, or something is wrong

struct Question {
  std::vector<uint8_t> message;
  std::vector<uint8_t> answer;  // messages one after the other, without the last that ends them
};

// Adds what one datagram holds to the answer. True when nothing more is to come; `error` is then
// what the kernel said, 0 when all went well.
bool TakeAnswer(const std::vector<uint8_t>& datagram, size_t size, Question& q, int* error) {
  auto left = static_cast<uint32_t>(size);
  for (const auto* header = reinterpret_cast<const nlmsghdr*>(datagram.data());
       NLMSG_OK(header, left); header = NLMSG_NEXT(header, left)) {
    if (header->nlmsg_type == NLMSG_ERROR) {
      bool whole = header->nlmsg_len >= NLMSG_LENGTH(sizeof(nlmsgerr));
      *error = whole ? -static_cast<const nlmsgerr*>(NLMSG_DATA(header))->error : EBADMSG;
      return true;
    }
    if (header->nlmsg_type == NLMSG_DONE) {
      // A dump that failed on its way says so here.
      bool has = header->nlmsg_len >= NLMSG_LENGTH(sizeof(int));
      if (has && *static_cast<const int*>(NLMSG_DATA(header)) != 0)
        *error = -*static_cast<const int*>(NLMSG_DATA(header));
      return true;
    }
    if (header->nlmsg_flags & NLM_F_DUMP_INTR) *error = EINTR;  // it changed while it was read
    const auto* bytes = reinterpret_cast<const uint8_t*>(header);
    q.answer.insert(q.answer.end(), bytes, bytes + NLMSG_ALIGN(header->nlmsg_len));
  }
  return false;
}

Result DoAskRoutes(Question& q) {
  Fd fd(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
  const std::string none;
  auto fail = [&](int error, const char* call) {
    return SystemFailure(error, kRoutesPhrase, call, none);
  };
  if (fd.number() < 0) return fail(errno, "socket");
  // So that the kernel picks a dump's routes itself: there may be a million others.
  int on = 1;
  if (setsockopt(fd.number(), SOL_NETLINK, NETLINK_GET_STRICT_CHK, &on, sizeof on) < 0)
    return fail(errno, "setsockopt");
  timeval limit = {kAnswerSeconds, 0};
  if (setsockopt(fd.number(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) < 0)
    return fail(errno, "setsockopt");
  sockaddr_nl kernel = {};
  kernel.nl_family = AF_NETLINK;
  if (sendto(fd.number(), q.message.data(), q.message.size(), 0,
             reinterpret_cast<sockaddr*>(&kernel), sizeof kernel) < 0)
    return fail(errno, "sendto");
  std::vector<uint8_t> datagram(kAnswerBytes);
  int error = 0;
  for (bool done = false; !done;) {
    sockaddr_nl from = {};
    socklen_t from_size = sizeof from;
    ssize_t got = recvfrom(fd.number(), datagram.data(), datagram.size(), MSG_TRUNC,
                           reinterpret_cast<sockaddr*>(&from), &from_size);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return fail(errno, "recvfrom");
    if (from.nl_pid != 0) continue;  // not the kernel
    if (static_cast<size_t>(got) > datagram.size()) return fail(EMSGSIZE, "recvfrom");
    done = TakeAnswer(datagram, static_cast<size_t>(got), q, &error);
  }
  if (error != 0) return fail(error, "rtnetlink");
  return std::nullopt;
}

}  // namespace

Napi::Value AskRoutes(const Napi::CallbackInfo& info) {
  const std::string none;
  Arguments args(info, kRoutesPhrase, "rtnetlink", none);
  View message = args.Bytes(0, "message");
  // The kernel has no answer to what is no message.
  uint32_t length = 0;
  if (message.size >= sizeof(nlmsghdr)) memcpy(&length, message.data, sizeof length);
  if (length < sizeof(nlmsghdr) || length != message.size)
    args.Refuse(EINVAL, "it is not as long as its header says");
  if (args.failed()) return args.Reject();
  auto q = std::make_shared<Question>();
  q->message.assign(message.data, message.data + message.size);
  return Start(
      info.Env(), "fairlead.askRoutes", [q] { return DoAskRoutes(*q); },
      [q](Napi::Env env) -> Napi::Value {
        Napi::Uint8Array answer = Napi::Uint8Array::New(env, q->answer.size());
        if (!q->answer.empty()) memcpy(answer.Data(), q->answer.data(), q->answer.size());
        return answer;
      });
}

}  // namespace fairlead
