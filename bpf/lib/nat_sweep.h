/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Ends connections that were silent for too long, and frees what has ended: by a timer in the kernel, so also
 * while no daemon is there. */
#ifndef FAIRLEAD_NAT_SWEEP_H
#define FAIRLEAD_NAT_SWEEP_H

#include "nat_table.h"

#define SWEEP_PERIOD_NS 50000000
#define SWEEP_RECORDS 16384 /* of one turn at most: a million in 3 s */
#define SWEEP_FEW 1024	    /* so many are one turn; more are 16, so that a few thousand cost little */
#define SWEEP_GRACE_SHIFT                                                                                    \
	5 /* 2^5 ticks, at HZ=250 128 ms: by then no packet is at a connection that has ended */
/* Ticks a packet may be ahead of the sweep's clock. Not half of all: at HZ=1000 the longest timeout is more.
 */
#define SWEEP_AHEAD (1U << 16)
#define CLOCK_MONOTONIC 1

static __always_inline __u32 nat_timeout(const struct nat_connection *nat)
{
	__u32 at = nat->state + (nat->protocol == IPPROTO_TCP ? 0 : NAT_STATES);
	__u32 *ticks = bpf_map_lookup_elem(&nat_timeouts, &at);

	return ticks ? *ticks : ~0U;
}

struct nat_sweep {
	struct nat_counts *counts;
	__u32 now;
};

static long nat_sweep_one(__u32 turn, struct nat_sweep *sweep)
{
	struct nat_counts *counts = sweep->counts;
	__u32 id = counts->swept;

	if (id >= counts->used || id >= nat_room) {
		counts->swept = 0;
		return 1; /* the next turn begins at the first one again */
	}
	counts->swept = id + 1;
	struct nat_connection *nat = nat_connection(id);

	if (!nat || nat->state == NAT_FREE)
		return 0;
	__u32 silent = sweep->now - nat->seen;

	if (silent >= -SWEEP_AHEAD) /* a packet came since `now` was read */
		return 0;
	if (nat->state == NAT_GONE) {
		if (silent >> SWEEP_GRACE_SHIFT == 0)
			return 0;
		struct nat_detail *detail = nat_detail(id);

		if (detail && detail->pool)
			nat_put(detail->pool,
				(__u32)detail->pool_address << 16 | bpf_ntohs(nat->source_port));
		nat->state = NAT_FREE;
		nat_put(0, id);
		__sync_fetch_and_add(&counts->freed, 1);
	} else if (silent >= nat_timeout(nat)) {
		nat_end(id, sweep->now);
	}
	return 0;
}

static __always_inline void nat_sweep(void)
{
	__u32 zero = 0;
	struct nat_sweep sweep = {.counts = bpf_map_lookup_elem(&nat_counts, &zero), .now = bpf_jiffies64()};

	if (!sweep.counts || __sync_val_compare_and_swap(&sweep.counts->sweeping, 0, 1))
		return;
	__u32 some = sweep.counts->used / 16 > SWEEP_FEW ? sweep.counts->used / 16 : SWEEP_FEW;

	bpf_loop(some < SWEEP_RECORDS ? some : SWEEP_RECORDS, nat_sweep_one, &sweep, 0);
	__sync_val_compare_and_swap(&sweep.counts->sweeping, 1, 0);
}

static int nat_sweep_turn(void *map, __u32 *key, struct nat_timer *timer)
{
	nat_sweep();
	bpf_timer_start(&timer->timer, SWEEP_PERIOD_NS, 0);
	return 0;
}

/* Has the kernel sweep from now on with this program's code. */
static __always_inline bool nat_sweep_start(void)
{
	__u32 zero = 0;
	struct nat_timer *timer = bpf_map_lookup_elem(&nat_timers, &zero);

	if (!timer)
		return false;
	bpf_timer_init(&timer->timer, &nat_timers, CLOCK_MONOTONIC); /* fails when an earlier program has */
	return !bpf_timer_set_callback(&timer->timer, nat_sweep_turn) &&
	       !bpf_timer_start(&timer->timer, SWEEP_PERIOD_NS, 0);
}

#endif
