/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Fragments: all of a datagram go to one backend, in whatever order they come, and none waits for another
 * (docs/packet-path.md, "Fragments").
 */
#ifndef FAIRLEAD_FRAGMENT_H
#define FAIRLEAD_FRAGMENT_H

#include "choose.h"
#include "fragment_key.h"
#include "guard.h"

/* What is remembered and not too old to be true. */
static __always_inline struct fragment *fragment_find(const struct packet *pkt, enum fragment_kind kind)
{
	struct fragment_key key = fragment_key(pkt, kind);
	struct fragment *found = bpf_map_lookup_elem(&fragments, &key);

	if (found && ((__u32)bpf_jiffies64() - found->ticks) >> FRAGMENT_LIFE_TICKS_SHIFT)
		return NULL;
	return found;
}

static __always_inline void fragment_remember(const struct packet *pkt, enum fragment_kind kind,
					      const struct service *service, __u16 backend, bool early)
{
	struct fragment_key key = fragment_key(pkt, kind);
	struct fragment value = {
		.service = *service, .backend = backend, .early = early, .ticks = bpf_jiffies64()};

	bpf_map_update_elem(&fragments, &key, &value, BPF_ANY);
}

/* A packet of its flow with ports, whose datagram follows it to `choice`; unless that is under way already.
 */
static __always_inline void first_fragment(const struct packet *pkt, const struct service *service,
					   struct choice *choice)
{
	struct fragment *known = fragment_find(pkt, FRAGMENT_DATAGRAM);

	if (known && known->early && known->service.pool == service->pool &&
	    backend_of(service, known->backend)) {
		choice->number = known->backend;
		choice->to = backend_of(service, known->backend);
	}
	if (!choice->to)
		return;
	fragment_remember(pkt, FRAGMENT_DATAGRAM, service, choice->number, false);
	fragment_remember(pkt, FRAGMENT_PAIR, service, choice->number, false);
}

/* A first fragment that is left to tc_nat: so are those of its datagram. */
static __always_inline void fragment_leave(const struct packet *pkt, const struct service *service)
{
	fragment_remember(pkt, FRAGMENT_DATAGRAM, service, 0, false);
	fragment_remember(pkt, FRAGMENT_PAIR, service, 0, false);
}

/* The one service its VIP has for its protocol, and that one's backend for its client. */
static __always_inline struct choice choose_early(const struct packet *pkt, struct service *service)
{
	struct service_key key = pkt->to;

	key.port = 0;
	key.kind = KEY_FRAGMENTS;
	if (!service_find(&key, service))
		return (struct choice){};
	/* With affinity to the source no ports are missing: where all its packets go. */
	__u64 row =
		flags_of(service) & SERVICE_SOURCE
			? ring_row_of(pkt, service, SERVICE_SOURCE)
			: ring_row(service->pool, source_hash(pkt->to.family, pkt->from[0], pkt->from[1]));

	return choose_row(service, row, false);
}

/* Without ports: where its datagram goes, or else would most likely go. */
static __always_inline int later_fragment(struct errand *errand)
{
	const struct packet *pkt = &errand->pkt;
	struct service *service = &errand->service;
	struct fragment *known = fragment_find(pkt, FRAGMENT_DATAGRAM);
	bool early = !known;
	struct choice choice = {};

	if (!known)
		known = fragment_find(pkt, FRAGMENT_PAIR);
	if (known) {
		*service = known->service;
		choice = choose_number(service, known->backend);
	}
	if (!choice.to && !(flags_of(service) & SERVICE_NAT)) {
		early = true;
		choice = choose_early(pkt, service);
	}
	bool nat = flags_of(service) & SERVICE_NAT;

	if (!choice.to && !nat)
		return finish(REASON_FRAGMENT, service->number, 0);
	enum reason reason = guard(pkt, service->number, flags_of(service));
	if (reason == REASON_FORWARDED && nat)
		reason = REASON_NAT;
	if (reason != REASON_FORWARDED)
		return finish(reason, service->number, 0);
	if (early)
		fragment_remember(pkt, FRAGMENT_DATAGRAM, service, choice.number, true);
	count_tally(service->number, early ? TALLY_FRAGMENT_EARLY : TALLY_FRAGMENT);
	errand->number = choice.number;
	errand->entropy = (__u32)flow_hash(pkt);
	return ERRAND_READY;
}

#endif
