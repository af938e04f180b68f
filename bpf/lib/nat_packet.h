/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Reading and rewriting packets at TC: also super-packets of GRO and checksums that are left to the NIC. */
#ifndef FAIRLEAD_NAT_PACKET_H
#define FAIRLEAD_NAT_PACKET_H

#include <linux/udp.h>
#include "checksum.h"
#include "parse.h"

#define TCP_CHECK 16 /* bytes into the header */
#define UDP_CHECK 6
#define ICMP_CHECK 2
#define ICMP_ECHO_ID 4

/* Headers in one piece: Ethernet, IPv4 with options or IPv6, and TCP without options. */
#define NAT_HEADERS (sizeof(struct ethhdr) + 60 + TCP_HEADER_MIN)

/* IPv6's fragment header (RFC 8200, 4.5). */
struct nat_fragment_header {
	__u8 next;
	__u8 pad;
	__be16 offset; /* bytes; its lowest bit: more to come */
	__be32 id;
};

/*
 * Fills `pkt` as parse_any() does, with the same reasons, of TCP or UDP right behind the IP header or IPv6's
 * fragment header. REASON_FRAGMENT: a fragment that is not the first; REASON_NOT_OURS: not for this program.
 */
static __always_inline enum reason nat_parse(struct __sk_buff *skb, struct packet *pkt)
{
	__u32 want = skb->len < NAT_HEADERS ? skb->len : NAT_HEADERS;
	__u8 protocol;

	if (skb->protocol != bpf_htons(ETH_P_IP) && skb->protocol != bpf_htons(ETH_P_IPV6))
		return REASON_NOT_IP;
	if (skb->data_end - skb->data < want && bpf_skb_pull_data(skb, want))
		return REASON_NOT_OURS;

	void *start = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	void *l3 = start + sizeof(struct ethhdr);

	pkt->l2_size = sizeof(struct ethhdr);
	pkt->size = skb->len - sizeof(struct ethhdr);
	if (skb->protocol == bpf_htons(ETH_P_IP)) {
		struct iphdr *ip = l3;

		if ((void *)(ip + 1) > end)
			return REASON_RUNT;
		pkt->to.family = FAMILY_IPV4;
		pkt->to.address[0] = ip->daddr;
		pkt->from[0] = ip->saddr;
		pkt->traffic_class = ip->tos;
		pkt->l4_offset = ip->ihl * 4;
		if (ip->version != 4 || ip->ihl < 5)
			return REASON_MALFORMED;
		protocol = ip->protocol;
		pkt->fragment = ip->frag_off & bpf_htons(IP_MF | IP_OFFSET);
		pkt->fragment_offset = (bpf_ntohs(ip->frag_off) & IP_OFFSET) * 8;
		pkt->fragment_id = ip->id;
	} else {
		struct ipv6hdr *ip = l3;

		if ((void *)(ip + 1) > end)
			return REASON_RUNT;
		pkt->to.family = FAMILY_IPV6;
		copy_address(pkt->to.address, &ip->daddr);
		copy_address(pkt->from, &ip->saddr);
		pkt->traffic_class = ip->priority << 4 | ip->flow_lbl[0] >> 4;
		pkt->l4_offset = sizeof(*ip);
		if (ip->version != 6)
			return REASON_MALFORMED;
		protocol = ip->nexthdr;
		struct nat_fragment_header *header = (void *)(ip + 1);

		if (protocol == IPPROTO_FRAGMENT && (void *)(header + 1) <= end) {
			pkt->fragment = true;
			pkt->fragment_offset = bpf_ntohs(header->offset) & ~7;
			pkt->fragment_id = header->id;
			pkt->l4_offset += sizeof(*header);
			protocol = header->next;
		}
	}
	pkt->to.protocol = protocol;
	if (pkt->fragment_offset)
		return REASON_FRAGMENT;
	if (pkt->size < pkt->l4_offset)
		return REASON_MALFORMED;
	enum reason reason = parse_transport(pkt, l3 + (pkt->l4_offset & 0x3f), end,
					     pkt->size - pkt->l4_offset, protocol, true);
	return reason == REASON_COUNT ? REASON_NOT_OURS : reason;
}

/*
 * Takes an echo request (way NAT_REQUEST) or its reply for a packet between a port, its identifier, and port
 * 0. False: it is neither.
 */
