/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The connections of NAT: ids, the index that finds one by its packets' tuple in either direction, and what
 * they take from the pools. Shared by all CPUs without a lock: what two of them may want is taken by
 * compare-and-swap.
 */
#ifndef FAIRLEAD_NAT_TABLE_H
#define FAIRLEAD_NAT_TABLE_H

#include <stdbool.h>
#include "hash.h"
#include "nat_maps.h"

/* Connections there is room for, a power of two. */
const volatile __u32 nat_room = 0;
/* First 96 bits of the addresses that stand for IPv4 ones where sources stay (RFC 6052). */
const volatile __be32 nat_prefix[3] = {};

#define NAT_NONE 0xffffffffU
#define NAT_TRIES 8

static __always_inline struct nat_connection *nat_connection(__u32 id)
{
	return bpf_map_lookup_elem(&nat_connections, &id);
}

static __always_inline struct nat_detail *nat_detail(__u32 id)
{
	return bpf_map_lookup_elem(&nat_details, &id);
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
		/* Nobody overwrites it before it is taken: a pool has no more entries than its queue has room
		 * for. */
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

static __always_inline bool same_address(const __be64 *one, const __be64 *other)
{
	return one[0] == other[0] && one[1] == other[1];
}

/*
 * From here on functions of their own, with plain arguments, are verified once and not once for each way to
 * them.
 *
 * Whether the addresses of the connection's packets that go this way are these: of all families. Apart, for
 * what is not IPv4.
 */
__noinline int nat_is_between(__u32 id, __u32 way, const struct packet *pkt)
{
	struct nat_connection *nat = nat_connection(id);
	struct nat_detail *detail = nat_detail(id);

	if (!nat || !detail || !pkt)
		return false;
	if (way == NAT_REPLY)
		return same_address(detail->backend_address, pkt->from) &&
		       same_address(detail->source, pkt->to.address);
	return same_address(detail->client, pkt->from) &&
	       (nat->service || same_address(detail->backend_address, pkt->to.address));
}

/* Whether the connection's packets that go this way look so. */
__noinline int nat_is(__u32 id, __u32 way, const struct packet *pkt)
{
	struct nat_connection *nat = nat_connection(id);

	if (!nat || !pkt || nat->protocol != pkt->to.protocol || nat->state == NAT_FREE ||
	    nat->state == NAT_GONE)
		return false;
	__be32 from = pkt->from[0], to = pkt->to.address[0];
	bool ipv4 = pkt->to.family == FAMILY_IPV4;

	if (way == NAT_REPLY)
		return nat->backend_family == pkt->to.family && nat->backend_port == pkt->from_port &&
		       nat->source_port == pkt->to.port &&
		       (ipv4 ? nat->backend4 == from && nat->source4 == to : nat_is_between(id, way, pkt));
	if (nat->client_family != pkt->to.family || nat->client_port != pkt->from_port ||
	    nat->vip_port != pkt->to.port)
		return false;
	if (ipv4 ? nat->client4 != from || (!nat->service && nat->backend4 != to)
		 : !nat_is_between(id, way, pkt))
		return false;
	if (!nat->service)
		return true;
	__u32 number = nat->service;
	struct nat_service *service = bpf_map_lookup_elem(&nat_services, &number);

	return service && same_address(service->address, pkt->to.address);
}

/* Bits of a slot that say which connection and way; the others are of the tag, which is never 0 there. */
#define NAT_SLOT_ID (2 * nat_room - 1)

static __always_inline __u32 nat_tag(__u64 hash)
{
	__u32 tag = (__u32)hash & ~NAT_SLOT_ID;

	return tag ? tag : NAT_SLOT_ID + 1;
}

/*
 * At full load there are 32 tuples for each of the first buckets, of which 15 find room in it, and less than
 * 9 for each of the others, of which they take the emptier one (Azar et al., "Balanced allocations", 1994).
 */
#define NAT_FIRST (nat_room / 16)
#define NAT_OTHERS (nat_room / 8)
#define NAT_BUCKETS 3 /* of a tuple */

static __always_inline struct nat_bucket *nat_bucket(__u64 hash, __u32 turn)
{
	__u32 index = (__u32)(hash >> 32) & (NAT_FIRST - 1);

	if (turn > 0) {
		index = hash * 0x9e3779b97f4a7c15ULL >> 40;
		if (turn > 1)
			index ^= nat_tag(hash) * 0x5bd1e995 >> 8;
		index = NAT_FIRST + (index & (NAT_OTHERS - 1));
	}
	return bpf_map_lookup_elem(&nat_index, &index);
}

/* Of a bucket's slots the one where the search for this hash begins, and those that follow. The one that
 * counts is among them, and never looks like one that is looked for. */
static __always_inline __u32 *nat_slot(struct nat_bucket *bucket, __u64 hash, __u32 at)
{
	__u32 place = (__u32)hash ^ at;

	asm volatile("" : "+r"(place)); /* the verifier of 6.1 knows a bound by the last mask only */
	return &bucket->slot[place % NAT_SLOTS];
}

/* What a slot holds of a connection. */
static __always_inline __u32 nat_entry(__u64 hash, __u32 id, __u32 way)
{
	return nat_tag(hash) | id << 1 | way;
}

#define NAT_FOUND 1 /* of what nat_find says; above it the way, and the id */

/* The connection that a packet with this flow_hash belongs to: id << 2 | way << 1 | NAT_FOUND, or 0. */
__noinline __u64 nat_find(const struct packet *pkt, __u64 hash)
{
	if (!pkt)
		return 0;
	for (__u32 turn = 0; turn < NAT_BUCKETS; turn++) {
		struct nat_bucket *bucket = nat_bucket(hash, turn);

		if (!bucket)
			return 0;
		for (int at = 0; at < NAT_SLOTS; at++) {
			__u32 entry = *(volatile __u32 *)nat_slot(bucket, hash, at);
			__u32 place = entry & NAT_SLOT_ID;

			if ((entry ^ place) == nat_tag(hash) && nat_is(place >> 1, place & 1, pkt))
				return (__u64)place << 1 | NAT_FOUND;
		}
		if (!*(volatile __u32 *)&bucket->slot[NAT_AWAY])
			return 0;
	}
	return 0;
}

/* Without a branch for each: the verifier would go all ways. */
static __always_inline __u32 nat_used_slots(const struct nat_bucket *bucket)
{
	__u32 count = 0;

	for (int at = 0; at < NAT_AWAY; at++) {
		__u32 entry = bucket->slot[at], negative = -entry;

		asm volatile("" : "+r"(negative)); /* or clang finds the branch in it */
		count += (entry | negative) >> 31;
	}
	return count;
}

static __always_inline bool nat_link_in(struct nat_bucket *bucket, __u64 hash, __u32 entry)
{
	for (int at = 0; at < NAT_SLOTS; at++) {
		__u32 *slot = nat_slot(bucket, hash, at);

		if (!*slot && ((__u32)hash ^ at) % NAT_SLOTS != NAT_AWAY &&
		    !__sync_val_compare_and_swap(slot, 0, entry))
			return true;
	}
	return false;
}

static __always_inline bool nat_link_away(struct nat_bucket *from, struct nat_bucket *to, __u64 hash,
					  __u32 entry)
{
	__sync_fetch_and_add(&from->slot[NAT_AWAY], 1);
	if (nat_link_in(to, hash, entry))
		return true;
	__sync_fetch_and_sub(&from->slot[NAT_AWAY], 1);
	return false;
}

/* False: its buckets are full. */
__noinline int nat_link(__u64 hash, __u32 id, __u32 way)
{
	struct nat_bucket *first = nat_bucket(hash, 0), *one = nat_bucket(hash, 1),
			  *other = nat_bucket(hash, 2);
	__u32 entry = nat_entry(hash, id, way);

	if (!first || !one || !other)
		return false;
	if (nat_link_in(first, hash, entry))
		return true;
	__sync_fetch_and_add(&first->slot[NAT_AWAY], 1);
	__u32 used = nat_used_slots(one);

	if (used >= NAT_AWAY / 2 && nat_used_slots(other) < used && nat_link_away(one, other, hash, entry))
		return true;
	if (nat_link_in(one, hash, entry) || nat_link_away(one, other, hash, entry))
		return true;
	__sync_fetch_and_sub(&first->slot[NAT_AWAY], 1);
	return false;
}

static __always_inline bool nat_unlink_in(struct nat_bucket *bucket, __u64 hash, __u32 entry)
{
	for (int at = 0; at < NAT_SLOTS; at++) {
		__u32 *slot = nat_slot(bucket, hash, at);

		if (*slot == entry && __sync_val_compare_and_swap(slot, entry, 0) == entry)
			return true;
	}
	return false;
}

__noinline int nat_unlink(__u64 hash, __u32 id, __u32 way)
{
	struct nat_bucket *first = nat_bucket(hash, 0), *one = nat_bucket(hash, 1),
			  *other = nat_bucket(hash, 2);
	__u32 entry = nat_entry(hash, id, way);

	if (!first || !one || !other || nat_unlink_in(first, hash, entry) || !first->slot[NAT_AWAY])
		return 0;
	if (!nat_unlink_in(one, hash, entry)) {
		if (!one->slot[NAT_AWAY] || !nat_unlink_in(other, hash, entry))
			return 0;
		__sync_fetch_and_sub(&one->slot[NAT_AWAY], 1);
	}
	__sync_fetch_and_sub(&first->slot[NAT_AWAY], 1);
	return 0;
}

/* flow_hash of the connection's packets this way. */
__noinline __u64 nat_hash(__u32 id, __u32 way)
{
	struct nat_connection *nat = nat_connection(id);
	struct nat_detail *detail = nat_detail(id);
	struct packet pkt = {};

	if (!nat || !detail)
		return 0;
	__u32 number = nat->service;
	struct nat_service *service = bpf_map_lookup_elem(&nat_services, &number);

	pkt.to.protocol = nat->protocol;
	if (way == NAT_REPLY) {
		pkt.to.family = nat->backend_family;
		pkt.from_port = nat->backend_port;
		pkt.to.port = nat->source_port;
		copy_address(pkt.from, detail->backend_address);
		copy_address(pkt.to.address, detail->source);
	} else {
		pkt.to.family = nat->client_family;
		pkt.from_port = nat->client_port;
		pkt.to.port = nat->vip_port;
		copy_address(pkt.from, detail->client);
		copy_address(pkt.to.address,
			     nat->service && service ? service->address : detail->backend_address);
	}
	return flow_hash(&pkt);
}

/* Takes a connection out of the index. Nobody finds it any more; the sweep frees it once nobody is at it. */
__noinline int nat_end(__u32 id, __u32 ticks)
{
	struct nat_connection *nat = nat_connection(id);

	if (!nat)
		return 0;
	nat_unlink(nat_hash(id, NAT_REQUEST), id, NAT_REQUEST);
	nat_unlink(nat_hash(id, NAT_REPLY), id, NAT_REPLY);
	nat->seen = ticks;
	nat->state = NAT_GONE;
	return 0;
}

#endif
