/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What may be done so often per CPU and window of 2^BUDGET_WINDOW_SHIFT ticks, and no more. */
#ifndef FAIRLEAD_BUDGET_H
#define FAIRLEAD_BUDGET_H

#include <stdbool.h>
#include "maps.h"

/* The budget at `index` of a per-CPU map of them, its count begun anew when the window is over. */
static __always_inline struct budget *budget_of(void *map, __u32 index, __u64 ticks)
{
	__u32 window = ticks >> BUDGET_WINDOW_SHIFT;
	struct budget *budget = bpf_map_lookup_elem(map, &index);

	if (budget && budget->window != window) {
		budget->window = window;
		budget->used = 0;
	}
	return budget;
}

/* Takes one of `limit` a window; false when they are used up. */
static __always_inline bool budget_take(void *map, __u32 index, __u64 ticks, __u32 limit)
{
	struct budget *budget = budget_of(map, index, ticks);

	if (!budget || budget->used >= limit)
		return false;
	budget->used++;
	return true;
}

#endif
