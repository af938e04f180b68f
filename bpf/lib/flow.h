/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The flow table: connection tracking and per-flow counters in one. Per CPU and four-way
 * set-associative: a packet of a known flow touches one cache line and takes no lock, since no other
 * CPU writes this CPU's buckets. A reader in user space merges the CPUs and checks the tag before and
 * after.
 */
#ifndef FAIRLEAD_FLOW_H
#define FAIRLEAD_FLOW_H

#include <stdbool.h>
#include "budget.h"
#include "config.h"
#include "hash.h"
#include "maps.h"

#define FLOW_PACKETS_MASK ((1U << FLOW_STATE_SHIFT) - 1)

struct flow_place {
	struct flow_bucket *bucket;
	__u32 bucket_index;
	__u32 tag;
	int way; /* where the flow's record is, -1: it has none */
};

/*
 * Where the packet's flow lives, if it lives. flow_touch then loads the line before it is needed, so
 * that its cache miss overlaps with the service lookup (bench: tcp4 at 64k flows).
 */
static __always_inline void flow_locate_on(struct flow_place *place, __u64 hash, __u32 cpu)
{
	place->bucket_index = cpu * (flow_bucket_mask + 1) + ((__u32)(hash >> 32) & flow_bucket_mask);
	place->bucket = bpf_map_lookup_elem(&flows_hot, &place->bucket_index);
	place->tag = (__u32)hash;
}

static __always_inline void flow_locate(struct flow_place *place, __u64 hash)
{
	flow_locate_on(place, hash, bpf_get_smp_processor_id());
}

/*
 * Makes the tag the service's, so that one made anew on the same VIP does not inherit the old one's
 * flows. A tag is never 0.
 */
static __always_inline void flow_tag_service(struct flow_place *place, __u32 service)
{
	place->tag ^= service << 16 | service;
	place->tag += !place->tag;
	place->way = -1;
}

/* Loads the line and waits for nothing: see flow_locate. */
static __always_inline void flow_touch(const struct flow_place *place)
{
	if (place->bucket)
		(void)*(volatile __u32 *)&place->bucket->way[0].tag;
}

static __always_inline struct flow_cold *flow_cold_of(const struct flow_place *place)
{
	__u32 index = place->bucket_index * FLOW_WAYS + (place->way & (FLOW_WAYS - 1));

	return bpf_map_lookup_elem(&flows_cold, &index);
}

static __always_inline __u16 flow_seen(__u64 ticks)
{
	return ticks >> FLOW_SEEN_SHIFT;
}

static __always_inline enum flow_state flow_state_of(const struct flow_hot *flow)
{
	return flow->packets_state >> FLOW_STATE_SHIFT & 3;
}

static __always_inline void flow_set_state(struct flow_hot *flow, enum flow_state state)
{
	flow->packets_state = (flow->packets_state & ~(3U << FLOW_STATE_SHIFT)) | state << FLOW_STATE_SHIFT;
}

static __always_inline bool flow_same_key(const struct flow_cold *cold, const struct packet *pkt)
{
	return cold->client[0] == pkt->from[0] && cold->client[1] == pkt->from[1] &&
	       cold->client_port == pkt->from_port && cold->vip_port == pkt->to.port;
}

/*
 * The rare packets of a known flow: SYN, FIN, RST, the second one, and the one that fills the 32-bit
 * counters. False: this is not that flow after all, or a new connection on the same ports.
 */
