/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The one way out: counts the packet under its reason and turns the reason into an action. */
#ifndef FAIRLEAD_EXIT_H
#define FAIRLEAD_EXIT_H

#include <stdbool.h>
#include "config.h"
#include "maps.h"

/* Per-CPU slots and no preemption while a program runs: a plain add is enough, here and for all counters. */
static __always_inline void count_one(void *map, __u32 index)
{
	__u64 *packets = bpf_map_lookup_elem(map, &index);

	if (packets)
		(*packets)++;
}

/*
 * One more at `at` of a service's `size` counts. 6.1 relates a bound to the register it was checked in, so
 * that is the one that must be the index.
 */
static __always_inline void count_of(void *map, __u32 service, __u64 at, __u64 size)
{
	__u64 *packets = bpf_map_lookup_elem(map, &service);

	asm volatile("" : "+r"(at));
	if (packets && at < size)
		packets[at]++;
}

/* Beside the packet's reason. */
static __always_inline void count_tally(__u32 service, enum tally tally)
{
	count_of(&tallies, service, tally, TALLY_COUNT);
}

static __always_inline void count_service(__u32 service, enum reason reason)
{
	count_of(&service_outcomes, service, reason, REASON_COUNT);
}

/* `service` is 0 while it is not known; `interface` is where a redirected packet leaves. */
static __always_inline int finish(enum reason reason, __u16 service, __u32 interface)
{
	count_one(&outcomes, interface_slot * REASON_COUNT + reason);
	switch (reason) {
	case REASON_FORWARDED:
		return XDP_TX;
	case REASON_REDIRECTED:
		return bpf_redirect(interface, 0);
	case REASON_SPLIT:
		return bpf_redirect_map(&split_out, 0, BPF_F_BROADCAST);
	case REASON_ECHO_ANSWERED:
	case REASON_TOO_BIG_ANSWERED:
		count_service(service, reason);
		return XDP_TX;
	case REASON_NOT_IP:
	case REASON_RUNT:
	case REASON_NOT_OURS:
	case REASON_NAT:
		return XDP_PASS;
	default:
		count_service(service, reason);
		return reason == REASON_INTERNAL ? XDP_ABORTED : XDP_DROP;
	}
}

/* Of a fragment whose packet has been counted: see split.h. */
static __always_inline int finish_part(bool done)
{
	return done ? XDP_PASS : XDP_DROP;
}

#endif
