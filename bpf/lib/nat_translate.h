/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Between IPv4 and IPv6 (RFC 7915): type of service, hop limit and payload stay. Packets with IPv4 options,
 * and fragments of UDP without a checksum, are not translated.
 */
#ifndef FAIRLEAD_NAT_TRANSLATE_H
#define FAIRLEAD_NAT_TRANSLATE_H

#include "nat_connect.h"
#define SUM_CONTEXT struct __sk_buff
#define SUM_LOAD_BYTES bpf_skb_load_bytes
#include "nat_mss.h"
#include "sum_bytes.h"

#define DF_FROM 1260 /* IP bytes from which on a translated IPv4 packet has DF set (RFC 7915, 5.1) */

/* What a packet's header says that the one of the other family is to say. */
struct nat_header {
	__be64 from[2];
	__be64 to[2];
	__u32 size;  /* bytes behind the header, and behind IPv6's fragment header */
	__u32 place; /* of a fragment: offset in bytes; its lowest bit: more to come */
	__u32 id;    /* of a fragment */
	bool fragment;
	__u8 life;
	__u8 traffic_class;
	__u8 protocol;
};

static __always_inline void nat_write_ipv6(struct ipv6hdr *ip, const struct nat_header *header)
{
	__u32 extra = header->fragment ? sizeof(struct nat_fragment_header) : 0;

	*(__be32 *)ip = bpf_htonl(0x60000000 | (__u32)header->traffic_class << 20);
	ip->payload_len = bpf_htons(header->size + extra);
	ip->nexthdr = header->fragment ? IPPROTO_FRAGMENT : header->protocol;
	ip->hop_limit = header->life;
	copy_address((__be64 *)&ip->saddr, header->from);
	copy_address((__be64 *)&ip->daddr, header->to);
}

static __always_inline void nat_write_fragment(struct nat_fragment_header *to,
					       const struct nat_header *header)
{
	*to = (struct nat_fragment_header){
		.next = header->protocol,
		.offset = bpf_htons(header->place),
		.id = bpf_htonl(header->id),
	};
}

/* RFC 7915, 5.1: what may be cut needs an identification, what is long must not be. */
static __always_inline void nat_write_ipv4(struct iphdr *ip, const struct nat_header *header)
{
	__u32 size = header->size + sizeof(*ip), sum = 0;
	bool whole = size > DF_FROM && !header->fragment;

	*ip = (struct iphdr){
		.version = 4,
		.ihl = 5,
		.tos = header->traffic_class,
		.tot_len = bpf_htons(size),
		.id = header->fragment ? bpf_htons(header->id)
		      : whole	       ? 0
				       : bpf_get_prandom_u32(),
		.frag_off = whole ? bpf_htons(IP_DF)
				  : bpf_htons(header->place >> 3 | (header->place & 1 ? IP_MF : 0)),
		.ttl = header->life,
		.protocol = header->protocol,
		.saddr = (__be32)header->from[0],
		.daddr = (__be32)header->to[0],
	};
	for (__u32 at = 0; at < sizeof(*ip) / 2; at++)
		sum += ((__be16 *)ip)[at];
	ip->check = fold_checksum(sum);
}

/* False: not what can be translated. A super-packet of more than 64 KiB has no length in its header. */
static __always_inline bool nat_read_ipv4(struct iphdr *ip, __u32 frame, struct nat_header *header)
{
	__u32 size = ip->tot_len ? bpf_ntohs(ip->tot_len) : frame;
	__u32 field = bpf_ntohs(ip->frag_off);

	header->size = size - sizeof(*ip);
	header->place = (field & IP_OFFSET) << 3 | !!(field & IP_MF);
	header->id = bpf_ntohs(ip->id);
	header->fragment = header->place;
	header->life = ip->ttl;
	header->traffic_class = ip->tos;
	header->protocol = ip->protocol;
	return ip->ihl == 5 && size >= sizeof(*ip) && size <= frame;
}

static __always_inline bool nat_read_ipv6(struct ipv6hdr *ip, void *end, __u32 frame,
					  struct nat_header *header)
{
	struct nat_fragment_header *fragment = (void *)(ip + 1);
	__u32 size = ip->payload_len ? bpf_ntohs(ip->payload_len) : frame - sizeof(*ip);

	header->size = size;
	header->life = ip->hop_limit;
	header->traffic_class = ip->priority << 4 | ip->flow_lbl[0] >> 4;
	header->protocol = ip->nexthdr;
	header->fragment = ip->nexthdr == IPPROTO_FRAGMENT;
	if (header->fragment) {
		if ((void *)(fragment + 1) > end || size < sizeof(*fragment))
			return false;
		header->size -= sizeof(*fragment);
		header->protocol = fragment->next;
		header->place = bpf_ntohs(fragment->offset) & ~6;
		header->id = bpf_ntohl(fragment->id);
	}
	return size + sizeof(*ip) <= frame;
}

/* A UDP checksum where IPv4 needs none (RFC 7915, 4.5), of `size` bytes. The ports are the new ones, the
 * field is 0. */
