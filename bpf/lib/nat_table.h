/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The connections of NAT: ids, the index that finds one by its packets' tuple in either direction, and what they take
 * from the pools. Shared by all CPUs without a lock: what two of them may want is taken by compare-and-swap.
 */
#ifndef FAIRLEAD_NAT_TABLE_H
#define FAIRLEAD_NAT_TABLE_H

#include <stdbool.h>
#include "hash.h"
#include "nat_maps.h"

/* Buckets - 1, a power of two - 1; connections there is room for. */
const volatile __u32 nat_bucket_mask = 0;
const volatile __u32 nat_room = 0;

#define NAT_NONE 0xffffffffU
#define NAT_TRIES 8

static __always_inline struct nat_connection *nat_connection(__u32 id)
{
	return bpf_map_lookup_elem(&nat_connections, &id);
}

/* Takes one of a pool; NAT_NONE when it is empty, or eight others were faster. */
static __always_inline __u32 nat_take(__u32 pool)
{
	struct nat_pool *from = bpf_map_lookup_elem(&nat_pools, &pool);

	if (!from)
		return NAT_NONE;
	for (int try = 0; try < NAT_TRIES; try++) {
		__u64 head = *(volatile __u64 *)&from->head;

		if (head == *(volatile __u64 *)&from->tail)
			return NAT_NONE;
		__u32 at = from->start + ((__u32)head & from->mask);
		__u32 *entry = bpf_map_lookup_elem(&nat_ring, &at);

		if (!entry)
			return NAT_NONE;
		/* Nobody overwrites it before it is taken: a pool has no more entries than its queue has room for. */
		__u32 value = *(volatile __u32 *)entry;

		if (__sync_val_compare_and_swap(&from->head, head, head + 1) == head)
			return value;
	}
	return NAT_NONE;
}

/* Puts one back. The sweep alone may: two at a time would meet. */
static __always_inline void nat_put(__u32 pool, __u32 value)
{
	struct nat_pool *to = bpf_map_lookup_elem(&nat_pools, &pool);

	if (!to)
		return;
	__u32 at = to->start + ((__u32)to->tail & to->mask);
	__u32 *entry = bpf_map_lookup_elem(&nat_ring, &at);

	if (!entry)
		return;
	*(volatile __u32 *)entry = value;
	__sync_fetch_and_add(&to->tail, 1); /* a barrier: the entry is there before it can be taken */
}

/* An id that no connection has; NAT_NONE: there is no room. */
static __always_inline __u32 nat_id_take(void)
{
	__u32 zero = 0, id = nat_take(0);
	struct nat_counts *counts = bpf_map_lookup_elem(&nat_counts, &zero);

	if (id != NAT_NONE || !counts)
		return id;
	if (*(volatile __u32 *)&counts->used >= nat_room)
		return NAT_NONE;
	id = __sync_fetch_and_add(&counts->used, 1);
	return id < nat_room ? id : NAT_NONE;
}

/* Whether the connection's packets that go this way look so. */
static __always_inline bool nat_is(const struct nat_connection *nat, __u32 way, const struct packet *pkt)
{
	if (nat->protocol != pkt->to.protocol || nat->state == NAT_FREE || nat->state == NAT_GONE)
		return false;
	if (way == NAT_REPLY)
		return nat->backend_family == pkt->to.family && nat->backend_port == pkt->from_port &&
		       nat->source_port == pkt->to.port && nat->backend_address[0] == pkt->from[0] &&
		       nat->backend_address[1] == pkt->from[1] && nat->source[0] == pkt->to.address[0] &&
		       nat->source[1] == pkt->to.address[1];
	if (nat->client_family != pkt->to.family || nat->client_port != pkt->from_port ||
	    nat->vip_port != pkt->to.port || nat->client[0] != pkt->from[0] ||
	    nat->client[1] != pkt->from[1])
		return false;
	if (!nat->service)
		return nat->backend_address[0] == pkt->to.address[0] &&
		       nat->backend_address[1] == pkt->to.address[1];
	__u32 number = nat->service;
	struct nat_service *service = bpf_map_lookup_elem(&nat_services, &number);

	return service && service->address[0] == pkt->to.address[0] &&
	       service->address[1] == pkt->to.address[1];
}

/* Where in the index a tuple is: two buckets, and its tag there. */
struct nat_place {
	__u32 bucket[2];
	__u32 tag; /* never 0 */
};

static __always_inline void nat_place(struct nat_place *place, __u64 hash)
{
	place->tag = (__u32)hash | !(__u32)hash;
	place->bucket[0] = (__u32)(hash >> 32) & nat_bucket_mask;
	place->bucket[1] = (place->bucket[0] ^ place->tag * 0x5bd1e995) & nat_bucket_mask;
}

