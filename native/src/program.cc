// SPDX-License-Identifier: Apache-2.0
#include "program.h"

#include <limits.h>

#include "job.h"
#include "map.h"

namespace fairlead {

namespace {

// A run may make the packet longer: 256 bytes of headroom, and the rest of a page at the tail.
constexpr size_t kGrowth = 8192;

struct TestRun {
  View data;
  View context;
  uint32_t repeat = 1;
  bool live_frames = false;
  Buffer out;
  bpf_test_run_opts opts = {};

  // 0 or an errno.
  int Do(int fd) {
    opts = {};
    opts.sz = sizeof opts;
    opts.data_in = data.data;
    opts.data_size_in = static_cast<uint32_t>(data.size);
    opts.ctx_in = context.data;
    opts.ctx_size_in = static_cast<uint32_t>(context.size);
    opts.repeat = static_cast<int>(repeat);
    if (live_frames) {
      opts.flags = BPF_F_TEST_XDP_LIVE_FRAMES;  // the frames are gone afterwards, there is nothing
                                                // to give back
    } else {
      if (!out.Reserve(data.size + kGrowth)) return ENOMEM;
      opts.data_out = out.data();
      opts.data_size_out = static_cast<uint32_t>(data.size + kGrowth);
    }
    return bpf_prog_test_run_opts(fd, &opts) < 0 ? errno : 0;
  }

  Napi::Value ToJs(Napi::Env env) const {
    Napi::Object result = Napi::Object::New(env);
    result.Set("retval", Napi::Number::New(env, opts.retval));
    result.Set("data", CopyToJs(env, out.data(), live_frames ? 0 : opts.data_size_out));
    result.Set("durationNs", Napi::Number::New(env, opts.duration));
    return result;
  }
};

}  // namespace

void Program::Define(Napi::Env env, Addon& addon) {
  addon.program = Napi::Persistent(DefineClass(env, "NativeProgram",
                                               {
                                                   InstanceMethod<&Program::Run>("run"),
                                                   InstanceMethod<&Program::RunMany>("runMany"),
                                                   InstanceMethod<&Program::MapIds>("mapIds"),
                                                   InstanceMethod("pin", &Program::Pin),
                                                   InstanceMethod("close", &Program::Close),
                                               }));
}

Program::Program(const Napi::CallbackInfo& info) : Handle(info) {
  if (closed()) return;
  Napi::Env env = info.Env();
  bpf_prog_info kernel = {};
  uint32_t size = sizeof kernel;
  if (bpf_obj_get_info_by_fd(fd_->number(), &kernel, &size) < 0) {
    Throw(env, SystemFailure(errno, "describe program " + Quoted(name_), "bpf_obj_get_info_by_fd",
                             name_));
    return;
  }
  if (name_.empty()) name_ = kernel.name;
  id_ = kernel.id;
  char tag[2 * BPF_TAG_SIZE + 1];
  for (int i = 0; i < BPF_TAG_SIZE; i++) snprintf(tag + 2 * i, 3, "%02x", kernel.tag[i]);
  Napi::Object self = info.This().As<Napi::Object>();
  Fact(self, "name", Napi::String::New(env, name_));
  Fact(self, "id", Napi::Number::New(env, id_));
  Fact(self, "fd", Napi::Number::New(env, fd_->number()));
  Fact(self, "tag", Napi::String::New(env, tag));
}

Napi::Value Program::Run(const Napi::CallbackInfo& info) {
  Arguments args = Call(info, "run program", "bpf_prog_test_run_opts");
  TestRun run;
  run.data = args.Bytes(0, "data");
  run.context = args.BytesOrNull(1, "context");
  if (args.failed()) return args.Throw();
  int error = run.Do(fd_->number());
  return error == 0 ? run.ToJs(info.Env()) : args.ThrowSystem(error);
}

Napi::Value Program::RunMany(const Napi::CallbackInfo& info) {
  Arguments args = Call(info, "run program", "bpf_prog_test_run_opts");
  View data = args.Bytes(0, "data");
  View context = args.BytesOrNull(1, "context");
  auto run = std::make_shared<TestRun>();
  run->repeat = args.Number(2, "repeat", 1, INT_MAX);
  run->live_frames = args.Boolean(3, "liveFrames");
  if (args.failed()) return args.Reject();

  // The caller's arrays may change or move while the job runs.
  auto copies = std::make_shared<std::pair<Buffer, Buffer>>();
  if (!copies->first.Assign(data) || !copies->second.Assign(context)) {
    return Rejected(info.Env(), args.System(ENOMEM));
  }
  run->data = {copies->first.data(), data.size};
  run->context = {copies->second.data(), context.size};
  auto work = [run, copies, fd = fd_, name = name_]() -> Result {
    int error = run->Do(fd->number());
    if (error == 0) return std::nullopt;
    return SystemFailure(error, "run program " + Quoted(name), "bpf_prog_test_run_opts", name);
  };
  return Start(info.Env(), "fairlead.runMany", work,
               [run](Napi::Env env) { return run->ToJs(env); });
}

Napi::Value Program::MapIds(const Napi::CallbackInfo& info) {
  Arguments args = Call(info, "list maps of program", "bpf_obj_get_info_by_fd");
  if (args.failed()) return args.Throw();
  uint32_t ids[64];  // the most a program may have (MAX_USED_MAPS)
  bpf_prog_info kernel = {};
  kernel.map_ids = reinterpret_cast<uint64_t>(ids);
  kernel.nr_map_ids = sizeof ids / sizeof *ids;
  uint32_t size = sizeof kernel;
  if (bpf_obj_get_info_by_fd(fd_->number(), &kernel, &size) < 0) return args.ThrowSystem(errno);
  Napi::Array maps = Napi::Array::New(info.Env());
  for (uint32_t at = 0; at < std::min<uint32_t>(kernel.nr_map_ids, 64); at++)
    maps.Set(at, Napi::Number::New(info.Env(), ids[at]));
  return maps;
}

}  // namespace fairlead
