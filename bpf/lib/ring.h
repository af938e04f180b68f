/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Which backend a flow without a record belongs to. */
#ifndef FAIRLEAD_RING_H
#define FAIRLEAD_RING_H

#include "hash.h"
#include "maps.h"

/*
 * The row this hash names (struct ring_row, its current owner in the low 16 bits); 0 when the pool has no
 * ring. Up to two cache misses.
 */
static __always_inline __u64 ring_row(__u32 pool, __u64 hash)
{
	struct ring_ref *ref = bpf_map_lookup_elem(&pools, &pool);
	if (!ref)
		return 0;
	/* One load: start and rows of the same ring, also while it is being replaced. */
	__u64 ring = *(volatile __u64 *)ref;
	__u32 start = (__u32)ring;
	__u32 rows = ring >> 32;
	/* Scaled instead of a remainder: no division, and the hash's high bits decide. */
	__u32 index = start + (__u32)((hash >> 32) * rows >> 32);
	__u64 *row = bpf_map_lookup_elem(&ring_rows, &index);

	if (!rows || !row)
		return 0;
	return *(volatile __u64 *)row;
}

/* The row's owner for what is new: a backend number, or 0. */
static __always_inline __u32 row_current(__u64 row)
{
	return (__u16)row;
}

/* The service's row for this packet by its flow or, with SERVICE_SOURCE in `flags`, its client's prefix.
 * Costs a SipHash. */
static __always_inline __u64 ring_row_of(const struct packet *pkt, const struct service *service, __u32 flags)
{
	if (flags & SERVICE_SOURCE) {
		__u32 number = service->number;
		struct service_options *options = bpf_map_lookup_elem(&service_options, &number);

		if (!options)
			return 0;
		return ring_row(service->pool,
				source_hash(pkt->to.family, pkt->from[0] & options->source_mask[0],
					    pkt->from[1] & options->source_mask[1]));
	}
	return ring_row(service->pool, ring_hash(pkt));
}

#endif
