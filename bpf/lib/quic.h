/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * QUIC by connection ID: draft-ietf-quic-load-balancers, plaintext server IDs. A connection that moves to
 * another address stays with its server.
 */
#ifndef FAIRLEAD_QUIC_H
#define FAIRLEAD_QUIC_H

#include "exit.h"
#include "parse.h"

#define QUIC_LONG 0x80
#define QUIC_V1 0x00000001
#define QUIC_V2 0x6b3343cf /* RFC 9369 */
#define QUIC_CID_MAX 20
#define UDP_LENGTH_AT 4 /* RFC 768 */

struct quic_head {
	__u8 first;
	__u8 version[4];
	__u8 id_length;
};

/* Initial and 0-RTT carry an ID of the client's choice. Type bits: RFC 9000, 17.2; RFC 9369, 3.2. */
static __always_inline bool quic_from_client(__u8 first, __u32 version)
{
	__u8 type = first >> 4 & 3;

	return version == QUIC_V1 ? type <= 1 : type == 1 || type == 2;
}

#define QUIC_TALLY(tally) ((__u64)(tally) << 32)

/*
 * The number of the backend a connection ID names, or 0; in the high half the tally that says why. That the
 * backend takes packets is not looked at. `at`: where the UDP datagram lies in the frame; `left`: bytes of it
 * and behind it in the IP packet.
 */
__noinline __u64 quic_server(struct xdp_md *ctx, __u32 at, __u32 left, __u32 pool)
{
	struct quic_head head = {};
	struct quic_key key = {.pool = pool};
	const __u64 unknown = QUIC_TALLY(TALLY_QUIC_UNKNOWN);
	__u32 id_size;
	__u8 id_first;
	__be16 size; /* the datagram's */

	if (bpf_xdp_load_bytes(ctx, at + UDP_LENGTH_AT, &size, sizeof(size)))
		return unknown;
	/* What lies behind the datagram is not QUIC's. In a first fragment the datagram goes on beyond it. */
	if (left > bpf_ntohs(size))
		left = bpf_ntohs(size);
	at += UDP_HEADER_SIZE;
	left -= UDP_HEADER_SIZE;
	if (left < 1 || bpf_xdp_load_bytes(ctx, at, &head.first, 1))
		return unknown;
	if (head.first & QUIC_LONG) {
		if (left < sizeof(head) || bpf_xdp_load_bytes(ctx, at, &head, sizeof(head)))
			return unknown;
		__u32 version = (__u32)head.version[0] << 24 | head.version[1] << 16 | head.version[2] << 8 |
				head.version[3];

		if (version != QUIC_V1 && version != QUIC_V2)
			return unknown;
		if (quic_from_client(head.first, version))
			return QUIC_TALLY(TALLY_QUIC_INITIAL);
		at += sizeof(head);
		left -= sizeof(head);
		id_size = head.id_length;
		if (id_size > QUIC_CID_MAX || id_size > left)
			return unknown;
	} else {
		at += 1;
		id_size = left - 1;
	}
	if (id_size < 1 || bpf_xdp_load_bytes(ctx, at, &id_first, 1))
		return unknown;
	__u32 config = id_first >> 5;
	struct quic_lengths *lengths = bpf_map_lookup_elem(&quic_lengths, &pool);

	if (!lengths || config >= QUIC_CONFIGS)
		return unknown;
	__u32 length = lengths->length[config & 7];
	if (!length || length > QUIC_ID_MAX || id_size < 1 + length)
		return unknown;
	/* 1 to QUIC_ID_MAX still; said so that 6.1, which learns nothing from "not 0", sees it. */
	asm volatile("" : "+r"(length));
	length = ((length - 1) & QUIC_ID_MAX) + 1;
	if (length > QUIC_ID_MAX)
		return unknown;
	key.config = config;
	key.length = length;
	if (bpf_xdp_load_bytes(ctx, at + 1, key.id, length))
		return unknown;
	__u32 *number = bpf_map_lookup_elem(&quic_servers, &key);

	return number ? *number | unknown : unknown;
}

#endif
