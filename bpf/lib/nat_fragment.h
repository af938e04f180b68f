/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Fragments behind the first one have no ports: they go where the first one of their datagram went, and one
 * that comes before it where the last fragments between the same addresses went (docs/nat.md, "Fragments").
 */
#ifndef FAIRLEAD_NAT_FRAGMENT_H
#define FAIRLEAD_NAT_FRAGMENT_H

#include "fragment_key.h"
#include "nat_send.h"
#include "nat_too_big.h"
#include "nat_translate.h"

/* The first fragment's connection is that of those that follow. */
static __always_inline void nat_fragment_note(const struct packet *pkt, __u32 id, __u32 way, __u32 ticks)
{
	struct nat_fragment value = {.id = id, .way = way, .ticks = ticks};
	struct fragment_key key = fragment_key(pkt, FRAGMENT_DATAGRAM);

	bpf_map_update_elem(&nat_fragments, &key, &value, BPF_ANY);
	key = fragment_key(pkt, FRAGMENT_PAIR);
	bpf_map_update_elem(&nat_fragments, &key, &value, BPF_ANY);
}

static __always_inline struct nat_fragment *nat_fragment_find(const struct packet *pkt,
							      enum fragment_kind kind, __u32 ticks)
{
	struct fragment_key key = fragment_key(pkt, kind);
	struct nat_fragment *found = bpf_map_lookup_elem(&nat_fragments, &key);

	return found && (ticks - found->ticks) >> FRAGMENT_LIFE_TICKS_SHIFT == 0 ? found : NULL;
}

/* A later fragment: its header only. `out`: on egress. TC_ACT_UNSPEC: not of a connection of ours, or the
 * kernel sends it. */
__noinline int nat_fragment(struct __sk_buff *skb, bool out)
{
	struct packet pkt = {};
	struct nat_end from, to;
	__u32 ticks = bpf_jiffies64();

	if (nat_parse(skb, &pkt) != REASON_FRAGMENT)
		return NAT_NOT_OURS;
	struct nat_fragment *known = nat_fragment_find(&pkt, FRAGMENT_DATAGRAM, ticks);

	if (!known)
		known = nat_fragment_find(&pkt, FRAGMENT_PAIR, ticks);
	struct nat_connection *nat = known ? nat_connection(known->id) : NULL;

	if (!nat || nat->state == NAT_FREE || nat->state == NAT_GONE)
		return NAT_NOT_OURS;
	__u32 way = known->way & 1;

	if (out != (way == NAT_REQUEST && !nat->service))
		return NAT_NOT_OURS;
	const struct backend *backend = way == NAT_REQUEST && nat->service ? nat_taking(nat->backend) : NULL;

	if (way == NAT_REQUEST && nat->service && !backend)
		return nat_drop(nat->service, NAT_OUTCOME_NO_BACKEND);
	__s32 mtu = backend ? backend->mtu : nat->service ? nat_mtu(skb, nat_home(nat)) : 0;

	if (mtu && (__s32)pkt.size + nat_growth(nat, &pkt) > mtu)
		return nat_drop(nat->service, NAT_OUTCOME_TOO_BIG);
	nat_tally(nat, way, skb, &pkt, ticks);
	nat_count(nat->service, way == NAT_REQUEST ? NAT_OUTCOME_FORWARDED : NAT_OUTCOME_RETURNED);
	nat_ends(nat, way, &pkt, &from, &to);
	if (nat->client_family != nat->backend_family) {
		if (!nat_translate(skb, &pkt, &from, &to))
			return nat_drop(nat->service, NAT_OUTCOME_UNTRANSLATABLE);
	} else if (!nat_rewrite_addresses(skb, &pkt, &from, &to)) {
		return TC_ACT_SHOT;
	}
	if (out)
		return TC_ACT_UNSPEC;
	if (way == NAT_REPLY || !backend)
		return nat_to_client(skb, nat);
	return nat_to_backend(skb, backend);
}

#endif
