/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The outer headers into a frame (outer.h). The inner packet is not touched. */
#ifndef FAIRLEAD_ENCAP_H
#define FAIRLEAD_ENCAP_H

#include "outer.h"
#include "sum_packet.h"

/* Puts the next hop's VLAN tags into a frame that has none. */
static __noinline enum reason add_tags(struct xdp_md *ctx, const struct backend *to)
{
	bool two = to->tag_count > 1;

	if (bpf_xdp_adjust_head(ctx, two ? -2 * TAG_SIZE : -TAG_SIZE))
		return REASON_NO_HEADROOM;

	void *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = (void *)(long)ctx->data;
	__be16 *word = (void *)(eth + 1);

	if ((void *)(word + 4) > end)
		return REASON_INTERNAL;
	/* The type of the packet was the last word before the old tags' place. */
	__be16 type = word[two ? 3 : 1];
	const __be16 *tag = (const __be16 *)to->tag;

	write_macs(eth, to);
	eth->h_proto = tag[0];
	word[0] = tag[1];
	word[1] = two ? tag[2] : type;
	if (two) {
		word[2] = tag[3];
		word[3] = type;
	}
	return REASON_FORWARDED;
}

/* The inner packet's own tags give way to `outer` bytes and an Ethernet header. */
static __always_inline bool make_room(struct xdp_md *ctx, const struct packet *pkt, int outer)
{
	return !bpf_xdp_adjust_head(ctx, (int)pkt->l2_size - (int)sizeof(struct ethhdr) - outer);
}

static __always_inline enum reason encap_ipv4(struct xdp_md *ctx, const struct packet *pkt,
					      const struct backend *to, __u32 flags, __u32 entropy)
{
	bool gue = flags & SERVICE_GUE;
	__u32 size = pkt->size + sizeof(struct iphdr) + (gue ? sizeof(struct udphdr) : 0);
	__u8 protocol = pkt->to.family == FAMILY_IPV6 ? IPPROTO_IPV6 : IPPROTO_IPIP;

	if (!make_room(ctx, pkt, sizeof(struct iphdr) + (gue ? sizeof(struct udphdr) : 0)))
		return REASON_NO_HEADROOM;

	void *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = (void *)(long)ctx->data;
	struct iphdr *ip = (void *)(eth + 1);
	struct udphdr *udp = (void *)(ip + 1);

	if ((void *)(udp + 1) > end) /* also without UDP: the inner packet is longer than that */
		return REASON_INTERNAL;
	write_macs(eth, to);
	eth->h_proto = bpf_htons(ETH_P_IP);
	if (gue) {
		protocol = IPPROTO_UDP;
		/* No checksum: the inner one protects what matters, and FOU sends none either. */
		write_udp(udp, pkt->size + sizeof(*udp), entropy, 0);
	}
	write_ipv4(ip, pkt, to, size, protocol);
	return REASON_FORWARDED;
}

static __always_inline enum reason encap_ipv6(struct xdp_md *ctx, const struct packet *pkt,
					      const struct backend *to, __u32 flags, __u32 entropy)
{
	bool gue = flags & SERVICE_GUE;
	__u32 payload = pkt->size + (gue ? sizeof(struct udphdr) : 0);
	__u8 protocol = pkt->to.family == FAMILY_IPV6 ? IPPROTO_IPV6 : IPPROTO_IPIP;
	__u32 inner = 0;

	/* One of several fragments has no checksum of its own. */
	if (gue)
		inner = sum_packet(ctx, pkt->l2_size, pkt->l4_offset, pkt->size,
				   pkt->fragment ? 0 : pkt->to.protocol);

	if (!make_room(ctx, pkt, sizeof(struct ipv6hdr) + (gue ? sizeof(struct udphdr) : 0)))
		return REASON_NO_HEADROOM;

	void *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = (void *)(long)ctx->data;
	struct ipv6hdr *ip = (void *)(eth + 1);
	struct udphdr *udp = (void *)(ip + 1);

	if ((void *)(udp + 1) > end) /* also without UDP: the inner packet is longer than that */
		return REASON_INTERNAL;
	write_macs(eth, to);
	eth->h_proto = bpf_htons(ETH_P_IPV6);
	if (gue) {
		protocol = IPPROTO_UDP;
		write_udp(udp, payload, entropy, 0);
		udp->check = gue_check(udp, to, payload, inner);
	}
	write_ipv6(ip, pkt, to, payload, protocol, entropy);
	return REASON_FORWARDED;
}

/* Only the frame changes. */
static __always_inline enum reason encap_l2(struct xdp_md *ctx, const struct packet *pkt,
					    const struct backend *to)
{
	__be16 type = pkt->to.family == FAMILY_IPV6 ? bpf_htons(ETH_P_IPV6) : bpf_htons(ETH_P_IP);
	struct ethhdr *eth = (void *)(long)ctx->data;

	if ((void *)(eth + 1) > (void *)(long)ctx->data_end)
		return REASON_INTERNAL;
	/* It has tags. The frame is asked, not l2_size: see sum_packet. */
	if (eth->h_proto != type) {
		if (!make_room(ctx, pkt, 0))
			return REASON_NO_HEADROOM;
		eth = (void *)(long)ctx->data;
		if ((void *)(eth + 1) > (void *)(long)ctx->data_end)
			return REASON_INTERNAL;
		eth->h_proto = type;
	}
	write_macs(eth, to);
	return REASON_FORWARDED;
}

/* `flags`: enum service_flag. `entropy` is the same for all packets of a flow. */
static __always_inline enum reason encap(struct xdp_md *ctx, const struct packet *pkt,
					 const struct backend *to, __u32 flags, __u32 entropy)
{
	enum reason reason;

	if (flags & SERVICE_L2)
		reason = encap_l2(ctx, pkt, to);
	else if (to->flags & BACKEND_IPV6)
		reason = encap_ipv6(ctx, pkt, to, flags, entropy);
	else
		reason = encap_ipv4(ctx, pkt, to, flags, entropy);
	if (reason == REASON_FORWARDED && to->tag_count)
		reason = add_tags(ctx, to);
	return reason;
}

#endif
