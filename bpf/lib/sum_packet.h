/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The Internet checksum of a whole packet, from its own checksum where that is cheaper. */
#ifndef FAIRLEAD_SUM_PACKET_H
#define FAIRLEAD_SUM_PACKET_H

#include <linux/udp.h>
#include "checksum.h"
#include "maps.h"
#include "parse.h"

#define SUM_PIECE sizeof(struct scratch)
#define SUM_PIECES_MAX 128 /* 64 KiB */

struct sum_walk {
	struct xdp_md *ctx;
	struct scratch *scratch;
	__u32 offset;
	__u32 left;
	__u32 sum;
};

/* One piece; says 1 at the end. */
static long sum_piece(__u32 piece, struct sum_walk *walk)
{
	__u8 *bytes = walk->scratch->bytes;
	__u32 take = walk->left < SUM_PIECE ? walk->left : SUM_PIECE;

	if (!take)
		return 1;
	/* Whole words: what is left of the last one is zero. */
	if (take < SUM_PIECE)
		*(__u32 *)(bytes + ((take & (SUM_PIECE - 1)) & ~3)) = 0;
	asm volatile("" : "+r"(take));
	/* 1 to SUM_PIECE, as it is already; said so that 6.1, which learns nothing from "not 0", sees it. */
	take = ((take - 1) & (SUM_PIECE - 1)) + 1;
	if (bpf_xdp_load_bytes(walk->ctx, walk->offset, bytes, take))
		return 1;
	__u32 words = (take + 3) & ~3;
	asm volatile("" : "+r"(words));
	if (words > SUM_PIECE)
		return 1;
	walk->sum = bpf_csum_diff(NULL, 0, (__be32 *)bytes, words, walk->sum);
	walk->offset += take;
	walk->left -= take;
	return 0;
}

/*
 * Of `size` bytes of the frame from `offset` on, wherever its buffers end. A pass over them all. 0 when the
 * frame does not hold them. A call for each piece, since the verifier follows a loop round by round.
 */
__noinline __u32 sum_bytes(struct xdp_md *ctx, __u32 offset, __u32 size)
{
	__u32 use = SCRATCH_SUM;
	struct sum_walk walk = {.ctx = ctx, .offset = offset, .left = size};

	walk.scratch = bpf_map_lookup_elem(&scratches, &use);
	if (!walk.scratch)
		return 0;
	bpf_loop(SUM_PIECES_MAX, sum_piece, &walk, 0);
	return walk.left ? 0 : fold_once(walk.sum);
}

/*
 * Of the whole IP packet, without a pass over it where its own checksums tell: an IPv4 header adds up to 0,
 * and so do TCP, UDP and ICMPv6 with their pseudo headers. `protocol` 0: it has no checksum of its own. A
 * function with plain arguments: inlined, it would have the verifier follow every packet once for each place
 * its headers may have.
 */
__noinline __u32 sum_packet(struct xdp_md *ctx, __u32 l2_size, __u32 l4_offset, __u32 packet_size,
			    __u32 protocol)
{
	void *start = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;
	__be16 *words = start + (l2_size & 0x1f);
	__u32 size = packet_size - l4_offset;

	if ((void *)(words + sizeof(struct iphdr) / 2) > end)
		return 0;
	bool v6 = *(__u8 *)words >> 4 == 6;

	/* Behind extension headers their bytes count too. */
	if (!protocol || (v6 && l4_offset != sizeof(struct ipv6hdr)))
		return sum_bytes(ctx, l2_size, packet_size);
	if (protocol == IPPROTO_UDP) {
		struct udphdr *udp = (void *)words + (l4_offset & 0xff);

		if ((void *)(udp + 1) > end || !udp->check || bpf_ntohs(udp->len) != size)
			return sum_bytes(ctx, l2_size, packet_size);
	}
	__u32 pseudo = bpf_htons(protocol) + bpf_htons(size);
	/* The addresses are in the header and, negative, in what follows. */
	if (v6)
		return words[0] + words[1] + words[2] + words[3] + (__u16)~fold_once(pseudo);
	if (protocol == IPPROTO_ICMP)
		return 0;
	pseudo += words[6] + words[7] + words[8] + words[9];
	return (__u16)~fold_once(fold_once(pseudo));
}

#endif
