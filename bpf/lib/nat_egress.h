/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Private sources on their way out of the node, which is their gateway: the kernel routes, we translate. */
#ifndef FAIRLEAD_NAT_EGRESS_H
#define FAIRLEAD_NAT_EGRESS_H

#include "nat_fragment.h"
#include "nat_mss.h"

#define EGRESS 0 /* its connections have no service */

/* The pool for packets from this address; 0: it is not one of those. */
static __always_inline __u32 egress_pool(const struct packet *pkt)
{
	return nat_egress_value(pkt->to.family, pkt->from) & 0xffff;
}

/* TC_ACT_UNSPEC: on its way, translated where it had to be. */
__noinline int nat_leave(struct __sk_buff *skb)
{
	struct packet pkt = {};
	struct nat_peer peer = {};
	struct nat_end from, to;
	enum reason reason = nat_parse(skb, &pkt);

	if (reason == REASON_FRAGMENT)
		return NAT_LATER;
	if (reason == REASON_NOT_OURS && is_icmp(&pkt)) {
		if (!nat_parse_echo(skb, &pkt, NAT_REQUEST))
			return NAT_OTHER;
		reason = REASON_FORWARDED;
	}
	if (reason == REASON_NOT_IP)
		return TC_ACT_UNSPEC;
	__u64 ticks = bpf_jiffies64(), hash = flow_hash(&pkt), found = nat_find(&pkt, hash);
	struct nat_connection *nat = found ? nat_connection(found >> 2) : NULL;

	if (nat && (nat->service || found & NAT_FOUND << 1))
		return TC_ACT_UNSPEC;
	if (nat && pkt.tcp_flags & TCP_SYN && nat->state >= NAT_CLOSING) {
		nat_end(found >> 2, ticks);
		nat = NULL;
	}
	if (!nat) {
		peer.pool = egress_pool(&pkt);
		if (!peer.pool)
			return TC_ACT_UNSPEC;
		/* What cannot be translated must not leave with a private source. */
		if (reason != REASON_FORWARDED ||
		    (pkt.to.protocol == IPPROTO_TCP && (pkt.tcp_flags & (TCP_SYN | TCP_ACK)) != TCP_SYN))
			return nat_drop(EGRESS, NAT_OUTCOME_UNKNOWN);
		if (!budget_take(&flow_budgets, EGRESS, ticks, flow_budget_per_window))
			return nat_drop(EGRESS, NAT_OUTCOME_BUDGET);
		copy_address(peer.address, pkt.to.address);
		peer.port = pkt.to.port;
		peer.family = pkt.to.family;
		__u64 begun = nat_begin(&pkt, &peer, hash, ticks);

		nat = nat_connection((__u32)begun);
		if (begun >> 32 != NAT_OUTCOME_BEGUN || !nat)
			return nat_drop(EGRESS, begun);
		nat_count(EGRESS, NAT_OUTCOME_BEGUN);
		found = begun << 32 >> 30 | NAT_FOUND;
	}
	if (pkt.fragment)
		nat_fragment_note(&pkt, found >> 2, NAT_REQUEST, ticks);
	nat_follow(nat, NAT_REQUEST, &pkt);
	nat_tally(nat, NAT_REQUEST, skb, &pkt, ticks);
	nat_count(EGRESS, NAT_OUTCOME_FORWARDED);
	nat_ends(nat, NAT_REQUEST, &pkt, &from, &to);
	if (pkt.tcp_flags & TCP_SYN && !nat_clamp(skb, &pkt, nat))
		return TC_ACT_SHOT;
	return nat_rewrite(skb, &pkt, &from, &to) ? TC_ACT_UNSPEC : TC_ACT_SHOT;
}

/* What is of no connection must not leave with a private source. */
__noinline int nat_unknown(struct __sk_buff *skb)
{
	struct packet pkt = {};

	nat_parse(skb, &pkt);
	void *start = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	struct icmp_header *icmp = start + sizeof(struct ethhdr) + (pkt.l4_offset & 0x3f);

	/* Neighbour discovery (RFC 4861) is between neighbours. */
	if (pkt.to.protocol == IPPROTO_ICMPV6 && (void *)(icmp + 1) <= end &&
	    icmp->type >= ICMPV6_ROUTER_SOLICIT && icmp->type <= ICMPV6_REDIRECT)
		return TC_ACT_UNSPEC;
	return pkt.to.family && egress_pool(&pkt) ? nat_drop(EGRESS, NAT_OUTCOME_UNKNOWN) : TC_ACT_UNSPEC;
}

#endif
