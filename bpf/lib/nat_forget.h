/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Ends the connections whose service is gone, or whose backend number is another one's by now: their numbers
 * may be given out again afterwards, and their ports are free. User space runs it when no packet can begin
 * such a connection any more.
 */
#ifndef FAIRLEAD_NAT_FORGET_H
#define FAIRLEAD_NAT_FORGET_H

#include "nat_table.h"

struct nat_forgetting {
	__u32 now;
	__u32 ended;
};

static long nat_forget_one(__u32 id, struct nat_forgetting *forgetting)
{
	struct nat_connection *nat = nat_connection(id);
	struct nat_detail *detail = nat_detail(id);

	if (!nat || !detail)
		return 1;
	if (!nat->service || nat->state == NAT_FREE || nat->state == NAT_GONE)
		return 0;
	__u32 number = nat->service, other = nat->backend;
	struct nat_service *service = bpf_map_lookup_elem(&nat_services, &number);
	struct backend *backend = bpf_map_lookup_elem(&backends, &other);

	if (service && !service->gone && backend && backend->address[0] == detail->backend_address[0] &&
	    backend->address[1] == detail->backend_address[1])
		return 0;
	nat_end(id, forgetting->now);
	forgetting->ended++;
	return 0;
}

/* How many have ended; NAT_NONE: the sweep is at work, ask again. Two at a time would end what is new. */
static __always_inline __u32 nat_forget_all(void)
{
	struct nat_forgetting forgetting = {.now = bpf_jiffies64()};
	__u32 zero = 0;
	struct nat_counts *counts = bpf_map_lookup_elem(&nat_counts, &zero);

	if (!counts || __sync_val_compare_and_swap(&counts->sweeping, 0, 1))
		return NAT_NONE;
	bpf_loop(counts->used < nat_room ? counts->used : nat_room, nat_forget_one, &forgetting, 0);
	__sync_val_compare_and_swap(&counts->sweeping, 1, 0);
	return forgetting.ended;
}

#endif
