/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What an ICMP error is in the other family: the tables of RFC 7915, 4.2 and 5.2. */
#ifndef FAIRLEAD_NAT_ERROR_TYPES_H
#define FAIRLEAD_NAT_ERROR_TYPES_H

#include "too_big.h"

#define IP_GROWTH (sizeof(struct ipv6hdr) - sizeof(struct iphdr))

/* Type, code, and the word behind the checksum in the low half; all in host order. 0: it is not translated.
 */
static __always_inline __u64 error_word(__u32 type, __u32 code, __u32 rest)
{
	return (__u64)(type << 8 | code) << 32 | rest;
}

/* RFC 1191, 7.1: what a router that does not say may have. Under IPv6's least it does not matter. */
static __always_inline __u32 mtu_plateau(__u32 size)
{
	if (size > 32000)
		return 32000;
	if (size > 17914)
		return 17914;
	if (size > 8166)
		return 8166;
	if (size > 4352)
		return 4352;
	if (size > 2002)
		return 2002;
	return size > 1492 ? 1492 : 0;
}

/*
 * ICMP to ICMPv6 (RFC 7915, 4.2). `size`: IP bytes of the quoted packet. A function with plain arguments: it
 * is verified once, and not once for each way through the tables.
 */
__noinline __u64 error_to_ipv6(__u32 type, __u32 code, __u32 rest, __u32 size)
{
	__u32 mtu = rest & 0xffff, pointer = rest >> 24;

	if (type == ICMP_TIME_EXCEEDED)
		return error_word(ICMPV6_TIME_EXCEEDED, code, 0);
	if (type == ICMP_UNREACHABLE) {
		switch (code) {
		case 2:
			return error_word(ICMPV6_PARAMETER, 1, 6);
		case 3:
			return error_word(ICMPV6_UNREACHABLE, 4, 0);
		case ICMP_FRAGMENT_NEEDED:
			mtu = (mtu ? mtu : mtu_plateau(size)) + IP_GROWTH;
			return error_word(ICMPV6_TOO_BIG, 0, mtu < IPV6_MTU_MIN ? IPV6_MTU_MIN : mtu);
		case 9:
		case 10:
		case 13:
		case 15:
			return error_word(ICMPV6_UNREACHABLE, 1, 0);
		default:
			return code <= 12 ? error_word(ICMPV6_UNREACHABLE, 0, 0) : 0;
		}
	}
	if (type != ICMP_PARAMETER || (code != 0 && code != 2))
		return 0;
	switch (pointer) {
	case 0:
	case 1:
		break;
	case 2:
	case 3:
		pointer = 4;
		break;
	case 8:
		pointer = 7;
		break;
	case 9:
		pointer = 6;
		break;
	default:
		if (pointer < 12 || pointer > 19)
			return 0;
		pointer = pointer < 16 ? 8 : 24;
	}
	return error_word(ICMPV6_PARAMETER, 0, pointer);
}

/* ICMPv6 to ICMP (RFC 7915, 5.2). `growth`: what IPv6's headers of the quoted packet are longer. */
__noinline __u64 error_to_ipv4(__u32 type, __u32 code, __u32 rest, __u32 growth)
{
	switch (type) {
	case ICMPV6_UNREACHABLE:
		if (code == 1)
			return error_word(ICMP_UNREACHABLE, 10, 0);
		if (code == 4)
			return error_word(ICMP_UNREACHABLE, 3, 0);
		return code < 4 ? error_word(ICMP_UNREACHABLE, 1, 0) : 0;
	case ICMPV6_TOO_BIG:
		if (rest < IPV6_MTU_MIN)
			rest = IPV6_MTU_MIN;
		if (rest > 0xffff)
			rest = 0xffff;
		return error_word(ICMP_UNREACHABLE, ICMP_FRAGMENT_NEEDED, rest - growth);
	case ICMPV6_TIME_EXCEEDED:
		return error_word(ICMP_TIME_EXCEEDED, code, 0);
	case ICMPV6_PARAMETER:
		if (code == 1)
			return error_word(ICMP_UNREACHABLE, 2, 0);
		if (code)
			return 0;
		if (rest <= 1)
			return error_word(ICMP_PARAMETER, 0, rest << 24);
		if (rest == 4 || rest == 5)
			return error_word(ICMP_PARAMETER, 0, 2 << 24);
		if (rest == 6 || rest == 7)
			return error_word(ICMP_PARAMETER, 0, (rest == 6 ? 9 : 8) << 24);
		if (rest >= 8 && rest < 40)
			return error_word(ICMP_PARAMETER, 0, (rest < 24 ? 12 : 16) << 24);
		return 0;
	default:
		return 0;
	}
}

/* RFC 4884: how long the quote is where extensions follow it, which stay behind; 0: nothing follows. */
static __always_inline __u32 quote_length(bool v4, __u32 type, __u32 rest)
{
	if (v4)
		return (rest >> 16 & 0xff) * 4;
	return type == ICMPV6_UNREACHABLE || type == ICMPV6_TIME_EXCEEDED ? (rest >> 24) * 8 : 0;
}

#endif
