/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Sums of 16-bit words of a frame that may lie in several buffers; for XDP, or with SUM_CONTEXT for TC. */
#ifndef FAIRLEAD_SUM_BYTES_H
#define FAIRLEAD_SUM_BYTES_H

#include "checksum.h"
#include "maps.h"

#ifndef SUM_CONTEXT
#define SUM_CONTEXT struct xdp_md
#define SUM_LOAD_BYTES bpf_xdp_load_bytes
#endif

#define SUM_PIECE sizeof(struct scratch)
#define SUM_PIECES_MAX 128 /* 64 KiB */

struct sum_walk {
	SUM_CONTEXT *ctx;
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
	if (SUM_LOAD_BYTES(walk->ctx, walk->offset, bytes, take))
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
__noinline __u32 sum_bytes(SUM_CONTEXT *ctx, __u32 offset, __u32 size)
{
	__u32 use = SCRATCH_SUM;
	struct sum_walk walk = {.ctx = ctx, .offset = offset, .left = size};

	walk.scratch = bpf_map_lookup_elem(&scratches, &use);
	if (!walk.scratch)
		return 0;
	bpf_loop(SUM_PIECES_MAX, sum_piece, &walk, 0);
	return walk.left ? 0 : fold_once(walk.sum);
}

#endif
