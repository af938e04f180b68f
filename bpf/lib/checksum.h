/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The Internet checksum (RFC 1071): sums of 16-bit words in network order, in 32 bits, folded at the end. */
#ifndef FAIRLEAD_CHECKSUM_H
#define FAIRLEAD_CHECKSUM_H

#include <linux/types.h>

static __always_inline __u32 fold_once(__u32 sum)
{
	return (sum & 0xffff) + (sum >> 16);
}

static __always_inline __u16 fold_checksum(__u32 sum)
{
	return ~fold_once(fold_once(sum));
}

/* RFC 1624: a checksum after one of its words changed. */
static __always_inline __u16 checksum_change(__u16 check, __u16 from, __u16 to)
{
	return fold_checksum((__u16)~check + (__u16)~from + to);
}

/* Of 16 bytes, folded to 16 bits and a carry. */
static __always_inline __u32 sum_address(const volatile __be64 *address)
{
	__u64 a = address[0], b = address[1];
	__u64 sum = (a & 0xffffffff) + (a >> 32) + (b & 0xffffffff) + (b >> 32);

	return fold_once((__u32)(sum & 0xffffffff)) + (__u32)(sum >> 32);
}

#endif
