// SPDX-License-Identifier: Apache-2.0
#include "link.h"

#include "job.h"
#include "program.h"

namespace fairlead {

namespace {

// BPF_LINK_TYPE_TCX, for headers older than Linux 6.6. Its part begins with the interface, too.
constexpr uint32_t kTcxLink = 11;

Napi::Value LinkInterface(Napi::Env env, const bpf_link_info& info) {
  bool on_interface = info.type == BPF_LINK_TYPE_XDP || info.type == kTcxLink;
  return Napi::Number::New(env, on_interface ? info.xdp.ifindex : 0);
}

Napi::Value LinkProgram(Napi::Env env, const bpf_link_info& info) {
  return Napi::Number::New(env, info.prog_id);
}

int Describe(const Fd& fd, bpf_link_info* info) {
  uint32_t size = sizeof *info;
  return bpf_obj_get_info_by_fd(fd.number(), info, &size) < 0 ? errno : 0;
}

}  // namespace

// Asks the kernel each time: the interface may go and the program may change behind our back. V8
// does not check the receiver of a getter as it does for methods, hence the tag.
template <Link::Read read>
napi_value Link::Getter(napi_env raw, napi_callback_info raw_info) {
  Napi::CallbackInfo info(raw, raw_info);
  Napi::Env env = info.Env();
  if (!info.This().IsObject() || !info.This().As<Napi::Object>().CheckTypeTag(&kTag)) {
    Napi::TypeError::New(env, "the receiver is not a link").ThrowAsJavaScriptException();
    return nullptr;
  }
  Link* self = Unwrap(info.This().As<Napi::Object>());
  Arguments args = self->Call(info, "describe link", "bpf_obj_get_info_by_fd");
  if (args.failed()) return args.Throw();
  bpf_link_info kernel = {};
  int error = Describe(*self->fd_, &kernel);
  return error == 0 ? read(env, kernel) : args.ThrowSystem(error);
}

void Link::Define(Napi::Env env, Addon& addon) {
  napi_property_descriptor index = {}, program = {};
  index.utf8name = "interfaceIndex";
  index.getter = Getter<LinkInterface>;
  program.utf8name = "programId";
  program.getter = Getter<LinkProgram>;
  addon.link = Napi::Persistent(DefineClass(env, "NativeLink",
                                            {
                                                index,
                                                program,
                                                InstanceMethod<&Link::Current>("program"),
                                                InstanceMethod<&Link::Update>("update"),
                                                InstanceMethod("pin", &Link::Pin),
                                                InstanceMethod<&Link::Detach>("detach"),
                                                InstanceMethod("close", &Link::Close),
                                            }));
}

Link::Link(const Napi::CallbackInfo& info) : Handle(info) {
  if (closed()) return;
  Napi::Env env = info.Env();
  bpf_link_info kernel = {};
  if (int error = Describe(*fd_, &kernel)) {
    Throw(env,
          SystemFailure(error, "describe link " + Quoted(name_), "bpf_obj_get_info_by_fd", name_));
    return;
  }
  Fact(info.This().As<Napi::Object>(), "id", Napi::Number::New(env, kernel.id));
}

Napi::Value Link::Current(const Napi::CallbackInfo& info) {
  Arguments args = Call(info, "open the program of link", "bpf_prog_get_fd_by_id");
  if (args.failed()) return args.Throw();
  bpf_link_info kernel = {};
  if (int error = Describe(*fd_, &kernel)) return args.ThrowSystem(error);
  int number = bpf_prog_get_fd_by_id(kernel.prog_id);
  if (number < 0) return args.ThrowSystem(errno);
  return Program::Make(info.Env(), Own(number), "");
}

Napi::Value Link::Update(const Napi::CallbackInfo& info) {
  Arguments args = Call(info, "update link", "bpf_link_update");
  Program* program = args.Handle<Program>(0, "program");
  Program* expected = args.IsNull(1) ? nullptr : args.Handle<Program>(1, "expected");
  if (args.failed()) return args.Reject();
  SharedFd old_fd = expected != nullptr ? expected->fd() : nullptr;
  std::string hint;
  if (expected != nullptr) {
    hint = "the current program is not " + Quoted(expected->name()) + " with id " +
           std::to_string(expected->id());
  }
  auto work = [fd = fd_, new_fd = program->fd(), old_fd, hint, name = name_,
               new_name = program->name()]() -> Result {
    bpf_link_update_opts opts = {};
    opts.sz = sizeof opts;
    if (old_fd) {
      opts.flags = BPF_F_REPLACE;
      opts.old_prog_fd = static_cast<uint32_t>(old_fd->number());
    }
    if (bpf_link_update(fd->number(), new_fd->number(), &opts) == 0) return std::nullopt;
    int error = errno;
    return SystemFailure(error, "update link " + Quoted(name) + " to program " + Quoted(new_name),
                         "bpf_link_update", name, error == EPERM && old_fd ? hint : "");
  };
  return Start(info.Env(), "fairlead.linkUpdate", work);
}

Napi::Value Link::Detach(const Napi::CallbackInfo& info) {
  Arguments args = Call(info, "detach link", "bpf_link_detach");
  if (args.failed()) return args.Throw();
  if (bpf_link_detach(fd_->number()) < 0) return args.ThrowSystem(errno);
  return info.Env().Undefined();
}

}  // namespace fairlead
