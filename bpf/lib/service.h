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
	__u64 address = pkt->to.address[0] ^ pkt->to.address[1];
	__u32 bit = ((__u32)address ^ (__u32)(address >> 32)) * VIP_FILTER_FACTOR >> VIP_FILTER_SHIFT;
	__u32 word = bit / 64;
	__u64 *bits = bpf_map_lookup_elem(&vip_filter, &word);

	return bits && *bits >> (bit & 63) & 1;
}

/* The u64 of a key that holds port, protocol and family. */
static __always_inline __u64 key_rest(const struct service_key *key)
{
	return *(const __u64 *)&key->port;
}

/* Where a search for the key begins. Its twin is serviceSlot in src/dataplane/services.ts. */
static __always_inline __u32 service_slot(const struct service_key *key)
{
	__u64 hash = key->address[0] ^ key->address[1] * 0x9e3779b97f4a7c15ULL ^ key_rest(key) << 17;

	return hash * 0xff51afd7ed558ccdULL >> (64 - SERVICE_SLOTS_LOG2);
}

/*
 * Copies the service or marker with exactly this key. One load: also while the entry changes, it is one
 * service's number, pool and counters.
 */
static __always_inline bool service_find(const struct service_key *key, struct service *found)
{
	__u32 slot = service_slot(key);

	for (int probe = 0; probe < SERVICE_PROBES; probe++) {
		__u32 index = (slot + probe) & (SERVICE_SLOTS - 1);
		struct service_entry *entry = bpf_map_lookup_elem(&services, &index);

		if (!entry || entry->key.family == FAMILY_NONE)
			return false;
		if (key_rest(&entry->key) == key_rest(key) && entry->key.address[0] == key->address[0] &&
		    entry->key.address[1] == key->address[1]) {
			*(__u64 *)found = *(volatile __u64 *)&entry->value;
			return true;
		}
	}
	return false;
}

/* The service of all ports of an address as one u64, 0: none. Apart, since few packets want it. */
__noinline __u64 service_any_port(__be64 first, __be64 second, __u32 protocol, __u32 family)
{
	struct service_key key = {.address = {first, second}, .protocol = protocol, .family = family};
	struct service found;

	return service_find(&key, &found) ? *(__u64 *)&found : 0;
}

/* The service of the packet's address, port and protocol, or that of all ports of its address. */
static __always_inline bool service_of(const struct packet *pkt, struct service *found)
{
	if (service_find(&pkt->to, found))
		return true;
	*(__u64 *)found =
		service_any_port(pkt->to.address[0], pkt->to.address[1], pkt->to.protocol, pkt->to.family);
	return *(__u64 *)found;
}

/* Whether any service has the packet's address. */
static __always_inline bool is_vip(const struct packet *pkt)
{
	struct service_key key = pkt->to;
	struct service marker;

	key.port = 0;
	key.protocol = 0;
	return service_find(&key, &marker);
}

#endif