static __always_inline bool nat_sum_udp(struct __sk_buff *skb, const struct nat_header *header, __u32 size)
{
	__u32 l4 = sizeof(struct ethhdr) + sizeof(struct iphdr);
	__u32 sum = sum_bytes(skb, l4, size);
	struct udphdr *udp = (void *)(long)skb->data + l4;

	if (!sum || (void *)(udp + 1) > (void *)(long)skb->data_end)
		return false;
	sum += sum_four(header->from, header->to) + bpf_htons(IPPROTO_UDP) + bpf_htons(size);
	udp->check = fold_checksum(sum);
	if (!udp->check)
		udp->check = 0xffff;
	return true;
}

static __always_inline bool nat_to_ipv6(struct __sk_buff *skb, const struct nat_header *header)
{
	if (bpf_skb_change_proto(skb, bpf_htons(ETH_P_IPV6), 0) ||
	    (header->fragment &&
	     bpf_skb_adjust_room(skb, sizeof(struct nat_fragment_header), BPF_ADJ_ROOM_NET, 0)))
		return false;
	struct ethhdr *eth = (void *)(long)skb->data;
	void *end = (void *)(long)skb->data_end;
	struct ipv6hdr *ip = (void *)(eth + 1);
	struct nat_fragment_header *fragment = (void *)(ip + 1);

	if ((void *)(ip + 1) > end)
		return false;
	eth->h_proto = bpf_htons(ETH_P_IPV6);
	nat_write_ipv6(ip, header);
	if (!header->fragment)
		return true;
	if ((void *)(fragment + 1) > end)
		return false;
	nat_write_fragment(fragment, header);
	return true;
}

static __always_inline bool nat_to_ipv4(struct __sk_buff *skb, const struct nat_header *header)
{
	if ((header->fragment &&
	     bpf_skb_adjust_room(skb, -(int)sizeof(struct nat_fragment_header), BPF_ADJ_ROOM_NET, 0)) ||
	    bpf_skb_change_proto(skb, bpf_htons(ETH_P_IP), 0))
		return false;
	struct ethhdr *eth = (void *)(long)skb->data;
	struct iphdr *ip = (void *)(eth + 1);

	if ((void *)(ip + 1) > (void *)(long)skb->data_end)
		return false;
	eth->h_proto = bpf_htons(ETH_P_IP);
	nat_write_ipv4(ip, header);
	return true;
}

/* nat_rewrite_transport() with a stack of its own. */
__noinline int nat_translate_transport(struct __sk_buff *skb, const struct packet *pkt,
				       const struct nat_end *from, const struct nat_end *to)
{
	return pkt && from && to && nat_rewrite_transport(skb, pkt, from, to);
}

/* Gives the packet ends of the other family. False: it cannot be translated. */
__noinline int nat_translate(struct __sk_buff *skb, const struct packet *pkt, const struct nat_end *from,
			     const struct nat_end *to)
{
	__u32 use = SCRATCH_ERRAND; /* the stack is not deep */
	struct nat_header *header = bpf_map_lookup_elem(&scratches, &use);

	if (!header || !pkt || !from || !to)
		return false;
	__builtin_memset(header, 0, sizeof(*header));
	bool v4 = pkt->to.family == FAMILY_IPV4;
	__u32 unsummed = 0; /* bytes of UDP without a checksum */
	__u32 frame = skb->len - sizeof(struct ethhdr);
	void *end = (void *)(long)skb->data_end;
	void *ip = (void *)(long)skb->data + sizeof(struct ethhdr);

	copy_address(header->from, from->address);
	copy_address(header->to, to->address);
	if (v4) {
		struct udphdr *udp = ip + sizeof(struct iphdr);

		if (ip + sizeof(struct iphdr) > end || !nat_read_ipv4(ip, frame, header))
			return false;
		if (header->protocol == IPPROTO_UDP && header->place >> 1 == 0)
			unsummed = (void *)(udp + 1) <= end && !udp->check ? bpf_ntohs(udp->len) : 0;
		if (unsummed && header->fragment)
			return false;
	} else if (ip + sizeof(struct ipv6hdr) > end || !nat_read_ipv6(ip, end, frame, header)) {
		return false;
	}
	/* The pseudo headers differ by the addresses only: lengths and protocol add up to the same. */
	if (!pkt->fragment_offset && !nat_translate_transport(skb, pkt, from, to))
		return false;
	if (unsummed && !nat_sum_udp(skb, header, unsummed))
		return false;
	return v4 ? nat_to_ipv6(skb, header) : nat_to_ipv4(skb, header);
}

/* Gives the packet its other ends, whatever their family. */
static __always_inline bool nat_ready(struct __sk_buff *skb, const struct packet *pkt,
				      const struct nat_connection *nat, const struct nat_end *from,
				      const struct nat_end *to)
{
	if (pkt->tcp_flags & TCP_SYN && !nat_clamp(skb, pkt, nat))
		return false;
	if (nat->client_family != nat->backend_family)
		return nat_translate(skb, pkt, from, to);
	return nat_rewrite(skb, pkt, from, to);
}

#endif
