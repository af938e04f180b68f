// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <bpf/libbpf.h>

#include <string>

#include "error.h"

namespace fairlead {

// Loads everything of `object` into the kernel. Takes long; for a job.
Result LoadElf(bpf_object* object, const std::string& path);

}  // namespace fairlead
