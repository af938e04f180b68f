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
	bool older;  /* it is of a connection that may be older than the row's last change */
	__u64 row;   /* `to` is a guess from it; 0: it is not, or nobody could pass the packet on */
};

static __always_inline struct choice choose_number(const struct service *service, __u32 number)
{
	return (struct choice){.to = backend_of(service, number), .number = number};
}

/* By what is remembered of a flow. One that can go on elsewhere (`anew`) does not stay with a backend that is
 * down. */
static __always_inline struct choice choose_known(const struct service *service, __u32 number, bool anew)
{
	struct choice choice = choose_number(service, number);

	if (anew && choice.to && choice.to->flags & BACKEND_DOWN)
		choice.to = NULL;
	return choice;
}

/*
 * The newest previous owner of a row in transition that still takes packets: its number, or 0. Not one that
 * is down: who has no record of a connection anywhere is better off with an RST than with silence.
 */
__noinline __u32 previous_owner(__u64 row, __u32 flags)
{
	struct service service = {.flags = flags};

	for (row >>= 16; row; row >>= 16) {
		const struct backend *owner = backend_of(&service, (__u16)row);

		if (owner && !(owner->flags & BACKEND_DOWN))
			return (__u16)row;
	}
	return 0;
}

/*
 * The row's owner for this packet. What begins goes to the current one. What is `older` than the last change
 * began at a previous one; a row without those is stable, and all packets of a flow have always gone where it
 * says.
 */
static __always_inline struct choice choose_row(const struct service *service, __u64 row, bool older)
{
	__u32 number = row_current(row);

	if (older && row >> 16) {
		__u32 previous = previous_owner(row, flags_of(service));

		if (previous)
			number = previous;
	}
	return choose_number(service, number);
}

/* The server the packet's connection ID names, if it takes packets. */
static __always_inline struct choice choose_quic(struct xdp_md *ctx, const struct packet *pkt,
						 const struct service *service)
{
	__u64 found =
		quic_server(ctx, pkt->l2_size + pkt->l4_offset, pkt->size - pkt->l4_offset, service->pool);
	struct choice choice = choose_number(service, (__u32)found);

	choice.older = found >> 32 != TALLY_QUIC_INITIAL;
	count_tally(service->number, choice.to ? TALLY_QUIC_ROUTED : found >> 32);
	return choice;
}

/*
 * The backend of a flow that has been on another CPU until now. Worth a look at all of them only where the
 * row cannot tell (on a stable one it is the same anyway), and once, when it is to be remembered here.
 */
static __always_inline struct choice choose_moved(const struct packet *pkt, const struct service *service)
{
	struct packet *flow = scratch(SCRATCH_QUOTED);

	if (!flow)
		return (struct choice){};
	flow->to = pkt->to;
	flow->from[0] = pkt->from[0];
	flow->from[1] = pkt->from[1];
	flow->from_port = pkt->from_port;
	return choose_known(service, flow_owner(flow, service->number), pkt->to.protocol != IPPROTO_TCP);
}

/* Whether the backend could pass the packet on, if it is not its own: its agent looks for the socket. */
static __always_inline bool can_pass_on(const struct packet *pkt, const struct service *service)
{
	return flags_of(service) & SERVICE_GUE && pkt->to.protocol == IPPROTO_TCP &&
	       !(pkt->tcp_flags & TCP_SYN) && !pkt->fragment;
}

/*
 * The flow's backend, or `named` if that takes packets, or its row's; remembered where there is room.
 * `flags`: enum service_flag. `place` is where the flow's record would be (flow_locate). `brief`: a choice
 * with a row has not been made yet, and nothing counted; the long way is to make it.
 */
static __always_inline struct choice choose_flow(const struct packet *pkt, const struct service *service,
						 struct flow_place *place, __u32 flags, struct choice named,
						 bool brief)
{
	/* Inlined to one load; a clock would be a call of some 10 ns on every packet. */
	__u64 ticks = bpf_jiffies64();
	bool tcp = pkt->to.protocol == IPPROTO_TCP;
	bool syn = pkt->tcp_flags & TCP_SYN;
	bool began = false;
	struct choice choice = {};
	__u64 row = 0;

	flow_tag_service(place, service->number);
	/* Over the budget a SYN does not even look: the ring decides, and a flood costs no cache line. */
	if (!syn || flow_budget_left(service->number, ticks))
		choice = choose_known(service, flow_lookup(place, pkt, flow_seen(ticks)), syn || !tcp);
	if (choice.to) {
		if (can_pass_on(pkt, service)) {
			choice.row = flow_unsure(place);
			if (brief && choice.row)
				return choice;
		}
		flow_count(place, pkt->size, flow_seen(ticks));
		if (!named.to)
			return choice;
		flow_turn(place, named.number);
		return named;
	}
	if (!named.to)
		row = ring_row_of(pkt, service, flags);
	if (row >> 16 && can_pass_on(pkt, service))
		choice.row = row;
	if (brief && choice.row)
		return choice;
	__u64 unsure = choice.row;
	bool room = flow_room(place, service->number, ticks);
	/* A SYN that cannot be remembered goes where the rest of its connection will. */
	bool older = tcp ? !syn || !room : named.older;

	if (named.to)
		choice = named;
	else if (room && row >> 16 && !syn)
		choice = choose_moved(pkt, service);
	if (!named.to) {
		began = choice.to;
		if (!began)
			choice = choose_row(service, row, older);
	}
	if (!choice.to)
		return choice;
	choice.row = unsure;
	if (room)
		flow_insert(place, pkt, service->number, choice.number, unsure, ticks);
	choice.begins = syn || (room && !tcp && !began);
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
	if (!(flags & SERVICE_STATELESS))
		return choose_flow(pkt, service, place, flags, named, false);
	/* Without a memory old and new cannot be told apart: all go where the new ones do. */
	return named.to ? named : choose_row(service, ring_row_of(pkt, service, flags), false);
}

#endif
