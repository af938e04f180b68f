/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Which backend takes the packet: that of its connection ID, its flow, or the ring. */
#ifndef FAIRLEAD_CHOOSE_H
#define FAIRLEAD_CHOOSE_H

#include "flow.h"
#include "quic.h"
#include "ring.h"
#include "send.h"

struct choice {
	struct backend *to; /* NULL: none can take it */
	__u32 number;
	bool begins; /* the packet begins a connection */
};

static __always_inline struct choice choose_number(const struct service *service, __u32 number)
{
	return (struct choice){.to = backend_of(service, number), .number = number};
}

/* The server the packet's connection ID names, if it takes packets. */
static __always_inline struct choice choose_quic(struct xdp_md *ctx, const struct packet *pkt,
						 const struct service *service)
{
	__u64 found =
		quic_server(ctx, pkt->l2_size + pkt->l4_offset, pkt->size - pkt->l4_offset, service->pool);
	struct choice choice = choose_number(service, (__u32)found);

	count_tally(service->number, choice.to ? TALLY_QUIC_ROUTED : found >> 32);
	return choice;
}

/*
 * The flow's backend, or `named` if that takes packets, or the ring's; remembered where there is room.
 * `flags`: enum service_flag. `place` is where the flow's record would be (flow_locate).
 */
static __always_inline struct choice choose_flow(const struct packet *pkt, const struct service *service,
						 struct flow_place *place, __u32 flags, struct choice named)
{
	/* Inlined to one load; a clock would be a call of some 10 ns on every packet. */
	__u64 ticks = bpf_jiffies64();
	bool syn = pkt->tcp_flags & TCP_SYN;
	struct choice choice = {};

	flow_tag_service(place, service->number);
	/* Over the budget a SYN does not even look: the ring decides, and a flood costs no cache line. */
	if (!syn || flow_budget_left(service->number, ticks))
		choice = choose_number(service, flow_lookup(place, pkt, flow_seen(ticks)));
	if (choice.to) {
		flow_count(place, pkt->size, flow_seen(ticks));
		if (!named.to)
			return choice;
		flow_turn(place, named.number);
		return named;
	}
	choice = named.to ? named : choose_number(service, ring_choose(pkt, service, flags));
	if (choice.to) {
		bool inserted = flow_insert(place, pkt, service->number, choice.number, ticks);

		choice.begins = syn || (inserted && pkt->to.protocol == IPPROTO_UDP);
	}
	return choice;
}

/* For services that want more than their flows remembered. */
static __always_inline struct choice choose(struct xdp_md *ctx, const struct packet *pkt,
					    const struct service *service, struct flow_place *place)
{
	__u32 flags = flags_of(service);
	struct choice named = {};

	if (flags & SERVICE_QUIC)
		named = choose_quic(ctx, pkt, service);
	if (flags & SERVICE_STATELESS)
		return named.to ? named : choose_number(service, ring_choose(pkt, service, flags));
	return choose_flow(pkt, service, place, flags, named);
}

#endif
