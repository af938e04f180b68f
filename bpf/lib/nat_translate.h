/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Between IPv4 and IPv6 (RFC 7915, without its fragment header): type of service, hop limit and payload stay;
 * options, fragments and UDP without a checksum are not translated.
 */
#ifndef FAIRLEAD_NAT_TRANSLATE_H
#define FAIRLEAD_NAT_TRANSLATE_H

#include "nat_connect.h"
#include "nat_mss.h"

#define DF_FROM 1260 /* IP bytes from which on a translated IPv4 packet has DF set (RFC 7915, 5.1) */

static __always_inline bool translatable(struct __sk_buff *skb, const struct packet *pkt)
{
	void *start = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	bool v4 = pkt->to.family == FAMILY_IPV4;
	struct udphdr *udp = start + sizeof(struct ethhdr) + sizeof(struct iphdr);

	if (pkt->fragment || pkt->l4_offset != (v4 ? sizeof(struct iphdr) : sizeof(struct ipv6hdr)))
		return false;
	return !v4 || pkt->to.protocol != IPPROTO_UDP || ((void *)(udp + 1) <= end && udp->check);
}

/* Gives the packet ends of the other family. False: it cannot be translated. */
__noinline int nat_translate(struct __sk_buff *skb, const struct packet *pkt, const struct nat_end *from,
			     const struct nat_end *to)
{
	if (!pkt || !from || !to || !translatable(skb, pkt))
		return false;
	bool v4 = pkt->to.family == FAMILY_IPV4;
	__u32 l3 = sizeof(struct ethhdr);
	__u8 life;

	void *start = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;

	if (start + l3 + sizeof(struct iphdr) > end)
		return false;
	life = v4 ? ((struct iphdr *)(start + l3))->ttl : ((struct ipv6hdr *)(start + l3))->hop_limit;
	if (!nat_rewrite_transport(skb, pkt, from, to))
		return false;
	/* The pseudo headers differ by the addresses only: lengths and protocol add up to the same. */
	if (bpf_skb_change_proto(skb, v4 ? bpf_htons(ETH_P_IPV6) : bpf_htons(ETH_P_IP), 0))
		return false;
	start = (void *)(long)skb->data;
	end = (void *)(long)skb->data_end;
	struct ethhdr *eth = start;

	if (v4) {
		struct ipv6hdr *ip = start + l3;

		if ((void *)(ip + 1) > end)
			return false;
		eth->h_proto = bpf_htons(ETH_P_IPV6);
		*(__be32 *)ip = bpf_htonl(0x60000000 | (__u32)pkt->traffic_class << 20);
		ip->payload_len = bpf_htons(skb->len - l3 - sizeof(*ip));
		ip->nexthdr = pkt->to.protocol;
		ip->hop_limit = life;
		copy_address((__be64 *)&ip->saddr, from->address);
		copy_address((__be64 *)&ip->daddr, to->address);
		return true;
	}
	struct iphdr *ip = start + l3;
	__u32 size = skb->len - l3;

	if ((void *)(ip + 1) > end)
		return false;
	eth->h_proto = bpf_htons(ETH_P_IP);
	*ip = (struct iphdr){
		.version = 4,
		.ihl = 5,
		.tos = pkt->traffic_class,
		.tot_len = bpf_htons(size),
		.id = size > DF_FROM ? 0 : bpf_get_prandom_u32(),
		.frag_off = size > DF_FROM ? bpf_htons(IP_DF) : 0,
		.ttl = life,
		.protocol = pkt->to.protocol,
		.saddr = (__be32)from->address[0],
		.daddr = (__be32)to->address[0],
	};
	__u32 sum = 0;

	for (__u32 at = 0; at < sizeof(*ip) / 2; at++)
		sum += ((__be16 *)ip)[at];
	ip->check = fold_checksum(sum);
	return true;
}

/* Gives the packet its other ends, whatever their family. */
static __always_inline bool nat_ready(struct __sk_buff *skb, const struct packet *pkt,
				      const struct nat_connection *nat, __u32 way, const struct nat_end *from,
				      const struct nat_end *to)
{
	if (pkt->tcp_flags & TCP_SYN && !nat_clamp(skb, pkt, nat))
		return false;
	if (nat->client_family != nat->backend_family)
		return nat_translate(skb, pkt, from, to);
	return nat_rewrite(skb, pkt, from, to);
}

#endif
