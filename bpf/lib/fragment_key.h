/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What fragments of a datagram, or of any between two addresses, are remembered by. */
#ifndef FAIRLEAD_FRAGMENT_KEY_H
#define FAIRLEAD_FRAGMENT_KEY_H

#include "parse.h"

static __always_inline struct fragment_key fragment_key(const struct packet *pkt, enum fragment_kind kind)
{
	return (struct fragment_key){
		.from = {pkt->from[0], pkt->from[1]},
		.to = {pkt->to.address[0], pkt->to.address[1]},
		.id = kind == FRAGMENT_DATAGRAM ? pkt->fragment_id : 0,
		.protocol = pkt->to.protocol,
		.family = pkt->to.family,
		.kind = kind,
	};
}

#endif
