/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Two hashes of the 5-tuple. flow_hash is quick, keyed, and only places a flow in the flow
 * table. ring_hash decides the backend: SipHash under the cluster's key, needed on a miss only.
 */
#ifndef FAIRLEAD_HASH_H
#define FAIRLEAD_HASH_H

#include "config.h"
#include "parse.h"
#include "service.h"
#include "siphash.h"

static __always_inline __u64 ports_and_protocol(const struct packet *pkt)
{
	return (__u64)pkt->to.protocol << 32 | (__u64)pkt->to.port << 16 | pkt->from_port;
}

/* Multiply-xorshift rounds with odd constants of MurmurHash3's finaliser. */
static __always_inline __u64 mix(__u64 hash, __u64 word)
{
	hash = (hash ^ word) * 0xff51afd7ed558ccdULL;
	return hash ^ hash >> 32;
}

static __always_inline __u64 flow_hash(const struct packet *pkt)
{
	__u64 hash = index_key[0];

	if (pkt->to.family == FAMILY_IPV6) {
		/* Two halves that the processor multiplies side by side. */
		__u64 low = mix(index_key[1], pkt->from[1]);

		low = mix(low, pkt->to.address[1]);
		hash = mix(hash, pkt->from[0]);
		hash = mix(hash, pkt->to.address[0]) ^ (low << 32 | low >> 32);
	} else {
		hash = mix(hash, pkt->to.address[0] << 32 | pkt->from[0]);
	}
	hash = mix(hash, ports_and_protocol(pkt) ^ index_key[1]);
	return mix(hash, index_key[0]);
}

/*
 * SipHash-1-3 of, in packet order: source address, destination address (4 or 16 bytes each), source
 * port, destination port (network order), protocol (one byte). The same bytes as src/ring/siphash.ts.
 */
static __always_inline __u64 ring_hash(const struct packet *pkt)
{
	struct sip s = sip_begin(ring_key[0], ring_key[1]);
	__u64 size = 4 + 4 + 5;

	if (pkt->to.family == FAMILY_IPV6) {
		sip_word(&s, pkt->from[0]);
		sip_word(&s, pkt->from[1]);
		sip_word(&s, pkt->to.address[0]);
		sip_word(&s, pkt->to.address[1]);
		size = 16 + 16 + 5;
	} else {
		sip_word(&s, pkt->to.address[0] << 32 | pkt->from[0]);
	}
	return sip_end(&s, size, ports_and_protocol(pkt));
}

/* SipHash-1-3 of an address alone: 4 or 16 bytes, as in service_key. */
static __always_inline __u64 source_hash(__u8 family, __be64 first, __be64 second)
{
	struct sip s = sip_begin(ring_key[0], ring_key[1]);

	if (family != FAMILY_IPV6)
		return sip_end(&s, 4, first);
	sip_word(&s, first);
	sip_word(&s, second);
	return sip_end(&s, 16, 0);
}

#endif
