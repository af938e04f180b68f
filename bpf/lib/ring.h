/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Which backend a flow without a record belongs to. */
#ifndef FAIRLEAD_RING_H
#define FAIRLEAD_RING_H

#include "hash.h"
#include "maps.h"

/* The pool's backend for this packet; 0 when the ring has none. Costs a SipHash and up to two cache misses.
 */
static __always_inline __u16 ring_choose(const struct packet *pkt, const struct service *service)
{
	__u32 pool = service->pool;
	__u64 *ref = bpf_map_lookup_elem(&pools, &pool);
	if (!ref)
		return 0;
	/* One load: start and rows of the same ring, also while it is being replaced. */
	__u64 ring = *(volatile __u64 *)ref;
	__u32 start = (__u32)ring;
	__u32 rows = ring >> 32;
	/* Scaled instead of a remainder: no division, and the hash's high bits decide. */
	__u32 index = start + (__u32)((ring_hash(pkt) >> 32) * rows >> 32);
	struct ring_row *row = bpf_map_lookup_elem(&ring_rows, &index);

	if (!rows || !row)
		return 0;
	return row->current;
}

#endif
