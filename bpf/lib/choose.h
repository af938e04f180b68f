/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Which backend takes the packet: the flow's, or the ring's. */
#ifndef FAIRLEAD_CHOOSE_H
#define FAIRLEAD_CHOOSE_H

#include "flow.h"
#include "ring.h"
#include "send.h"

/*
 * `place` is where the flow's record would be (flow_locate). NULL: none can take it. `begins`: this packet begins a
 * connection.
 */
static __always_inline struct backend *choose(const struct packet *pkt, const struct service *service,
					      struct flow_place *place, bool *begins)
{
	/* Inlined to one load; a clock would be a call of some 10 ns on every packet. */
	__u64 ticks = bpf_jiffies64();
	bool syn = pkt->tcp_flags & TCP_SYN;
	struct backend *to = NULL;

	if (flags_of(service) & SERVICE_STATELESS)
		return backend_of(service, ring_choose(pkt, service));
	flow_tag_service(place, service->number);
	/* Over the budget a SYN does not even look: the ring decides, and a flood costs no cache line. */
	if (!syn || flow_budget_left(service->number, ticks))
		to = backend_of(service, flow_lookup(place, pkt, flow_seen(ticks)));
	if (to) {
		flow_count(place, pkt->size, flow_seen(ticks));
		return to;
	}
	__u16 chosen = ring_choose(pkt, service);

	to = backend_of(service, chosen);
	if (to) {
		bool inserted = flow_insert(place, pkt, service->number, chosen, ticks);

		*begins = syn || (inserted && pkt->to.protocol == IPPROTO_UDP);
	}
	return to;
}

#endif