static __always_inline bool flow_event(struct flow_hot *flow, struct flow_cold *cold,
				       const struct packet *pkt, __u16 now)
{
	enum flow_state state = flow_state_of(flow);

	/* Two flows may share a tag; the next SYN, FIN or RST finds out. */
	if (pkt->tcp_flags & (TCP_SYN | TCP_FIN | TCP_RST) && !flow_same_key(cold, pkt))
		return false;
	if (pkt->tcp_flags & TCP_SYN) {
		/*
		 * A repeated SYN stays where the first one went, and a SYN on a live connection goes to
		 * the backend that can refuse it. On a finished or long silent one it begins a new flow.
		 */
		if (state >= FLOW_CLOSING ||
		    (state == FLOW_ESTABLISHED && (__u16)(now - flow->seen) >= FLOW_RECENT))
			return false;
	} else if (pkt->tcp_flags & TCP_RST) {
		flow_set_state(flow, FLOW_CLOSED);
	} else if (pkt->tcp_flags & TCP_FIN && state < FLOW_CLOSING) {
		flow_set_state(flow, FLOW_CLOSING);
	} else if (state == FLOW_NEW) {
		flow_set_state(flow, FLOW_ESTABLISHED);
		if (!cold->handshake_ns)
			cold->handshake_ns = bpf_ktime_get_ns() - cold->first_ns;
	}
	if (flow->bytes >= FLOW_BYTES_CARRY) {
		cold->bytes += flow->bytes;
		cold->packets += flow->packets_state & FLOW_PACKETS_MASK;
		flow->bytes = 0;
		flow->packets_state = (flow->packets_state & ~FLOW_PACKETS_MASK) | FLOW_CARRIED;
	}
	return true;
}

/* The backend of the packet's flow, or 0 when the table does not know it. Sets place->way. */
static __always_inline __u16 flow_lookup(struct flow_place *place, const struct packet *pkt, __u16 now)
{
	for (int way = 0; way < FLOW_WAYS; way++) {
		if (place->bucket->way[way].tag == place->tag) {
			place->way = way;
			break;
		}
	}
	if (place->way < 0)
		return 0;

	struct flow_hot *flow = &place->bucket->way[place->way & (FLOW_WAYS - 1)];

	if (pkt->tcp_flags & (TCP_SYN | TCP_FIN | TCP_RST) || flow_state_of(flow) == FLOW_NEW ||
	    flow->bytes >= FLOW_BYTES_CARRY) {
		struct flow_cold *cold = flow_cold_of(place);

		if (!cold || !flow_event(flow, cold, pkt, now))
			return 0;
	}
	return flow->backend;
}

/* One more packet of the flow that flow_lookup found. */
static __always_inline void flow_count(const struct flow_place *place, __u32 size, __u16 now)
{
	struct flow_hot *flow = &place->bucket->way[place->way & (FLOW_WAYS - 1)];

	flow->seen = now;
	flow->packets_state++;
	flow->bytes += size;
}

/* The row that the backend of the flow flow_lookup found is a guess from, or 0. */
static __always_inline __u64 flow_unsure(const struct flow_place *place)
{
	if (!(place->bucket->way[place->way & (FLOW_WAYS - 1)].packets_state & FLOW_UNSURE))
		return 0;
	struct flow_cold *cold = flow_cold_of(place);

	return cold ? cold->row : 0;
}

/* The flow that flow_lookup found goes on at another backend. */
static __always_inline void flow_turn(const struct flow_place *place, __u16 backend)
{
	place->bucket->way[place->way & (FLOW_WAYS - 1)].backend = backend;
}

/* How little it would cost to lose this flow: closed, then never established, then idle longest. */
static __always_inline __u32 flow_value(const struct flow_hot *flow, __u16 now)
{
	__u32 rank = 2;

	if (flow_state_of(flow) >= FLOW_CLOSING)
		rank = 0;
	else if (flow_state_of(flow) == FLOW_NEW)
		rank = 1;
	return rank << 16 | (0xffff - (__u16)(now - flow->seen));
}

/*
 * The way a new flow may take, or -1 when all hold recent established flows: it is new itself, and
 * worth less.
 */
static __always_inline int flow_victim(const struct flow_bucket *bucket, __u16 now)
{
	__u32 least = 2 << 16 | (0xffff - FLOW_RECENT + 1);
	int victim = -1;

	for (int way = 0; way < FLOW_WAYS; way++) {
		if (!bucket->way[way].tag)
			return way;
		__u32 value = flow_value(&bucket->way[way], now);
		if (value < least) {
			least = value;
			victim = way;
		}
	}
	return victim;
}

