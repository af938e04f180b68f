/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The Internet checksum of a whole packet, from its own checksum where that is cheaper. */
#ifndef FAIRLEAD_SUM_PACKET_H
#define FAIRLEAD_SUM_PACKET_H

#include <linux/udp.h>
#include "checksum.h"
#include "parse.h"
#include "sum_bytes.h"

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
