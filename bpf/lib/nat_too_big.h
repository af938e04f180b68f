/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* A packet that would not fit its way once it is translated: its sender is told what would. */
#ifndef FAIRLEAD_NAT_TOO_BIG_H
#define FAIRLEAD_NAT_TOO_BIG_H

#include "nat_send.h"
#include "too_big.h"

/* Every way has room for it, so none is asked: IPv6's least less what its headers are longer. IP bytes. */
#define NAT_SMALL (IPV6_MTU_MIN - 28)

/* MTU of an interface; 0: there is none. */
static __always_inline __s32 nat_mtu(struct __sk_buff *skb, __u32 interface)
{
	__u32 mtu = 0;

	bpf_check_mtu(skb, interface, &mtu, 0, 0);
	return mtu;
}

/* What a reply that does not fit the way to its client may be long, IP bytes as it comes; 0: it fits. */
static __always_inline __s32 nat_reply_limit(struct __sk_buff *skb, const struct packet *pkt,
					     const struct nat_connection *nat)
{
	__s32 growth = nat_growth(nat, pkt);

	/* As long as it was, it fits where it came in. */
	if (pkt->size <= NAT_SMALL || !nat->service || (!growth && nat_home(nat) == skb->ifindex))
		return 0;
	__s32 mtu = nat_mtu(skb, nat_home(nat));

	return mtu && nat_size(skb, pkt) > mtu - growth ? mtu - growth : 0;
}

/*
 * What the checksum field of the transport holds if the NIC is to finish it, as it is in what GRO has merged;
 * else NOT_PENDING. Which it is the kernel does not say: the field of one packet alone is taken for what a
 * pseudo header adds up to if it is that, which a checksum is once in 65,536.
 */
static __always_inline __s32 nat_pending(struct __sk_buff *skb, const struct packet *pkt)
{
	bool v4 = pkt->to.family == FAMILY_IPV4;
	__u32 l4 = v4 ? sizeof(struct iphdr) : sizeof(struct ipv6hdr);
	void *start = (void *)(long)skb->data + sizeof(struct ethhdr) + l4;
	__be16 *field = start + (pkt->to.protocol == IPPROTO_TCP ? TCP_CHECK : UDP_CHECK);

	if (pkt->fragment || pkt->l4_offset != l4 || (void *)(field + 1) > (void *)(long)skb->data_end)
		return NOT_PENDING;
	__u32 size = pkt->size - l4;
	__u32 pseudo = fold_once(sum_four(pkt->from, pkt->to.address)) + bpf_htons(pkt->to.protocol) +
		       bpf_htons(size);

	return skb->gso_size || *field == (__u16)~fold_checksum(pseudo) ? *field : NOT_PENDING;
}

/* Cuts the frame to its first `quote` IP bytes, puts an error in front, and sends it back. */
static __always_inline bool nat_answer4(struct __sk_buff *skb, const __u32 quote, __u32 mtu, __s32 pending)
{
	__u32 room = sizeof(struct iphdr) + sizeof(struct icmp_header);

	if (bpf_skb_change_tail(skb, sizeof(struct ethhdr) + quote, 0) ||
	    bpf_skb_adjust_room(skb, room, BPF_ADJ_ROOM_MAC, 0))
		return false;
	struct ethhdr *eth = (void *)(long)skb->data;
	void *end = (void *)(long)skb->data_end;

	if ((void *)(eth + 1) > end || !write_too_big4((void *)(eth + 1), end, quote, mtu, pending))
		return false;
	swap_macs(eth);
	return true;
}

static __always_inline bool nat_answer6(struct __sk_buff *skb, const __u32 quote, __u32 mtu, __s32 pending)
{
	__u32 room = sizeof(struct ipv6hdr) + sizeof(struct icmp_header);

	if (bpf_skb_change_tail(skb, sizeof(struct ethhdr) + quote, 0) ||
	    bpf_skb_adjust_room(skb, room, BPF_ADJ_ROOM_MAC, 0))
		return false;
	struct ethhdr *eth = (void *)(long)skb->data;
	void *end = (void *)(long)skb->data_end;

	if ((void *)(eth + 1) > end || !write_too_big6((void *)(eth + 1), end, quote, mtu, pending))
		return false;
	swap_macs(eth);
	return true;
}

/*
 * The packet's end, as it came in: an answer to its sender, that packets of `mtu` IP bytes would fit, also
 * where it could be cut to fragments. `mtu` is at least what IPv6 wants of a way.
 */
__noinline int nat_too_big(struct __sk_buff *skb, const struct packet *pkt, __u32 service, __s32 mtu)
{
	if (!pkt)
		return TC_ACT_SHOT;
	bool v4 = pkt->to.family == FAMILY_IPV4, done = false;
	__s32 pending = nat_pending(skb, pkt);
	__u32 size = skb->len - sizeof(struct ethhdr);

	nat_count(service, NAT_OUTCOME_TOO_BIG);
	if (pkt->fragment_offset ||
	    !budget_take(&icmp_budgets, ICMP_TOO_BIG, bpf_jiffies64(), icmp_budget_per_window))
		return TC_ACT_SHOT;
	if (v4) {
		if (size >= QUOTE_IPV4)
			done = nat_answer4(skb, QUOTE_IPV4, mtu, pending);
		else if (size >= QUOTE_LEAST)
			done = nat_answer4(skb, QUOTE_LEAST, mtu, pending);
	} else {
		if (mtu < IPV6_MTU_MIN)
			mtu = IPV6_MTU_MIN;
		if (size >= QUOTE_IPV6)
			done = nat_answer6(skb, QUOTE_IPV6, mtu, pending);
		else if (size >= QUOTE_LEAST)
			done = nat_answer6(skb, QUOTE_LEAST, mtu, pending);
	}
	return done ? bpf_redirect(skb->ifindex, 0) : TC_ACT_SHOT;
}

#endif
