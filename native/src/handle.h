// SPDX-License-Identifier: Apache-2.0
// What map, program and link handles have in common: a descriptor, a name, pin() and close().
#pragma once

#include <bpf/bpf.h>
#include <errno.h>
#include <napi.h>

#include <string>

#include "addon.h"
#include "arguments.h"
#include "pin.h"

namespace fairlead {

// T has kTag, kKind and `static Napi::FunctionReference& Class(Addon&)`. A wrong `this` never gets
// here: V8 checks the receiver of methods against the class.
template <class T>
class Handle : public Napi::ObjectWrap<T> {
 public:
  // A new handle on `fd`; empty with an exception pending when the kernel does not describe it.
  static Napi::Value Make(Napi::Env env, SharedFd fd, const std::string& name) {
    Addon* addon = env.GetInstanceData<Addon>();
    Parts parts{std::move(fd), name};
    addon->parts = &parts;
    Napi::Value made = T::Class(*addon).New({});
    addon->parts = nullptr;
    return made;
  }

  const SharedFd& fd() const { return fd_; }
  const std::string& name() const { return name_; }
  bool closed() const { return fd_ == nullptr; }

 protected:
  explicit Handle(const Napi::CallbackInfo& info) : Napi::ObjectWrap<T>(info) {
    Parts* parts = info.Env().GetInstanceData<Addon>()->parts;
    if (parts == nullptr) {
      Napi::TypeError::New(info.Env(), std::string("a ") + T::kKind + " is not made with new")
          .ThrowAsJavaScriptException();
      return;
    }
    fd_ = std::move(parts->fd);
    name_ = std::move(parts->name);
    info.This().As<Napi::Object>().TypeTag(&T::kTag);
  }

  // The arguments of a method, which fails when the handle is closed.
  Arguments Call(const Napi::CallbackInfo& info, const char* what, const char* call) {
    Arguments args(info, what, call, name_);
    if (closed()) args.Closed(T::kKind);
    return args;
  }

  Napi::Value Pin(const Napi::CallbackInfo& info) {
    Arguments args = Call(info, T::kPinPhrase, "bpf_obj_pin");
    std::string path = args.Text(0, "path");
    if (args.failed()) return args.Throw();
    if (bpf_obj_pin(fd_->number(), path.c_str()) < 0) {
      int error = errno;
      return Throw(info.Env(), PinFailure(error, args.Phrase(), path));
    }
    return info.Env().Undefined();
  }

  Napi::Value Close(const Napi::CallbackInfo& info) {
    fd_.reset();
    return info.Env().Undefined();
  }

  // A fact that never changes, readable also after close().
  static void Fact(Napi::Object object, const char* name, Napi::Value value) {
    object.DefineProperty(Napi::PropertyDescriptor::Value(name, value, napi_enumerable));
  }

  SharedFd fd_;
  std::string name_;
};

}  // namespace fairlead
