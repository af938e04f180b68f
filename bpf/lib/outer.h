/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The outer headers themselves: IP in IP (RFC 2003, RFC 2473, RFC 4213) and GUE variant 1
 * (draft-ietf-intarea-gue). Outer TOS or traffic class is the inner one, ECN included (RFC 6040, normal
 * mode). IPv4: DF is set and the ID is 0, since a packet that is never fragmented needs none (RFC 6864).
 */
#ifndef FAIRLEAD_OUTER_H
#define FAIRLEAD_OUTER_H

#include <linux/udp.h>
#include "checksum.h"
#include "config.h"
#include "parse.h"

#define OUTER_TTL 64
#define GUE_SOURCE_PORT 0xc000 /* and 14 bits of the flow's hash */

static __always_inline __u32 outer_size(__u32 flags, const struct backend *to)
{
	if (flags & SERVICE_L2)
		return 0;
	return (to->flags & BACKEND_IPV6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr)) +
	       (flags & SERVICE_GUE ? sizeof(struct udphdr) : 0);
}

static __always_inline void write_macs(struct ethhdr *eth, const struct backend *to)
{
	__builtin_memcpy(eth->h_dest, to->next_hop_mac, ETH_ALEN);
	__builtin_memcpy(eth->h_source, to->source_mac, ETH_ALEN);
}

static __always_inline void write_udp(struct udphdr *udp, __u32 size, __u32 entropy, __sum16 check)
{
	udp->source = bpf_htons(GUE_SOURCE_PORT | (entropy & 0x3fff));
	udp->dest = bpf_htons(GUE_PORT);
	udp->len = bpf_htons(size);
	udp->check = check;
}

static __always_inline void write_ipv4(struct iphdr *ip, const struct packet *pkt, const struct backend *to,
				       __u32 size, __u8 protocol)
{
	*(__be16 *)ip = bpf_htons(0x4500 | pkt->traffic_class);
	ip->tot_len = bpf_htons(size);
	*(__be32 *)&ip->id = bpf_htonl(IP_DF); /* ID 0 */
	*(__be16 *)&ip->ttl = bpf_htons(OUTER_TTL << 8 | protocol);
	ip->saddr = tunnel_source;
	ip->daddr = (__be32)to->address[0];
	ip->check =
		fold_checksum(bpf_htons(0x4500 | pkt->traffic_class) + bpf_htons(size) + bpf_htons(IP_DF) +
			      bpf_htons(OUTER_TTL << 8 | protocol) + (tunnel_source & 0xffff) +
			      (tunnel_source >> 16) + (ip->daddr & 0xffff) + (ip->daddr >> 16));
}

/* The flow label carries the flow's entropy, for ECMP and RSS on the way (RFC 6438). */
static __always_inline void write_ipv6(struct ipv6hdr *ip, const struct packet *pkt, const struct backend *to,
				       __u32 payload, __u8 protocol, __u32 entropy)
{
	*(__be32 *)ip = bpf_htonl(0x60000000 | (__u32)pkt->traffic_class << 20 | (entropy & 0xfffff));
	ip->payload_len = bpf_htons(payload);
	*(__be16 *)&ip->nexthdr = bpf_htons(protocol << 8 | OUTER_TTL);
	((__be64 *)&ip->saddr)[0] = tunnel_source6[0];
	((__be64 *)&ip->saddr)[1] = tunnel_source6[1];
	copy_address((__be64 *)&ip->daddr, to->address);
}

/* `inside`: sum of what follows the UDP header. */
static __always_inline __u16 gue_check(const struct udphdr *udp, const struct backend *to, __u32 payload,
				       __u32 inside)
{
	/* Pseudo header and UDP header: the length is in both. */
	__u16 check =
		fold_checksum(inside + sum_address(tunnel_source6) + sum_address(to->address) +
			      2 * bpf_htons(payload) + bpf_htons(IPPROTO_UDP) + udp->source + udp->dest);

	return check ? check : 0xffff; /* 0 would say "none" (RFC 8200, 8.1) */
}

#endif