static __always_inline bool nat_parse_echo(struct __sk_buff *skb, struct packet *pkt, __u32 way)
{
	void *start = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	struct icmp_header *icmp = start + sizeof(struct ethhdr) + (pkt->l4_offset & 0x3f);
	bool v6 = pkt->to.family == FAMILY_IPV6;

	if ((void *)(icmp + 1) > end || icmp->code || pkt->fragment)
		return false;
	if (way == NAT_REQUEST && icmp->type == (v6 ? ICMPV6_ECHO : ICMP_ECHO)) {
		pkt->from_port = *(__be16 *)&icmp->rest;
		pkt->to.port = 0;
		return true;
	}
	if (way == NAT_REPLY && icmp->type == (v6 ? ICMPV6_ECHO_REPLY : ICMP_ECHO_REPLY)) {
		pkt->from_port = 0;
		pkt->to.port = *(__be16 *)&icmp->rest;
		return true;
	}
	return false;
}

/* One end of a packet. */
struct nat_end {
	__be64 address[2];
	__be16 port;
};

static __always_inline __u32 sum_four(const __be64 *a, const __be64 *b)
{
	return sum_address(a) + sum_address(b);
}

/* The addresses in the IP header, and its own checksum. */
static __always_inline bool nat_rewrite_addresses(struct __sk_buff *skb, const struct packet *pkt,
						  const struct nat_end *from, const struct nat_end *to)
{
	void *start = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;

	if (pkt->to.family == FAMILY_IPV4) {
		struct iphdr *ip = start + sizeof(struct ethhdr);
		__u32 old = fold_once(sum_four(pkt->from, pkt->to.address));
		__u32 new = fold_once(sum_four(from->address, to->address));

		if ((void *)(ip + 1) > end)
			return false;
		ip->check = checksum_change(ip->check, fold_once(old), fold_once(new));
		ip->saddr = (__be32)from->address[0];
		ip->daddr = (__be32)to->address[0];
		return true;
	}
	struct ipv6hdr *ip = start + sizeof(struct ethhdr);

	if ((void *)(ip + 1) > end)
		return false;
	copy_address((__be64 *)&ip->saddr, from->address);
	copy_address((__be64 *)&ip->daddr, to->address);
	return true;
}

/*
 * The ports, and checksums as if addresses had changed, too: by the difference, so that a wrong one stays
 * wrong; with one that the NIC is to finish only the pseudo header's part counts, which the flags tell the
 * kernel.
 */
static __always_inline bool nat_rewrite_transport(struct __sk_buff *skb, const struct packet *pkt,
						  const struct nat_end *from, const struct nat_end *to)
{
	__u32 l3 = sizeof(struct ethhdr), l4 = l3 + (pkt->l4_offset & 0x3f);
	bool udp = pkt->to.protocol == IPPROTO_UDP, echo = is_icmp(pkt);
	__u32 flags = udp ? BPF_F_MARK_MANGLED_0 : 0;
	__u32 check = l4 + (udp ? UDP_CHECK : echo ? ICMP_CHECK : TCP_CHECK);
	/* Sums of 16-bit words, in 32 bits: what the checksum helpers take as a difference. */
	__u32 old = fold_once(sum_four(pkt->from, pkt->to.address)),
	      new = fold_once(sum_four(from->address, to->address));
	__u32 addresses = new + (__u16)~fold_once(old), ports = from->port + to->port;
	__u32 port_change = ports + (__u16)~fold_once(pkt->from_port + pkt->to.port);

	/* ICMP's covers no addresses, ICMPv6's does. */
	if (pkt->to.protocol != IPPROTO_ICMP &&
	    bpf_l4_csum_replace(skb, check, 0, addresses, flags | BPF_F_PSEUDO_HDR))
		return false;
	if ((from->port != pkt->from_port || to->port != pkt->to.port) &&
	    bpf_l4_csum_replace(skb, check, 0, port_change, flags))
		return false;

	void *start = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	void *transport = start + l4;
	__be16 *words = transport;

	if ((void *)(words + 4) > end)
		return false;
	if (echo) {
		words[ICMP_ECHO_ID / 2] = from->port | to->port; /* one of them is 0 */
	} else {
		words[0] = from->port;
		words[1] = to->port;
	}
	return true;
}

/* Gives the packet other ends, of the family it has. */
static __always_inline bool nat_rewrite(struct __sk_buff *skb, const struct packet *pkt,
					const struct nat_end *from, const struct nat_end *to)
{
	return nat_rewrite_transport(skb, pkt, from, to) && nat_rewrite_addresses(skb, pkt, from, to);
}

#endif
