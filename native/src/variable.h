// SPDX-License-Identifier: Apache-2.0
// Globals of an object, found through its BTF.
#pragma once

#include <bpf/libbpf.h>

#include <string>
#include <vector>

#include "memory.h"

namespace fairlead {

struct Variable {
  std::string name;
  std::string section;
  uint32_t offset;
  uint32_t size;
};

// Everything in .rodata, .data and .bss. Offsets are right from open on, when libbpf has taken them
// from the ELF symbols.
std::vector<Variable> FindVariables(bpf_object* object);

// 0 or an errno. `value` has the variable's size.
int StoreVariable(bpf_object* object, const Variable& variable, View value);

}  // namespace fairlead