static __always_inline bool flow_budget_left(__u16 service, __u64 ticks)
{
	struct budget *budget = budget_of(&flow_budgets, service, ticks);

	return budget && budget->used < flow_budget_per_window;
}

static __always_inline void flow_write(const struct flow_place *place, const struct packet *pkt,
				       __u16 service, __u16 backend, __u64 unsure, __u16 now)
{
	struct flow_hot *flow = &place->bucket->way[place->way & (FLOW_WAYS - 1)];
	struct flow_cold *cold = flow_cold_of(place);

	if (!cold)
		return;
	/* Free while the cold half is not this flow's: a reader checks the tag on both sides. */
	*(volatile __u32 *)&flow->tag = 0;
	cold->client[0] = pkt->from[0];
	cold->client[1] = pkt->from[1];
	cold->client_port = pkt->from_port;
	cold->vip_port = pkt->to.port;
	cold->service = service;
	cold->protocol = pkt->to.protocol;
	cold->family = pkt->to.family;
	cold->packets = 0;
	cold->bytes = 0;
	cold->first_ns = bpf_ktime_get_ns();
	cold->handshake_ns = pkt->tcp_flags & TCP_SYN ? 0 : ~0ULL;
	cold->row = unsure;
	flow->backend = backend;
	flow->seen = now;
	flow->packets_state = FLOW_NEW << FLOW_STATE_SHIFT | 1 | (unsure ? FLOW_UNSURE : 0);
	flow->bytes = pkt->size;
	*(volatile __u32 *)&flow->tag = place->tag;
}

/*
 * The backend of a flow wherever it passed, or 0: all CPUs' records are looked at and the whole key is
 * compared. For packets that are not the flow's own.
 */
__noinline __u32 flow_owner(const struct packet *flow, __u32 service)
{
	if (!flow)
		return 0;

	struct flow_place place;
	__u64 hash = flow_hash(flow);

	for (__u32 cpu = 0; cpu < cpu_count; cpu++) {
		flow_locate_on(&place, hash, cpu);
		if (!place.bucket)
			return 0;
		flow_tag_service(&place, service);
		for (int way = 0; way < FLOW_WAYS; way++) {
			if (place.bucket->way[way].tag != place.tag)
				continue;
			place.way = way;
			struct flow_cold *cold = flow_cold_of(&place);

			if (cold && flow_same_key(cold, flow))
				return place.bucket->way[way].backend;
		}
	}
	return 0;
}

/*
 * Whether a flow that flow_lookup did not find can be remembered, and then in which way: not over the
 * service's budget, and not when its bucket is full of recent established flows.
 */
static __always_inline bool flow_room(struct flow_place *place, __u16 service, __u64 ticks)
{
	__u32 zero = 0;
	struct flow_stats *stats = bpf_map_lookup_elem(&flow_table_stats, &zero);

	if (!stats)
		return false;
	stats->misses++;
	if (!flow_budget_left(service, ticks)) {
		stats->over_budget++;
		return false;
	}
	/* A record found but outlived is written over. */
	if (place->way >= 0)
		return true;
	place->way = flow_victim(place->bucket, flow_seen(ticks));
	if (place->way < 0) {
		stats->bucket_full++;
		return false;
	}
	return true;
}

/*
 * Remembers a flow whose first packet this is, where flow_room found a place. `unsure`: the row that the
 * backend is a guess from, or 0.
 */
static __always_inline void flow_insert(struct flow_place *place, const struct packet *pkt, __u16 service,
					__u16 backend, __u64 unsure, __u64 ticks)
{
	__u32 zero = 0;
	struct flow_stats *stats = bpf_map_lookup_elem(&flow_table_stats, &zero);
	struct budget *budget = budget_of(&flow_budgets, service, ticks);
	__u32 tag = place->bucket->way[place->way & (FLOW_WAYS - 1)].tag;

	if (!stats || !budget)
		return;
	stats->evictions += tag && tag != place->tag;
	stats->inserts++;
	budget->used++;
	flow_write(place, pkt, service, backend, unsure, flow_seen(ticks));
}

#endif
