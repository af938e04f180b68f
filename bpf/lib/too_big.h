/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The ICMP error that says what would fit (RFC 792, RFC 1191; RFC 4443, 3.2), in front of what did not. */
#ifndef FAIRLEAD_TOO_BIG_H
#define FAIRLEAD_TOO_BIG_H

#include "checksum.h"
#include "parse.h"

#define REPLY_TTL 64
#define IPV6_MTU_MIN 1280 /* RFC 8200, 5 */
/* With their headers the answers are 576 (RFC 1812) and 1280 bytes (RFC 4443). The least is for headers in a
 * buffer of their own. */
#define QUOTE_IPV4 548
#define QUOTE_IPV6 1232
#define QUOTE_LEAST 128
#define SUM_STEP 512 /* what bpf_csum_diff took at most before Linux 6.13 */
/* What a transport's checksum field holds when the NIC is to finish it: here, that it is not so. */
#define NOT_PENDING (-1)

static __always_inline void swap_macs(struct ethhdr *eth)
{
	__u8 mac[ETH_ALEN];

	__builtin_memcpy(mac, eth->h_dest, ETH_ALEN);
	__builtin_memcpy(eth->h_dest, eth->h_source, ETH_ALEN);
	__builtin_memcpy(eth->h_source, mac, ETH_ALEN);
}

/* Of `size` bytes, a multiple of 4, from `data` on. */
static __always_inline __u32 sum_quote(void *data, __u32 size, __u32 sum)
{
	for (; size > SUM_STEP; data += SUM_STEP, size -= SUM_STEP)
		sum = bpf_csum_diff(NULL, 0, data, SUM_STEP, sum);
	return bpf_csum_diff(NULL, 0, data, size, sum);
}

/*
 * The sum of a quote of `quote` bytes whose IP header has `header`, as the receiver will have it. What the
 * NIC is to finish adds up, from the transport's header on, to the complement of what its field holds now.
 */
static __always_inline __u32 sum_quoted(void *quoted, const __u32 header, const __u32 quote, __s32 pending,
					__u32 sum)
{
	sum = sum_quote(quoted, header, sum);
	if (pending == NOT_PENDING)
		return fold_once(sum_quote(quoted + header, quote - header, sum));
	return fold_once(fold_once(sum) + (__u16)~pending);
}

/* In front of a quote that is all of the frame behind: from `ip` on, where its own headers have room. */
static __always_inline bool write_too_big4(struct iphdr *ip, void *end, const __u32 quote, __u32 mtu,
					   __s32 pending)
{
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
	__u32 sum = bpf_csum_diff(NULL, 0, (__be32 *)icmp, sizeof(*icmp), 0);

	icmp->checksum = fold_checksum(sum_quoted(quoted, sizeof(*quoted), quote, pending, sum));
	return true;
}

static __always_inline bool write_too_big6(struct ipv6hdr *ip, void *end, const __u32 quote, __u32 mtu,
					   __s32 pending)
{
	struct icmp_header *icmp = (void *)(ip + 1);
	struct ipv6hdr *quoted = (void *)(icmp + 1);
	__u32 size = sizeof(*icmp) + quote;

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
	icmp->checksum = fold_checksum(sum_quoted(quoted, sizeof(*quoted), quote, pending, sum));
	return true;
}

#endif
