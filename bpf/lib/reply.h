/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What the balancer itself says to a sender: what would fit (RFC 792, RFC 1191; RFC 4443, 3.2). The answer
 * leaves the way the packet came.
 */
#ifndef FAIRLEAD_REPLY_H
#define FAIRLEAD_REPLY_H

#include "budget.h"
#include "config.h"
#include "exit.h"
#include "too_big.h"

/* Cuts the frame to `l2_size` and `quote` bytes and moves its Ethernet header and tags `room` bytes ahead of
 * the packet. */
static __always_inline bool reply_room(struct xdp_md *ctx, __u32 l2_size, __u32 quote, __u32 room)
{
	if (bpf_xdp_adjust_tail(ctx, (int)(l2_size + quote) - (int)bpf_xdp_get_buff_len(ctx)) ||
	    bpf_xdp_adjust_head(ctx, -(int)room))
		return false;

	void *end = (void *)(long)ctx->data_end;
	void *start = (void *)(long)ctx->data;
	__u32 *to = start, *from = start + room;

	if (start + room + sizeof(struct ethhdr) + TAGS_MAX * TAG_SIZE > end)
		return false;
	/* 24 bytes: the header, and tags or two bytes of no matter. */
	for (int word = 0; word < 5; word++)
		to[word] = from[word];
	*(__u16 *)(to + 5) = *(__u16 *)(from + 5);
	swap_macs(start);
	return true;
}

static __always_inline bool too_big_ipv4(struct xdp_md *ctx, __u32 l2_size, const __u32 quote, __u32 mtu)
{
	return reply_room(ctx, l2_size, quote, sizeof(struct iphdr) + sizeof(struct icmp_header)) &&
	       write_too_big4((void *)(long)ctx->data + l2_size, (void *)(long)ctx->data_end, quote, mtu,
			      NOT_PENDING);
}

static __always_inline bool too_big_ipv6(struct xdp_md *ctx, __u32 l2_size, const __u32 quote, __u32 mtu)
{
	return reply_room(ctx, l2_size, quote, sizeof(struct ipv6hdr) + sizeof(struct icmp_header)) &&
	       write_too_big6((void *)(long)ctx->data + l2_size, (void *)(long)ctx->data_end, quote, mtu,
			      NOT_PENDING);
}

/* To the sender of a packet that would not fit. `mtu`: the largest that would, IP bytes. */
__noinline int too_big(struct xdp_md *ctx, __u32 service, __u32 mtu)
{
	void *end = (void *)(long)ctx->data_end;
	void *start = (void *)(long)ctx->data;
	__u16 l2_size;
	__be16 type = parse_link(start, end, &l2_size);
	void *ip = start + l2_size;
	bool done = false;

	if (!budget_take(&icmp_budgets, ICMP_TOO_BIG, bpf_jiffies64(), icmp_budget_per_window))
		return finish(REASON_TOO_BIG, service, 0);
	if (type == bpf_htons(ETH_P_IP)) {
		if (ip + QUOTE_IPV4 <= end)
			done = too_big_ipv4(ctx, l2_size, QUOTE_IPV4, mtu);
		else if (ip + QUOTE_LEAST <= end)
			done = too_big_ipv4(ctx, l2_size, QUOTE_LEAST, mtu);
	} else {
		if (ip + QUOTE_IPV6 <= end)
			done = too_big_ipv6(ctx, l2_size, QUOTE_IPV6, mtu);
		else if (ip + QUOTE_LEAST <= end)
			done = too_big_ipv6(ctx, l2_size, QUOTE_LEAST, mtu);
	}
	return finish(done ? REASON_TOO_BIG_ANSWERED : REASON_TOO_BIG, service, 0);
}

#endif
