/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What an ICMP error quotes: a packet a backend sent to a client, so the flow's own packets go the other way.
 */
#ifndef FAIRLEAD_QUOTE_H
#define FAIRLEAD_QUOTE_H

#include "config.h"
#include "parse_any.h"

#define QUOTED_PORTS 4 /* bytes of transport: RFC 792 promises eight */

/* A place in the quote: `offset` bytes into the packet, where `left` bytes of it lie. */
struct quoted {
	__u32 offset;
	__u32 left;
	__u16 l2_size;
	__u8 protocol;
};

/*
 * Steps over one IP header of the quote and fills `flow` with its addresses, turned round. REASON_MALFORMED:
 * not a whole header. REASON_ICMP_UNKNOWN: one whose transport is not there.
 */
__noinline int quoted_header(struct xdp_md *ctx, struct quoted *at, struct packet *flow)
{
	if (!at || !flow)
		return REASON_INTERNAL;

	void *end = (void *)(long)ctx->data_end;
	void *ip = (void *)(long)ctx->data + (at->l2_size & 0x1f);
	__u8 *header = header_at(ip, at->offset);

	if (at->left < sizeof(struct iphdr))
		return REASON_MALFORMED;
	if ((void *)header + sizeof(struct iphdr) > end)
		return REASON_TRUNCATED;
	if (header[0] >> 4 == 4) {
		struct iphdr *ip4 = (void *)header;
		__u32 size = ip4->ihl * 4;

		if (size < sizeof(*ip4) || size > at->left)
			return REASON_MALFORMED;
		flow->to.family = FAMILY_IPV4;
		flow->to.address[0] = ip4->saddr;
		flow->to.address[1] = 0;
		flow->from[0] = ip4->daddr;
		flow->from[1] = 0;
		at->protocol = ip4->protocol;
		at->offset += size;
		at->left -= size;
		return ip4->frag_off & bpf_htons(IP_OFFSET) ? REASON_ICMP_UNKNOWN : REASON_FORWARDED;
	}
	struct ipv6hdr *ip6 = (void *)header;

	if (header[0] >> 4 != 6 || at->left < sizeof(*ip6))
		return REASON_MALFORMED;
	if ((void *)(ip6 + 1) > end)
		return REASON_TRUNCATED;
	flow->to.family = FAMILY_IPV6;
	copy_address(flow->to.address, &ip6->saddr);
	copy_address(flow->from, &ip6->daddr);

	/* The chain is that of a packet which begins and ends where the quote does. */
	struct packet chain = {.size = at->left, .l4_offset = sizeof(*ip6)};
	__u8 protocol = ip6->nexthdr;

	if (parse_extensions(&chain, header, end, &protocol, true) != REASON_FORWARDED ||
	    chain.fragment_offset)
		return REASON_ICMP_UNKNOWN;
	at->protocol = protocol;
	at->offset += chain.l4_offset;
	at->left -= chain.l4_offset;
	return REASON_FORWARDED;
}

/* Steps over the UDP header of GUE variant 1: its payload begins with an IP version. */
static __always_inline bool quoted_gue(void *ip, void *end, struct quoted *at)
{
	__be16 *udp = header_at(ip, at->offset);

	if (at->protocol != IPPROTO_UDP || at->left < UDP_HEADER_SIZE + 1 ||
	    (void *)udp + UDP_HEADER_SIZE + 1 > end || udp[1] != bpf_htons(GUE_PORT))
		return false;
	__u8 version = ((__u8 *)udp)[UDP_HEADER_SIZE] >> 4;
	if (version != 4 && version != 6)
		return false;
	at->offset += UDP_HEADER_SIZE;
	at->left -= UDP_HEADER_SIZE;
	return true;
}

/* `flow`: the addresses, ports and protocol of the client's packets of the flow that the ICMP error `pkt`
 * quotes. */
__noinline int parse_quote(struct xdp_md *ctx, const struct packet *pkt, struct packet *flow)
{
	if (!pkt || !flow)
		return REASON_INTERNAL;
	__builtin_memset(flow, 0, sizeof(*flow));

	void *end = (void *)(long)ctx->data_end;
	void *ip = (void *)(long)ctx->data + (pkt->l2_size & 0x1f);
	struct quoted at = {.l2_size = pkt->l2_size,
			    .offset = pkt->l4_offset + sizeof(struct icmp_header),
			    .left = pkt->size - pkt->l4_offset - sizeof(struct icmp_header)};
	enum reason reason = quoted_header(ctx, &at, flow);

	if (reason != REASON_FORWARDED)
		return reason;
	if (at.protocol == IPPROTO_IPIP || at.protocol == IPPROTO_IPV6 || quoted_gue(ip, end, &at)) {
		reason = quoted_header(ctx, &at, flow);
		if (reason != REASON_FORWARDED)
			return reason;
	}
	if (at.left < QUOTED_PORTS)
		return REASON_MALFORMED;
	if (at.protocol != IPPROTO_TCP && at.protocol != IPPROTO_UDP)
		return REASON_ICMP_UNKNOWN;

	__be16 *ports = header_at(ip, at.offset);

	if ((void *)(ports + 2) > end)
		return REASON_TRUNCATED;
	flow->to.protocol = at.protocol;
	flow->to.port = ports[0];
	flow->from_port = ports[1];
	return REASON_FORWARDED;
}

#endif
