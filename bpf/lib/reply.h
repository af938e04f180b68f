/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What the balancer itself says to a sender: what would fit (RFC 792, RFC 1191; RFC 4443, 3.2). The answer
 * leaves the way the packet came.
 */
#ifndef FAIRLEAD_REPLY_H
#define FAIRLEAD_REPLY_H

#include "budget.h"
#include "checksum.h"
#include "config.h"
#include "exit.h"

#define REPLY_TTL 64
/* With their headers the answers are 576 (RFC 1812) and 1280 bytes (RFC 4443). The least is for headers in a
 * buffer of their own. */
#define QUOTE_IPV4 548
#define QUOTE_IPV6 1232
#define QUOTE_LEAST 128
#define SUM_STEP 512 /* what bpf_csum_diff took at most before Linux 6.13 */

static __always_inline void swap_macs(struct ethhdr *eth)
{
	__u8 mac[ETH_ALEN];

	__builtin_memcpy(mac, eth->h_dest, ETH_ALEN);
	__builtin_memcpy(eth->h_dest, eth->h_source, ETH_ALEN);
	__builtin_memcpy(eth->h_source, mac, ETH_ALEN);
}

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

/* Of `size` bytes, a multiple of 4, from `data` on. */
static __always_inline __u32 sum_quote(void *data, __u32 size, __u32 sum)
{
	for (; size > SUM_STEP; data += SUM_STEP, size -= SUM_STEP)
		sum = bpf_csum_diff(NULL, 0, data, SUM_STEP, sum);
	return bpf_csum_diff(NULL, 0, data, size, sum);
}

static __always_inline bool too_big_ipv4(struct xdp_md *ctx, __u32 l2_size, const __u32 quote, __u32 mtu)
{
	if (!reply_room(ctx, l2_size, quote, sizeof(struct iphdr) + sizeof(struct icmp_header)))
		return false;

	void *end = (void *)(long)ctx->data_end;
	struct iphdr *ip = (void *)(long)ctx->data + l2_size;
	struct icmp_header *icmp = (void *)(ip + 1);
	struct iphdr *quoted = (void *)(icmp + 1);

	if ((void *)quoted + quote > end)
		return false;
	*ip = (struct iphdr){
		.version = 4,
		.ihl = 5,
		.tot_len = bpf_htons(sizeof(*ip) + sizeof(*icmp) + quote),
		.frag_off = bpf_htons(IP_DF),
		.ttl = REPLY_TTL,
		.protocol = IPPROTO_ICMP,
		.saddr = quoted->daddr,
		.daddr = quoted->saddr,
	};
	ip->check = fold_checksum(bpf_csum_diff(NULL, 0, (__be32 *)ip, sizeof(*ip), 0));
	*icmp = (struct icmp_header){
		.type = ICMP_UNREACHABLE,
		.code = ICMP_FRAGMENT_NEEDED,
		.rest = bpf_htonl(mtu & 0xffff),
	};
	icmp->checksum = fold_checksum(fold_once(
		sum_quote(quoted, quote, bpf_csum_diff(NULL, 0, (__be32 *)icmp, sizeof(*icmp), 0))));
	return true;
}

static __always_inline bool too_big_ipv6(struct xdp_md *ctx, __u32 l2_size, const __u32 quote, __u32 mtu)
{
	__u32 size = sizeof(struct icmp_header) + quote;

	if (!reply_room(ctx, l2_size, quote, sizeof(struct ipv6hdr) + sizeof(struct icmp_header)))
		return false;

	void *end = (void *)(long)ctx->data_end;
	struct ipv6hdr *ip = (void *)(long)ctx->data + l2_size;
	struct icmp_header *icmp = (void *)(ip + 1);
	struct ipv6hdr *quoted = (void *)(icmp + 1);

	if ((void *)quoted + quote > end)
		return false;
	*(__be32 *)ip = bpf_htonl(0x60000000);
	ip->payload_len = bpf_htons(size);
	ip->nexthdr = IPPROTO_ICMPV6;
	ip->hop_limit = REPLY_TTL;
	ip->saddr = quoted->daddr;
	ip->daddr = quoted->saddr;
	*icmp = (struct icmp_header){
		.type = ICMPV6_TOO_BIG,
		.rest = bpf_htonl(mtu),
	};
	__u32 sum = bpf_csum_diff(NULL, 0, (__be32 *)&ip->saddr, 2 * sizeof(ip->saddr),
				  bpf_htons(size) + bpf_htons(IPPROTO_ICMPV6));
	sum = bpf_csum_diff(NULL, 0, (__be32 *)icmp, sizeof(*icmp), sum);
	icmp->checksum = fold_checksum(fold_once(sum_quote(quoted, quote, sum)));
	return true;
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
