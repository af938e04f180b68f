/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The packets parse() leaves: IPv6 extension headers (RFC 8200), fragments, ICMP, and whatever contradicts
 * itself. Told in docs/packet-path.md, "What becomes of a packet", 2 to 6.
 */
#ifndef FAIRLEAD_PARSE_ANY_H
#define FAIRLEAD_PARSE_ANY_H

#include "parse.h"

#define EXTENSIONS_MAX 6
#define IP_MAX 65535

/* Sets where the fragment lies; `size` bytes of data it has. */
static __always_inline enum reason parse_fragment(struct packet *pkt, __u32 offset, bool more, __u32 size)
{
	pkt->fragment_offset = offset;
	pkt->fragment = more || offset;
	if (offset + size > IP_MAX || (more && size % 8))
		return REASON_MALFORMED;
	return REASON_FORWARDED;
}

/*
 * Follows the chain from `protocol` at pkt->l4_offset to the transport's header. Reads only the frame's first
 * buffer: a chain beyond is REASON_TRUNCATED. `cut`: the packet is the beginning of one, so its size tells
 * nothing.
 */
static __always_inline enum reason parse_extensions(struct packet *pkt, void *ip, void *end, __u8 *protocol,
						    bool cut)
{
	bool seen = false;

	for (int count = 0; count <= EXTENSIONS_MAX; count++) {
		/* Else clang makes a loop that falls through into its own head: to 6.1 a back-edge. */
		asm volatile("" : "+r"(count));
		__u8 type = *protocol;
		__u32 left = pkt->size - pkt->l4_offset;
		__u32 offset = pkt->l4_offset;
		__u32 size;

		if (type != IPPROTO_HOPOPTS && type != IPPROTO_ROUTING && type != IPPROTO_DSTOPTS &&
		    type != IPPROTO_AH && type != IPPROTO_FRAGMENT)
			return REASON_FORWARDED;
		if (count == EXTENSIONS_MAX)
			return REASON_EXTENSION;
		/* RFC 7112: the first fragment has the whole chain; here it ends with its data. */
		if (left < 8)
			return REASON_MALFORMED;
		__u8 *header = header_at(ip, offset);
		if ((void *)header + 8 > end)
			return REASON_TRUNCATED;
		*protocol = header[0];
		if (type == IPPROTO_FRAGMENT) {
			__u32 field = bpf_ntohs(*(__be16 *)(header + 2));

			if (seen)
				return REASON_MALFORMED;
			seen = true;
			pkt->fragment_id = *(__be32 *)(header + 4);
			pkt->l4_offset += 8;
			enum reason reason =
				parse_fragment(pkt, field & 0xfff8, field & 1, cut ? 0 : left - 8);
			/* Behind an offset lies data, not a chain. */
			if (reason != REASON_FORWARDED || pkt->fragment_offset)
				return reason;
			continue;
		}
		size = type == IPPROTO_AH ? (header[1] + 2) * 4 : (header[1] + 1) * 8;
		if (size > left)
			return REASON_MALFORMED;
		if (type == IPPROTO_ROUTING && header[3])
			return REASON_EXTENSION;
		pkt->l4_offset += size;
	}
	return REASON_EXTENSION;
}

/*
 * Fills `pkt`. With any reason but REASON_NOT_IP and REASON_RUNT the addresses are set, so the caller can
 * ask whose packet it is. REASON_FORWARDED: TCP or UDP, perhaps a fragment of it (with ports if it is the
 * first), or whole ICMP of the packet's family. REASON_NOT_OURS: another protocol.
 */
__noinline int parse_any(struct xdp_md *ctx, struct packet *pkt)
{
	if (!pkt)
		return REASON_INTERNAL;

	void *start = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;
	__be16 type = parse_link(start, end, &pkt->l2_size);
	void *l3 = start + pkt->l2_size;
	enum reason reason;
	__u8 protocol, icmp;

	if (type == bpf_htons(ETH_P_IP)) {
		struct iphdr *ip = l3;

		icmp = IPPROTO_ICMP;
		reason = parse_ipv4_header(ctx, pkt, ip, end);
		if (reason != REASON_FORWARDED)
			return reason;
		__u32 field = bpf_ntohs(ip->frag_off);
		protocol = ip->protocol;
		pkt->fragment_id = ip->id;
		reason = parse_fragment(pkt, (field & IP_OFFSET) * 8, field & IP_MF,
					pkt->size - pkt->l4_offset);
	} else if (type == bpf_htons(ETH_P_IPV6)) {
		struct ipv6hdr *ip = l3;

		icmp = IPPROTO_ICMPV6;
		reason = parse_ipv6_header(ctx, pkt, ip, end);
		if (reason != REASON_FORWARDED)
			return reason;
		protocol = ip->nexthdr;
		reason = parse_extensions(pkt, ip, end, &protocol, false);
	} else {
		return REASON_NOT_IP;
	}
	if (reason != REASON_FORWARDED)
		return reason;
	pkt->to.protocol = protocol;
	if (protocol != IPPROTO_TCP && protocol != IPPROTO_UDP && protocol != icmp)
		return REASON_NOT_OURS;
	__u32 size = pkt->size - pkt->l4_offset;
	void *l4 = header_at(l3, pkt->l4_offset);
	if (protocol == icmp)
		return pkt->fragment ? REASON_FRAGMENT : REASON_FORWARDED;
	if (!pkt->fragment_offset)
		return parse_transport(pkt, l4, end, size, protocol, pkt->fragment);
	if (protocol == IPPROTO_TCP && pkt->fragment_offset < TCP_HEADER_MIN)
		return REASON_MALFORMED;
	return REASON_FORWARDED;
}

#endif
