/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Who may talk to a service, and how much. */
#ifndef FAIRLEAD_GUARD_H
#define FAIRLEAD_GUARD_H

#include "maps.h"
#include "parse.h"

#define RATE_TRIES 4

/*
 * Whether a source is on a list. Here and below functions of their own with plain arguments: keys on the
 * stack and a packet in memory would cost every packet, also where no service asks.
 */
__noinline int source_listed(__u64 first, __u64 second, __u32 family, __u32 list)
{
	if (family == FAMILY_IPV6) {
		struct source6_key key = {.prefix_size = 32 + 128, .list = list};

		__builtin_memcpy(key.address, &first, sizeof(first));
		__builtin_memcpy(key.address + sizeof(first), &second, sizeof(second));
		return !!bpf_map_lookup_elem(&sources6, &key);
	}
	struct source4_key key = {.prefix_size = 32 + 32, .list = list, .address = (__be32)first};

	return !!bpf_map_lookup_elem(&sources4, &key);
}

/*
 * Takes one packet of what the source has left: the Generic Cell Rate Algorithm (ITU-T I.371, virtual
 * scheduling). One u64 per source, so that all CPUs share it without a lock; a packet that loses the race
 * four times passes.
 */
__noinline int rate_take(__u64 first, __u64 second, __u32 service)
{
	struct service_options *options = bpf_map_lookup_elem(&service_options, &service);
	struct rate_key key = {.from = {first, second}, .service = service};
	__u64 *used_until = bpf_map_lookup_elem(&rates, &key);
	__u64 now = bpf_ktime_get_ns();

	if (!options)
		return false;
	if (!used_until) {
		__u64 used = now + options->rate_interval_ns;

		bpf_map_update_elem(&rates, &key, &used, BPF_ANY);
		return true;
	}
	for (int try = 0; try < RATE_TRIES; try++) {
		__u64 old = *(volatile __u64 *)used_until;
		__u64 next = (old > now ? old : now) + options->rate_interval_ns;

		if (next - now > options->rate_burst_ns)
			return false;
		if (__sync_val_compare_and_swap(used_until, old, next) == old)
			return true;
	}
	return true;
}

static __always_inline bool on_list(const struct packet *pkt, __u32 service, bool deny)
{
	return source_listed(pkt->from[0], pkt->from[1], pkt->to.family, service * 2 + deny);
}

/* `flags`: enum service_flag. REASON_FORWARDED: let it in. */
static __always_inline enum reason guard(const struct packet *pkt, __u32 service, __u32 flags)
{
	if (flags & SERVICE_DENY && on_list(pkt, service, true))
		return REASON_DENIED;
	if (flags & SERVICE_ALLOW && !on_list(pkt, service, false))
		return REASON_NOT_ALLOWED;
	if (flags & SERVICE_RATE && !rate_take(pkt->from[0], pkt->from[1], service))
		return REASON_RATE_LIMITED;
	return REASON_FORWARDED;
}

#endif
