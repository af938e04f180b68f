/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * IP in IP (RFC 2003, RFC 2473). The inner packet is not touched. Outer TOS or traffic class is the
 * inner one, ECN included (RFC 6040, normal mode). IPv4: DF is set and the ID is 0, since a packet
 * that is never fragmented needs none (RFC 6864).
 */
#ifndef FAIRLEAD_ENCAP_H
#define FAIRLEAD_ENCAP_H

#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include "config.h"
#include "parse.h"

#define OUTER_TTL 64

static __always_inline void encap_ethernet(struct ethhdr *eth, const struct backend *to, __be16 protocol)
{
	__builtin_memcpy(eth->h_dest, to->next_hop_mac, ETH_ALEN);
	__builtin_memcpy(eth->h_source, to->source_mac, ETH_ALEN);
	eth->h_proto = protocol;
}

static __always_inline __u16 fold_checksum(__u32 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

static __always_inline enum reason encap_ipv4(struct xdp_md *ctx, const struct packet *pkt,
					      const struct backend *to)
{
	__u32 size = pkt->size + sizeof(struct iphdr);

	if (size > tunnel_mtu)
		return REASON_TOO_BIG;
	if (bpf_xdp_adjust_head(ctx, -(int)sizeof(struct iphdr)))
		return REASON_NO_HEADROOM;

	void *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = (void *)(long)ctx->data;
	struct iphdr *ip = (void *)(eth + 1);

	if ((void *)(ip + 1) > end)
		return REASON_INTERNAL;
	encap_ethernet(eth, to, bpf_htons(ETH_P_IP));
	*(__be16 *)ip = bpf_htons(0x4500 | pkt->traffic_class);
	ip->tot_len = bpf_htons(size);
	*(__be32 *)&ip->id = bpf_htonl(0x4000); /* ID 0, DF */
	*(__be16 *)&ip->ttl = bpf_htons(OUTER_TTL << 8 | IPPROTO_IPIP);
	ip->saddr = tunnel_source;
	ip->daddr = (__be32)to->address[0];
	ip->check =
		fold_checksum(bpf_htons(0x4500 | pkt->traffic_class) + bpf_htons(size) + bpf_htons(0x4000) +
			      bpf_htons(OUTER_TTL << 8 | IPPROTO_IPIP) + (tunnel_source & 0xffff) +
			      (tunnel_source >> 16) + (ip->daddr & 0xffff) + (ip->daddr >> 16));
	return REASON_FORWARDED;
}

/* The flow label carries the flow's entropy, for ECMP and RSS on the way (RFC 6438). */
static __always_inline enum reason encap_ipv6(struct xdp_md *ctx, const struct packet *pkt,
					      const struct backend *to, __u32 entropy)
{
	__u32 size = pkt->size + sizeof(struct ipv6hdr);

	if (size > tunnel_mtu)
		return REASON_TOO_BIG;
	if (bpf_xdp_adjust_head(ctx, -(int)sizeof(struct ipv6hdr)))
		return REASON_NO_HEADROOM;

	void *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = (void *)(long)ctx->data;
	struct ipv6hdr *ip = (void *)(eth + 1);

	if ((void *)(ip + 1) > end)
		return REASON_INTERNAL;
	encap_ethernet(eth, to, bpf_htons(ETH_P_IPV6));
	*(__be32 *)ip = bpf_htonl(0x60000000 | (__u32)pkt->traffic_class << 20 | (entropy & 0xfffff));
	ip->payload_len = bpf_htons(pkt->size);
	*(__be16 *)&ip->nexthdr = bpf_htons(IPPROTO_IPV6 << 8 | OUTER_TTL);
	((__be64 *)&ip->saddr)[0] = tunnel_source6[0];
	((__be64 *)&ip->saddr)[1] = tunnel_source6[1];
	copy_address((__be64 *)&ip->daddr, to->address);
	return REASON_FORWARDED;
}

#endif
