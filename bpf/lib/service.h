/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Whose packet is it? */
#ifndef FAIRLEAD_SERVICE_H
#define FAIRLEAD_SERVICE_H

#include <stdbool.h>
#include "maps.h"
#include "parse.h"

/*
 * False: certainly not for a VIP. One multiplication and one cached line instead of a hash lookup, since
 * on a node that is also a host most packets are not for us (bench: not_ours).
 */
static __always_inline bool service_possible(const struct packet *pkt)
{
	const __be32 *address = pkt->to.address;
	__u32 bit =
		(address[0] ^ address[1] ^ address[2] ^ address[3]) * VIP_FILTER_FACTOR >> VIP_FILTER_SHIFT;
	__u32 word = bit / 64;
	__u64 *bits = bpf_map_lookup_elem(&vip_filter, &word);

	return bits && *bits >> (bit & 63) & 1;
}

/* A packet we cannot balance is dropped when it was meant for a VIP, and none of our business otherwise. */
static __always_inline enum reason unless_ours(struct packet *pkt, enum reason reason)
{
	if (reason == REASON_NOT_IP || reason == REASON_RUNT || reason == REASON_NOT_OURS)
		return reason;
	pkt->to.port = 0;
	pkt->to.protocol = 0;
	return bpf_map_lookup_elem(&services, &pkt->to) ? reason : REASON_NOT_OURS;
}

#endif
