// SPDX-License-Identifier: Apache-2.0
#include "object.h"

#include <errno.h>
#include <fcntl.h>

#include "job.h"
#include "load.h"
#include "log.h"
#include "map.h"
#include "program.h"

namespace fairlead {

namespace {

// A method whose first argument names a part of the object, and which belongs to one state of it.
struct PartCall {
  const std::string name;
  Arguments args;

  PartCall(const Napi::CallbackInfo& info, const std::shared_ptr<Elf>& elf, Elf::State wanted,
           const char* argument, const char* what, const char* call)
      : name(info[0].IsString() ? info[0].As<Napi::String>().Utf8Value() : ""),
        args(info, what, call, name) {
    if (!elf) args.Closed(Object::kKind);
    args.Text(0, argument);
    if (!elf || elf->state == wanted) return;
    if (wanted == Elf::kLoaded) {
      args.Refuse(EINVAL, "the object is not loaded");
    } else {
      args.Refuse(EBUSY, "load() was called before");
    }
  }
};

// The section of an internal map, whose own name is made of the object's and the section's; else
// the map's name.
const char* MapName(const bpf_map* map) {
  const char* name = bpf_map__name(map);
  const char* dot = bpf_map__is_internal(map) ? strchr(name, '.') : nullptr;
  return dot != nullptr ? dot : name;
}

// A descriptor that lives on when the object is closed.
SharedFd Duplicate(int fd) { return Own(fcntl(fd, F_DUPFD_CLOEXEC, 3)); }

// Nothing, or the first field in which `have` is not what the object wants.
std::string Mismatch(const Shape& have, const bpf_map* want) {
  uint32_t flags = have.flags;
  bool devmap = have.type == BPF_MAP_TYPE_DEVMAP || have.type == BPF_MAP_TYPE_DEVMAP_HASH;
  if (devmap) flags &= ~static_cast<uint32_t>(BPF_F_RDONLY_PROG);  // added by the kernel
  const struct {
    const char* name;
    uint32_t got, wanted;
  } fields[] = {
      {"type", have.type, bpf_map__type(want)},
      {"key size", have.key_size, bpf_map__key_size(want)},
      {"value size", have.value_size, bpf_map__value_size(want)},
      {"max entries", have.max_entries, bpf_map__max_entries(want)},
      {"flags", flags, bpf_map__map_flags(want)},
  };
  for (const auto& field : fields) {
    if (field.got == field.wanted) continue;
    return std::string(field.name) + " is " + std::to_string(field.got) + ", want " +
           std::to_string(field.wanted);
  }
  return "";
}

}  // namespace

void Object::Define(Napi::Env env, Addon& addon) {
  addon.object =
      Napi::Persistent(DefineClass(env, "NativeObject",
                                   {
                                       InstanceMethod<&Object::SetVariable>("setVariable"),
                                       InstanceMethod<&Object::SetMaxEntries>("setMaxEntries"),
                                       InstanceMethod<&Object::SetAutoload>("setAutoload"),
                                       InstanceMethod<&Object::ReuseMap>("reuseMap"),
                                       InstanceMethod<&Object::Load>("load"),
                                       InstanceMethod<&Object::GetMap>("map"),
                                       InstanceMethod<&Object::GetProgram>("program"),
                                       InstanceMethod<&Object::Close>("close"),
                                   }));
}

Napi::Value Object::Open(const Napi::CallbackInfo& info) {
  const std::string none;
  Arguments unnamed(info, "open object", "bpf_object__open_file", none);
  std::string path = unnamed.Text(0, "path");
  if (unnamed.failed()) return unnamed.Throw();
  // The constructor does the work: it has the object to put the facts on.
  Addon* addon = info.Env().GetInstanceData<Addon>();
  Parts parts{nullptr, path};
  addon->parts = &parts;
  Napi::Value made = addon->object.New({});
  addon->parts = nullptr;
  return made;
}

Object::Object(const Napi::CallbackInfo& info) : ObjectWrap(info) {
  Napi::Env env = info.Env();
  Parts* parts = env.GetInstanceData<Addon>()->parts;
  if (parts == nullptr) {
    Napi::TypeError::New(env, "an object is not made with new").ThrowAsJavaScriptException();
    return;
  }
  path_ = std::move(parts->name);
  Reason reason;
  bpf_object* object = bpf_object__open_file(path_.c_str(), nullptr);
  if (object == nullptr) {
    Arguments args(info, "open object", "bpf_object__open_file", path_);
    int error = errno;
    // A file that is not there needs no more words.
    args.ThrowSystem(error, error == ENOENT ? "" : reason.text());
    return;
  }
  elf_ = std::make_shared<Elf>(object);
  variables_ = FindVariables(object);

  uint32_t i = 0;
  Napi::Array maps = Napi::Array::New(env);
  bpf_map* map;
  bpf_object__for_each_map(map, object) {
    // Where maps are pinned is the caller's business alone.
    bpf_map__set_pin_path(map, nullptr);
    maps.Set(i++, Napi::String::New(env, MapName(map)));
  }
  i = 0;
  Napi::Array programs = Napi::Array::New(env);
  bpf_program* program;
  bpf_object__for_each_program(program, object) {
    programs.Set(i++, Napi::String::New(env, bpf_program__name(program)));
  }
  i = 0;
  Napi::Array variables = Napi::Array::New(env);
  for (const Variable& variable : variables_) {
    Napi::Object entry = Napi::Object::New(env);
    entry.Set("name", variable.name);
    entry.Set("section", variable.section);
    entry.Set("size", Napi::Number::New(env, variable.size));
    variables.Set(i++, entry);
  }
  Napi::Object self = info.This().As<Napi::Object>();
  self.DefineProperties({
      Napi::PropertyDescriptor::Value("maps", maps, napi_enumerable),
      Napi::PropertyDescriptor::Value("programs", programs, napi_enumerable),
      Napi::PropertyDescriptor::Value("variables", variables, napi_enumerable),
  });
}

Napi::Value Object::SetVariable(const Napi::CallbackInfo& info) {
  PartCall call(info, elf_, Elf::kOpened, "name", "set variable", "bpf_map__set_initial_value");
  if (call.args.failed()) return call.args.Throw();
  for (const Variable& variable : variables_) {
    if (variable.name != call.name) continue;
    View value = call.args.Bytes(1, "value", variable.size);
    if (call.args.failed()) return call.args.Throw();
    int error = StoreVariable(elf_->object, variable, value);
    return error == 0 ? info.Env().Undefined() : call.args.ThrowSystem(error);
  }
  return call.args.ThrowSystem(ENOENT, "the object has no such variable");
}

Napi::Value Object::SetMaxEntries(const Napi::CallbackInfo& info) {
  PartCall call(info, elf_, Elf::kOpened, "map", "set max entries of map",
                "bpf_map__set_max_entries");
  uint32_t count = call.args.Number(1, "count", 1, UINT32_MAX);
  if (call.args.failed()) return call.args.Throw();
  bpf_map* map = bpf_object__find_map_by_name(elf_->object, call.name.c_str());
  if (map == nullptr) return call.args.ThrowSystem(ENOENT, "the object has no such map");
  if (bpf_map__set_max_entries(map, count) < 0) return call.args.ThrowSystem(errno);
  return info.Env().Undefined();
}

Napi::Value Object::SetAutoload(const Napi::CallbackInfo& info) {
  PartCall call(info, elf_, Elf::kOpened, "program", "set autoload of program",
                "bpf_program__set_autoload");
  bool load = call.args.Boolean(1, "load");
  if (call.args.failed()) return call.args.Throw();
  bpf_program* program = bpf_object__find_program_by_name(elf_->object, call.name.c_str());
  if (program == nullptr) return call.args.ThrowSystem(ENOENT, "the object has no such program");
  if (bpf_program__set_autoload(program, load) < 0) return call.args.ThrowSystem(errno);
  return info.Env().Undefined();
}

Napi::Value Object::ReuseMap(const Napi::CallbackInfo& info) {
  PartCall call(info, elf_, Elf::kOpened, "map", "reuse map", "bpf_map__reuse_fd");
  Map* existing = call.args.Handle<Map>(1, "existing");
  if (call.args.failed()) return call.args.Throw();
  bpf_map* map = bpf_object__find_map_by_name(elf_->object, call.name.c_str());
  if (map == nullptr) return call.args.ThrowSystem(ENOENT, "the object has no such map");
  // Libbpf would silently take over whatever layout the other map has.
  std::string mismatch = Mismatch(existing->shape(), map);
  if (!mismatch.empty()) {
    return Throw(info.Env(), PlainFailure("LAYOUT", call.args.Phrase(), "bpf_map__reuse_fd",
                                          call.name, mismatch));
  }
  if (bpf_map__reuse_fd(map, existing->fd()->number()) < 0) return call.args.ThrowSystem(errno);
  return info.Env().Undefined();
}

Napi::Value Object::Load(const Napi::CallbackInfo& info) {
  Arguments args(info, "load object", "bpf_object__load", path_);
  if (!elf_) {
    args.Closed(kKind);
  } else if (elf_->state != Elf::kOpened) {
    args.Refuse(EBUSY, "load() was called before");
  }
  if (args.failed()) return args.Reject();
  elf_->state = Elf::kTried;
  return Start(
      info.Env(), "fairlead.load",
      [elf = elf_, path = path_] { return LoadElf(elf->object, path); },
      [elf = elf_](Napi::Env env) {
        elf->state = Elf::kLoaded;
        return env.Undefined();
      });
}

Napi::Value Object::GetMap(const Napi::CallbackInfo& info) {
  PartCall call(info, elf_, Elf::kLoaded, "name", "take map", "bpf_object__find_map_by_name");
  if (call.args.failed()) return call.args.Throw();
  bpf_map* map = bpf_object__find_map_by_name(elf_->object, call.name.c_str());
  if (map == nullptr) return call.args.ThrowSystem(ENOENT, "the object has no such map");
  SharedFd fd = Duplicate(bpf_map__fd(map));
  if (fd->number() < 0) return call.args.ThrowSystem(errno);
  return Map::Make(info.Env(), std::move(fd), call.name);
}

Napi::Value Object::GetProgram(const Napi::CallbackInfo& info) {
  PartCall call(info, elf_, Elf::kLoaded, "name", "take program",
                "bpf_object__find_program_by_name");
  if (call.args.failed()) return call.args.Throw();
  bpf_program* program = bpf_object__find_program_by_name(elf_->object, call.name.c_str());
  if (program == nullptr) return call.args.ThrowSystem(ENOENT, "the object has no such program");
  int number = bpf_program__fd(program);
  if (number < 0) return call.args.ThrowSystem(EINVAL, "it was not loaded, its autoload is off");
  SharedFd fd = Duplicate(number);
  if (fd->number() < 0) return call.args.ThrowSystem(errno);
  return Program::Make(info.Env(), std::move(fd), call.name);
}

Napi::Value Object::Close(const Napi::CallbackInfo& info) {
  elf_.reset();
  return info.Env().Undefined();
}

}  // namespace fairlead
