// SPDX-License-Identifier: Apache-2.0
// NativeObject: an ELF file on its way into the kernel.
#pragma once

#include <bpf/libbpf.h>

#include <memory>
#include <string>
#include <vector>

#include "addon.h"
#include "arguments.h"
#include "variable.h"

namespace fairlead {

// Shared by the handle and a running load, so close() during a load takes nothing away from it.
struct Elf {
  // kTried from load() on, kLoaded when its promise resolves. Main thread only.
  enum State { kOpened, kTried, kLoaded };

  explicit Elf(bpf_object* object) : object(object) {}
  ~Elf() { bpf_object__close(object); }
  Elf(const Elf&) = delete;
  Elf& operator=(const Elf&) = delete;

  bpf_object* const object;
  State state = kOpened;
};

class Object : public Napi::ObjectWrap<Object> {
 public:
  static constexpr const char* kKind = "object";
  static void Define(Napi::Env env, Addon& addon);
  // openObject of src/dataplane/native.ts.
  static Napi::Value Open(const Napi::CallbackInfo& info);

  explicit Object(const Napi::CallbackInfo& info);

 private:
  Napi::Value SetVariable(const Napi::CallbackInfo& info);
  Napi::Value SetMaxEntries(const Napi::CallbackInfo& info);
  Napi::Value SetAutoload(const Napi::CallbackInfo& info);
  Napi::Value ReuseMap(const Napi::CallbackInfo& info);
  Napi::Value Load(const Napi::CallbackInfo& info);
  Napi::Value GetMap(const Napi::CallbackInfo& info);
  Napi::Value GetProgram(const Napi::CallbackInfo& info);
  Napi::Value Close(const Napi::CallbackInfo& info);

  std::shared_ptr<Elf> elf_;  // null after close()
  std::string path_;
  std::vector<Variable> variables_;
};

}  // namespace fairlead
