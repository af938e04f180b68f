// SPDX-License-Identifier: Apache-2.0
// Libbpf's messages: to the listeners of setLog, and the reason of a failure to whoever waits for
// it.
#pragma once

#include <napi.h>

#include <string>

#include "addon.h"

namespace fairlead {

// Libbpf has one print function for the whole process; these count the environments that need ours.
void UseLog();
void LeaveLog();

// setLog of src/dataplane/native.ts.
Napi::Value SetLog(const Napi::CallbackInfo& info);

// While it lives: remembers libbpf's last warning on this thread, which often knows more than the
// errno.
class Reason {
 public:
  Reason();
  ~Reason();
  Reason(const Reason&) = delete;
  Reason& operator=(const Reason&) = delete;
  void Remember(const std::string& line);
  // Without the "libbpf: " in front; empty when there was none.
  const std::string& text() const { return text_; }

 private:
  std::string text_;
};

}  // namespace fairlead
