// SPDX-License-Identifier: Apache-2.0
#include "variable.h"

#include <bpf/btf.h>
#include <errno.h>

namespace fairlead {

namespace {

bool HoldsVariables(const std::string& section) {
  for (const char* prefix : {".rodata", ".data", ".bss"}) {
    if (section.rfind(prefix, 0) == 0) return true;
  }
  return false;
}

}  // namespace

std::vector<Variable> FindVariables(bpf_object* object) {
  std::vector<Variable> found;
  const btf* types = bpf_object__btf(object);
  uint32_t count = types != nullptr ? btf__type_cnt(types) : 0;
  for (uint32_t id = 1; id < count; id++) {
    const btf_type* section = btf__type_by_id(types, id);
    if (!btf_is_datasec(section)) continue;
    std::string section_name = btf__name_by_offset(types, section->name_off);
    if (!HoldsVariables(section_name)) continue;
    const btf_var_secinfo* entry = btf_var_secinfos(section);
    for (int i = 0; i < btf_vlen(section); i++, entry++) {
      const btf_type* variable = btf__type_by_id(types, entry->type);
      std::string name = btf__name_by_offset(types, variable->name_off);
      found.push_back({name, section_name, entry->offset, entry->size});
    }
  }
  return found;
}

int StoreVariable(bpf_object* object, const Variable& variable, View value) {
  bpf_map* map = bpf_object__find_map_by_name(object, variable.section.c_str());
  size_t size = 0;
  const void* initial = map != nullptr ? bpf_map__initial_value(map, &size) : nullptr;
  if (initial == nullptr || variable.offset + uint64_t{variable.size} > size) return ENOENT;
  auto* bytes = static_cast<const uint8_t*>(initial);
  std::vector<uint8_t> section(bytes, bytes + size);
  memcpy(section.data() + variable.offset, value.data, value.size);
  return bpf_map__set_initial_value(map, section.data(), size) < 0 ? errno : 0;
}

}  // namespace fairlead
