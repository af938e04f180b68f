// SPDX-License-Identifier: Apache-2.0
// One translation unit: every file would otherwise compile napi.h and its templates again, which
// takes longer than all of ours. Hence no two files may use one name for different things, even in
// anonymous namespaces.
#include "addon.cc"
#include "arguments.cc"
#include "attach.cc"
#include "clsact.cc"
#include "error.cc"
#include "job.cc"
#include "link.cc"
#include "load.cc"
#include "log.cc"
#include "map.cc"
#include "map_bulk.cc"
#include "object.cc"
#include "pin.cc"
#include "program.cc"
#include "system.cc"
#include "variable.cc"
#include "watch.cc"
