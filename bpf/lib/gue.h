/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * GUE variant 0 (draft-ietf-intarea-gue) whose private data names the other owners of the flow's row, for a
 * backend that has no socket for the packet: written by the balancer (owners.h), read by its agents
 * (agent.c). On the wire: struct gue_owners, then `count` addresses of 4 or 16 bytes.
 */
#ifndef FAIRLEAD_GUE_H
#define FAIRLEAD_GUE_H

#include <stdbool.h>
#include <linux/udp.h>
#include "parse.h"
#include "siphash.h"

enum owners_limit { OWNERS_MAX = 3 };

#define GUE_LENGTH_MASK 0x1f /* of the first byte; above it version and control, both 0 here */
#define GUE_WORD 4
#define OWNERS_FORM 1 /* of our private data, should there be another one day */

struct gue_owners {
	__u8 length;   /* words behind the first one */
	__u8 protocol; /* of the packet inside: IPPROTO_IPIP, IPPROTO_IPV6 */
	__be16 flags;  /* 0: no optional fields */
	__u8 form;
	__u8 next; /* where in the list it goes from here: all that changes on the way */
	__u8 count;
	__u8 family; /* of the addresses: the outer header's */
	__u32 tag[2];
};
_Static_assert(sizeof(struct gue_owners) == 16, "as on the wire");

struct owners {
	__be64 address[OWNERS_MAX][2]; /* as in service_key */
	__u32 count;
	__u32 family;
};

static __always_inline __u32 owner_size(__u32 family)
{
	return family == FAMILY_IPV6 ? sizeof(struct in6_addr) : sizeof(__be32);
}

static __always_inline __u32 gue_owners_size(const struct owners *owners)
{
	return sizeof(struct gue_owners) + owners->count * owner_size(owners->family);
}

/*
 * Who may say where a packet goes on: SipHash-1-3 of the packet's addresses and the owners (16 bytes each,
 * always three), then in the last word its ports and family, the owners' number and their family.
 */
static __always_inline __u64 owners_tag(__u64 key0, __u64 key1, const struct packet *pkt,
					const struct owners *owners)
{
	struct sip s = sip_begin(key0, key1);

	sip_word(&s, pkt->from[0]);
	sip_word(&s, pkt->from[1]);
	sip_word(&s, pkt->to.address[0]);
	sip_word(&s, pkt->to.address[1]);
	for (int at = 0; at < OWNERS_MAX; at++) {
		sip_word(&s, owners->address[at][0]);
		sip_word(&s, owners->address[at][1]);
	}
	return sip_end(&s, 10 * sizeof(__u64) + 7,
		       (__u64)pkt->to.family << 48 | (__u64)owners->family << 40 |
			       (__u64)owners->count << 32 | (__u64)pkt->to.port << 16 | pkt->from_port);
}

#endif
