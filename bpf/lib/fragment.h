/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Fragments: all of a datagram go to one backend. */
#ifndef FAIRLEAD_FRAGMENT_H
#define FAIRLEAD_FRAGMENT_H

#include "choose.h"

static __noinline int fragment(struct xdp_md *ctx, struct packet *pkt)
{
	return finish(REASON_FRAGMENT, 0, 0);
}

#endif
