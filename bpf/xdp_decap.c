// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * For backends: takes the outer header off IP in IP (all four address mixes) and GUE variant 1, carries a
 * congestion mark inwards (RFC 6040) and passes the packet up. Where the kernel has its ipip, ip6tnl, sit and
 * fou modules, those do the same.
 */
#include <stdbool.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include "lib/types.h"

#define IP_FRAGMENT_BITS 0x3fff /* more fragments, offset */
#define ECN_MASK 3
#define ECN_NONE 0
#define ECN_CE 3

/* What lies around the packet. */
struct outer {
	__u32 size;    /* bytes to take off; 0: nothing we know */
	__be16 inside; /* EtherType of what is inside */
	bool marked;   /* congestion experienced on the way */
};

/* The EtherType of an IP packet that begins at `start`, by its version; 0 when it is none. */
static __always_inline __be16 ip_type(__u8 *start, void *end)
{
	if ((void *)(start + 1) > end)
		return 0;
	if (*start >> 4 == 4)
		return bpf_htons(ETH_P_IP);
	return *start >> 4 == 6 ? bpf_htons(ETH_P_IPV6) : 0;
}

/* Behind an outer IP header of `size` bytes with this protocol. */
static __always_inline void find_inside(struct outer *outer, void *l4, void *end, __u8 protocol, __u32 size)
{
	struct udphdr *udp = l4;

	if (protocol == IPPROTO_IPIP || protocol == IPPROTO_IPV6) {
		outer->inside = protocol == IPPROTO_IPIP ? bpf_htons(ETH_P_IP) : bpf_htons(ETH_P_IPV6);
		outer->size = size;
	} else if (protocol == IPPROTO_UDP && (void *)(udp + 1) <= end && udp->dest == bpf_htons(GUE_PORT)) {
		outer->inside = ip_type((void *)(udp + 1), end);
		outer->size = outer->inside ? size + sizeof(*udp) : 0;
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
		outer.marked = (ip4->tos & ECN_MASK) == ECN_CE;
		find_inside(&outer, ip4 + 1, end, ip4->protocol, sizeof(*ip4));
	} else if (eth->h_proto == bpf_htons(ETH_P_IPV6)) {
		if ((void *)(ip6 + 1) > end)
			return outer;
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
	/* RFC 1624: the checksum after its first word changed. */
	__u16 *word = (void *)ip4;
	__u32 sum = (__u16)~ip4->check + (__u16) ~*word;

	ip4->tos |= ECN_CE;
	sum += *word;
	sum = (sum & 0xffff) + (sum >> 16);
	ip4->check = ~((sum & 0xffff) + (sum >> 16));
	return true;
}

SEC("xdp.frags")
int xdp_decap(struct xdp_md *ctx)
{
	void *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = (void *)(long)ctx->data;
	struct outer outer = find_outer(eth, end);

	if (!outer.size)
		return XDP_PASS;

	struct ethhdr saved = *eth;

	if (bpf_xdp_adjust_head(ctx, outer.size))
		return XDP_DROP;
	end = (void *)(long)ctx->data_end;
	eth = (void *)(long)ctx->data;
	if ((void *)(eth + 1) > end)
		return XDP_DROP;
	*eth = saved;
	eth->h_proto = outer.inside;
	return !outer.marked || mark(eth, end) ? XDP_PASS : XDP_DROP;
}

char _license[] SEC("license") = "Dual BSD/GPL";
