/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The outer headers: IP in IP (RFC 2003, RFC 2473, RFC 4213) and GUE variant 1 (draft-ietf-intarea-gue). The
 * inner packet is not touched. Outer TOS or traffic class is the inner one, ECN included (RFC 6040, normal
 * mode). IPv4: DF is set and the ID is 0, since a packet that is never fragmented needs none (RFC 6864).
 */
#ifndef FAIRLEAD_ENCAP_H
#define FAIRLEAD_ENCAP_H

#include <linux/udp.h>
#include "sum_packet.h"
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
