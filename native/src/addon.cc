// SPDX-License-Identifier: Apache-2.0
// Registration, in the order of NativeAddon in src/dataplane/native.ts, the declaration of this
// surface.
#include "addon.h"

#include "attach.h"
#include "clsact.h"
#include "link.h"
#include "log.h"
#include "map.h"
#include "object.h"
#include "pin.h"
#include "program.h"
#include "system.h"
#include "watch.h"

namespace fairlead {

namespace {

void Leave(Napi::Env, Addon* addon) {
  delete addon;
  LeaveLog();
}

Napi::Object Init(Napi::Env env, Napi::Object exports) {
  UseLog();
  Addon* addon = new Addon;
  env.SetInstanceData<Addon, Leave>(addon);
  Object::Define(env, *addon);
  Map::Define(env, *addon);
  Program::Define(env, *addon);
  Link::Define(env, *addon);
  Watch::Define(env, *addon);

  auto add = [&](const char* name, Napi::Value (*function)(const Napi::CallbackInfo&)) {
    exports.Set(name, Napi::Function::New(env, function, name));
  };
  add("openObject", Object::Open);
  add("openMap", OpenMap);
  add("openProgram", OpenProgram);
  add("openLink", OpenLink);
  add("createMap", Map::Create);
  add("attachXdp", AttachXdp);
  add("attachTcx", AttachTcx);
  add("attachClsact", AttachClsact);
  add("clsactProgramId", ClsactProgramId);
  add("clsactProgram", ClsactProgram);
  add("detachClsact", DetachClsact);
  add("removeClsact", RemoveClsact);
  add("watchNetwork", Watch::Open);
  add("synchronize", Synchronize);
  add("possibleCpus", PossibleCpus);
  add("tickNs", TickNs);
  add("interfaceIndex", InterfaceIndex);
  add("tryLock", TryLock);
  add("peerUser", PeerUser);
  add("sendDatagram", SendDatagram);
  add("mountBpffs", MountBpffs);
  add("setLog", SetLog);
  return exports;
}

}  // namespace

NODE_API_MODULE(fairlead, Init)

}  // namespace fairlead
