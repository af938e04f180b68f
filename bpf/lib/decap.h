/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What a backend does with a tunnel packet: finds what lies around the packet inside, IP in IP (all four
 * address mixes) or GUE of both variants, and takes it off. A congestion mark is carried inwards (RFC 6040).
 */
#ifndef FAIRLEAD_DECAP_H
#define FAIRLEAD_DECAP_H

#include "gue.h"
#include "checksum.h"

#define IP_FRAGMENT_BITS (IP_MF | IP_OFFSET)
#define ECN_MASK 3
#define ECN_NONE 0
#define ECN_CE 3
#define GUE_VARIANT_MASK 0xc0
#define GUE_CONTROL 0x20

/* What lies around the packet. */
struct outer {
	__u32 size;	/* bytes to take off; 0: nothing we know */
	__be16 inside;	/* EtherType of what is inside */
	bool marked;	/* congestion experienced on the way */
	__u16 gue;	/* bytes from the outer IP header to a GUE header of variant 0; 0: none */
	__be64 from[2]; /* outer source, as in service_key */
	__u8 family;	/* of the outer header */
};

static __always_inline __be16 type_of_protocol(__u8 protocol)
{
	if (protocol == IPPROTO_IPIP)
		return bpf_htons(ETH_P_IP);
	return protocol == IPPROTO_IPV6 ? bpf_htons(ETH_P_IPV6) : 0;
}

/*
 * Behind the UDP header, `size` bytes from the outer IP header: an IP packet itself, whose version is the
 * variant (1), or a header of variant 0 without optional fields. Its private data is not looked at here.
 */
static __always_inline void find_gue(struct outer *outer, void *payload, void *end, __u32 size)
{
	struct gue_owners *gue = payload;

	if (payload + GUE_WORD > end)
		return;
	if (!(gue->length & (GUE_VARIANT_MASK | GUE_CONTROL)) && !gue->flags) {
		outer->inside = type_of_protocol(gue->protocol);
		outer->gue = size;
		size += GUE_WORD + (gue->length & GUE_LENGTH_MASK) * GUE_WORD;
	} else if (gue->length >> 4 == 4) {
		outer->inside = bpf_htons(ETH_P_IP);
	} else if (gue->length >> 4 == 6) {
		outer->inside = bpf_htons(ETH_P_IPV6);
	}
	outer->size = outer->inside ? size : 0;
}

/* Behind an outer IP header of `size` bytes with this protocol. */
static __always_inline void find_inside(struct outer *outer, void *l4, void *end, __u8 protocol, __u32 size)
{
	struct udphdr *udp = l4;

	if (type_of_protocol(protocol)) {
		outer->inside = type_of_protocol(protocol);
		outer->size = size;
	} else if (protocol == IPPROTO_UDP && (void *)(udp + 1) <= end && udp->dest == bpf_htons(GUE_PORT)) {
		find_gue(outer, udp + 1, end, size + sizeof(*udp));
	}
}

static __always_inline struct outer find_outer(struct ethhdr *eth, void *end)
{
	struct outer outer = {};
	struct iphdr *ip4 = (void *)(eth + 1);
	struct ipv6hdr *ip6 = (void *)(eth + 1);

	if ((void *)(eth + 1) > end)
		return outer;
	if (eth->h_proto == bpf_htons(ETH_P_IP)) {
		if ((void *)(ip4 + 1) > end || ip4->ihl != 5 || ip4->frag_off & bpf_htons(IP_FRAGMENT_BITS))
			return outer;
		outer.family = FAMILY_IPV4;
		outer.from[0] = ip4->saddr;
		outer.marked = (ip4->tos & ECN_MASK) == ECN_CE;
		find_inside(&outer, ip4 + 1, end, ip4->protocol, sizeof(*ip4));
	} else if (eth->h_proto == bpf_htons(ETH_P_IPV6)) {
		if ((void *)(ip6 + 1) > end)
			return outer;
		outer.family = FAMILY_IPV6;
		copy_address(outer.from, &ip6->saddr);
		outer.marked = (ip6->flow_lbl[0] >> 4 & ECN_MASK) == ECN_CE;
		find_inside(&outer, ip6 + 1, end, ip6->nexthdr, sizeof(*ip6));
	}
	return outer;
}

/* Marks the packet inside; false when it cannot be marked, and so has to be dropped (RFC 6040, 4.2). */
static __always_inline bool mark(struct ethhdr *eth, void *end)
{
	struct iphdr *ip4 = (void *)(eth + 1);
	struct ipv6hdr *ip6 = (void *)(eth + 1);

	if (eth->h_proto == bpf_htons(ETH_P_IPV6)) {
		if ((void *)(ip6 + 1) > end)
			return true;
		if ((ip6->flow_lbl[0] >> 4 & ECN_MASK) == ECN_NONE)
			return false;
		ip6->flow_lbl[0] |= ECN_CE << 4;
		return true;
	}
	if ((void *)(ip4 + 1) > end)
		return true;
	if ((ip4->tos & ECN_MASK) == ECN_NONE)
		return false;
	__u16 *word = (void *)ip4;
	__u16 before = *word;

	ip4->tos |= ECN_CE;
	ip4->check = checksum_change(ip4->check, before, *word);
	return true;
}

/* Takes the outer header off and passes the packet up. */
static __always_inline int decap(struct xdp_md *ctx, const struct outer *outer)
{
	struct ethhdr *eth = (void *)(long)ctx->data;

	if ((void *)(eth + 1) > (void *)(long)ctx->data_end)
		return XDP_PASS;
	struct ethhdr saved = *eth;

	if (bpf_xdp_adjust_head(ctx, outer->size))
		return XDP_DROP;
	void *end = (void *)(long)ctx->data_end;

	eth = (void *)(long)ctx->data;
	if ((void *)(eth + 1) > end)
		return XDP_DROP;
	*eth = saved;
	eth->h_proto = outer->inside;
	return !outer->marked || mark(eth, end) ? XDP_PASS : XDP_DROP;
}

#endif
