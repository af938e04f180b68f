// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * For backends: takes the outer header off IP in IP (4in4, 6in6) and passes the packet up. Where the
 * kernel has its ipip and ip6tnl modules, those do the same.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define IP_FRAGMENT_BITS 0x3fff /* more fragments, offset */

/* Bytes of outer header when the frame is whole IP in IP of one family, else 0. */
static __always_inline int outer_size(struct ethhdr *eth, void *end)
{
	struct iphdr *ip4 = (void *)(eth + 1);
	struct ipv6hdr *ip6 = (void *)(eth + 1);

	if ((void *)(eth + 1) > end)
		return 0;
	if (eth->h_proto == bpf_htons(ETH_P_IP)) {
		if ((void *)(ip4 + 1) > end || ip4->protocol != IPPROTO_IPIP || ip4->ihl != 5 ||
		    ip4->frag_off & bpf_htons(IP_FRAGMENT_BITS))
			return 0;
		return sizeof(*ip4);
	}
	if (eth->h_proto == bpf_htons(ETH_P_IPV6)) {
		if ((void *)(ip6 + 1) > end || ip6->nexthdr != IPPROTO_IPV6)
			return 0;
		return sizeof(*ip6);
	}
	return 0;
}

SEC("xdp")
int xdp_decap(struct xdp_md *ctx)
{
	void *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = (void *)(long)ctx->data;
	int size = outer_size(eth, end);

	if (!size)
		return XDP_PASS;

	struct ethhdr saved = *eth;

	if (bpf_xdp_adjust_head(ctx, size))
		return XDP_DROP;
	end = (void *)(long)ctx->data_end;
	eth = (void *)(long)ctx->data;
	if ((void *)(eth + 1) > end)
		return XDP_DROP;
	*eth = saved;
	return XDP_PASS;
}

char _license[] SEC("license") = "Dual BSD/GPL";
