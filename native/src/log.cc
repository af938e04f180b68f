// SPDX-License-Identifier: Apache-2.0
#include "log.h"

#include <bpf/libbpf.h>
#include <stdarg.h>
#include <stdio.h>

#include <algorithm>
#include <memory>
#include <mutex>
#include <vector>

#include "arguments.h"

namespace fairlead {

namespace {

constexpr size_t kQueue = 1024;  // messages under way to a listener; more are dropped

struct Message {
  const char* level;
  std::string text;
};

std::mutex lock;  // guards what follows, and Addon::log
std::vector<Addon*> listeners;
int users = 0;
libbpf_print_fn_t before = nullptr;

thread_local Reason* reason = nullptr;

const char* LevelName(libbpf_print_level level) {
  if (level == LIBBPF_WARN) return "warn";
  return level == LIBBPF_INFO ? "info" : "debug";
}

// Called by libbpf on any thread.
int Print(libbpf_print_level level, const char* format, va_list list) {
  std::lock_guard<std::mutex> guard(lock);
  bool wanted = reason != nullptr && level == LIBBPF_WARN;
  if (!wanted && listeners.empty()) return 0;
  va_list again;
  va_copy(again, list);
  int size = vsnprintf(nullptr, 0, format, again);
  va_end(again);
  if (size <= 0) return 0;
  std::string text(static_cast<size_t>(size) + 1, '\0');
  vsnprintf(text.data(), text.size(), format, list);
  text.resize(static_cast<size_t>(size));
  if (wanted) reason->Remember(text);
  for (Addon* addon : listeners) {
    auto* message = new Message{LevelName(level), text};
    if (napi_call_threadsafe_function(addon->log, message, napi_tsfn_nonblocking) != napi_ok) {
      delete message;
    }
  }
  return 0;
}

// One call of the listener per line.
void Deliver(napi_env raw, napi_value callback, void*, void* data) {
  std::unique_ptr<Message> message(static_cast<Message*>(data));
  if (raw == nullptr || callback == nullptr) return;
  Napi::Env env(raw);
  Napi::HandleScope scope(env);
  Napi::Function listener(env, callback);
  Napi::String level = Napi::String::New(env, message->level);
  for (size_t start = 0; start < message->text.size();) {
    size_t end = std::min(message->text.find('\n', start), message->text.size());
    std::string line = message->text.substr(start, end - start);
    if (!line.empty()) listener.Call({level, Napi::String::New(env, line)});
    // Nobody above us could catch it: let it be an uncaught exception like any other.
    if (env.IsExceptionPending()) {
      napi_fatal_exception(env, env.GetAndClearPendingException().Value());
    }
    start = end + 1;
  }
}

// Takes the listener away; the function itself is freed by Node after the messages under way.
void Remove(Addon& addon) {
  std::lock_guard<std::mutex> guard(lock);
  if (addon.log == nullptr) return;
  listeners.erase(std::find(listeners.begin(), listeners.end(), &addon));
  napi_release_threadsafe_function(std::exchange(addon.log, nullptr), napi_tsfn_abort);
}

void Detach(void* addon) { Remove(*static_cast<Addon*>(addon)); }

}  // namespace

void Reason::Remember(const std::string& line) {
  // What only repeats the errno says nothing; the verifier's log is kept elsewhere.
  if (line.find("failed to load object") != std::string::npos) return;
  if (line.find("PROG LOAD LOG") != std::string::npos) return;
  std::string text = line;
  if (text.rfind("libbpf: ", 0) == 0) text.erase(0, 8);
  while (!text.empty() && text.back() == '\n') text.pop_back();
  text_ = text;
}

void UseLog() {
  std::lock_guard<std::mutex> guard(lock);
  if (users++ == 0) before = libbpf_set_print(Print);
}

void LeaveLog() {
  // The last one puts things back as they were: this library may be unloaded next.
  std::lock_guard<std::mutex> guard(lock);
  if (--users == 0) libbpf_set_print(before);
}

Napi::Value SetLog(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const std::string none;
  Arguments args(info, "set log listener", "", none);
  if (!args.IsNull(0)) args.Function(0, "listener");
  if (args.failed()) return args.Throw();
  Addon* addon = env.GetInstanceData<Addon>();
  Remove(*addon);
  napi_remove_env_cleanup_hook(env, Detach, addon);
  if (args.IsNull(0)) return env.Undefined();

  napi_threadsafe_function function = nullptr;
  napi_status status =
      napi_create_threadsafe_function(env, info[0], nullptr, Napi::String::New(env, "fairlead.log"),
                                      kQueue, 1, nullptr, nullptr, nullptr, Deliver, &function);
  if (status != napi_ok) return args.ThrowSystem(ENOMEM);
  napi_unref_threadsafe_function(env, function);  // a listener does not keep the process alive
  // Hooks run last in, first out, so this one before Node's own, which frees the function.
  napi_add_env_cleanup_hook(env, Detach, addon);
  std::lock_guard<std::mutex> guard(lock);
  addon->log = function;
  listeners.push_back(addon);
  return env.Undefined();
}

Reason::Reason() { reason = this; }
Reason::~Reason() { reason = nullptr; }

}  // namespace fairlead
