// SPDX-License-Identifier: Apache-2.0
// Small questions to the machine, as in src/dataplane/native.ts.
#pragma once

#include <napi.h>

namespace fairlead {

Napi::Value Synchronize(const Napi::CallbackInfo& info);
Napi::Value PossibleCpus(const Napi::CallbackInfo& info);
Napi::Value TickNs(const Napi::CallbackInfo& info);
Napi::Value InterfaceIndex(const Napi::CallbackInfo& info);
Napi::Value PeerUser(const Napi::CallbackInfo& info);
Napi::Value SendDatagram(const Napi::CallbackInfo& info);
Napi::Value TryLock(const Napi::CallbackInfo& info);

}  // namespace fairlead