struct nat_found {
	struct nat_connection *nat; /* NULL: none */
	__u32 id;
	__u32 way; /* enum nat_way */
};

/* The connection that a packet belongs to. */
static __always_inline struct nat_found nat_find(const struct nat_place *place, const struct packet *pkt)
{
	for (int half = 0; half < 2; half++) {
		__u32 index = place->bucket[half];
		struct nat_bucket *bucket = bpf_map_lookup_elem(&nat_index, &index);

		if (!bucket)
			break;
		for (int at = 0; at < NAT_SLOTS; at++) {
			__u64 slot = *(volatile __u64 *)&bucket->slot[at];

			if ((__u32)slot != place->tag)
				continue;
			__u32 id = slot >> 33, way = slot >> 32 & 1;
			struct nat_connection *nat = nat_connection(id);

			if (nat && nat_is(nat, way, pkt))
				return (struct nat_found){nat, id, way};
		}
	}
	return (struct nat_found){};
}

static __always_inline __u64 nat_slot(const struct nat_place *place, __u32 id, __u32 way)
{
	return (__u64)id << 33 | (__u64)way << 32 | place->tag;
}

static __always_inline int nat_free_slots(const struct nat_bucket *bucket)
{
	int count = 0;

	for (int at = 0; at < NAT_SLOTS; at++)
		count += !bucket->slot[at];
	return count;
}

/* Into the emptier of its two buckets (Azar et al., "Balanced allocations", 1994); false: both are full. */
static __always_inline bool nat_link(const struct nat_place *place, __u32 id, __u32 way)
{
	__u64 value = nat_slot(place, id, way);
	__u32 first = place->bucket[0], second = place->bucket[1];
	struct nat_bucket *one = bpf_map_lookup_elem(&nat_index, &first);
	struct nat_bucket *other = bpf_map_lookup_elem(&nat_index, &second);

	if (!one || !other)
		return false;
	if (nat_free_slots(other) > nat_free_slots(one)) {
		struct nat_bucket *swap = one;

		one = other;
		other = swap;
	}
	for (int at = 0; at < NAT_SLOTS; at++)
		if (!one->slot[at] && !__sync_val_compare_and_swap(&one->slot[at], 0, value))
			return true;
	for (int at = 0; at < NAT_SLOTS; at++)
		if (!other->slot[at] && !__sync_val_compare_and_swap(&other->slot[at], 0, value))
			return true;
	return false;
}

static __always_inline void nat_unlink(const struct nat_place *place, __u32 id, __u32 way)
{
	__u64 value = nat_slot(place, id, way);

	for (int half = 0; half < 2; half++) {
		__u32 index = place->bucket[half];
		struct nat_bucket *bucket = bpf_map_lookup_elem(&nat_index, &index);

		for (int at = 0; bucket && at < NAT_SLOTS; at++)
			if (bucket->slot[at] == value)
				__sync_val_compare_and_swap(&bucket->slot[at], value, 0);
	}
}

/* What the connection's packets look like this way, as far as flow_hash asks. */
static __always_inline void nat_tuple(struct packet *pkt, const struct nat_connection *nat, __u32 way)
{
	__u32 number = nat->service;
	struct nat_service *service = bpf_map_lookup_elem(&nat_services, &number);

	pkt->to.protocol = nat->protocol;
	if (way == NAT_REPLY) {
		pkt->to.family = nat->backend_family;
		pkt->from_port = nat->backend_port;
		pkt->to.port = nat->source_port;
		pkt->from[0] = nat->backend_address[0];
		pkt->from[1] = nat->backend_address[1];
		pkt->to.address[0] = nat->source[0];
		pkt->to.address[1] = nat->source[1];
		return;
	}
	pkt->to.family = nat->client_family;
	pkt->from_port = nat->client_port;
	pkt->to.port = nat->vip_port;
	pkt->from[0] = nat->client[0];
	pkt->from[1] = nat->client[1];
	pkt->to.address[0] = nat->service && service ? service->address[0] : nat->backend_address[0];
	pkt->to.address[1] = nat->service && service ? service->address[1] : nat->backend_address[1];
}

/* Takes a connection out of the index. Nobody finds it any more; the sweep frees it once nobody is at it. */
static __always_inline void nat_end(struct nat_connection *nat, __u32 id, __u32 ticks)
{
	struct packet pkt = {};
	struct nat_place place;

	for (__u32 way = 0; way < 2; way++) {
		nat_tuple(&pkt, nat, way);
		nat_place(&place, flow_hash(&pkt));
		nat_unlink(&place, id, way);
	}
	nat->seen = ticks;
	nat->state = NAT_GONE;
}

#endif
