/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The ways out of tc_nat: to the backend, to the client, nowhere. */
#ifndef FAIRLEAD_NAT_SEND_H
#define FAIRLEAD_NAT_SEND_H

#include "nat_connect.h"

/* What a function says, beside actions: for another one to look at. */
#define NAT_OTHER (-2)
#define NAT_LATER (-3)
#define NAT_NOT_OURS (-4)

static __always_inline int nat_drop(__u32 service, enum nat_outcome why)
{
	nat_count(service, why);
	return TC_ACT_SHOT;
}

static __always_inline struct backend *nat_taking(__u32 number)
{
	struct backend *backend = bpf_map_lookup_elem(&backends, &number);

	return backend && backend->flags & BACKEND_VALID ? backend : NULL;
}

/* Whether new connections may go to the backend. */
static __always_inline bool nat_begins(__u32 number)
{
	const struct backend *backend = nat_taking(number);

	return backend && !(backend->flags & BACKEND_DOWN);
}

static __always_inline bool nat_set_macs(struct __sk_buff *skb, const __u8 *to, const __u8 *from)
{
	struct ethhdr *eth = (void *)(long)skb->data;

	if ((void *)(eth + 1) > (void *)(long)skb->data_end)
		return false;
	__builtin_memcpy(eth->h_dest, to, ETH_ALEN);
	__builtin_memcpy(eth->h_source, from, ETH_ALEN);
	return true;
}

static __always_inline int nat_to_backend(struct __sk_buff *skb, const struct backend *to)
{
	if (!nat_set_macs(skb, to->next_hop_mac, to->source_mac))
		return TC_ACT_SHOT;
	for (int tag = 1; tag >= 0; tag--) {
		const __be16 *words = (const __be16 *)&to->tag[tag];

		if (tag < to->tag_count && bpf_skb_vlan_push(skb, words[0], bpf_ntohs(words[1])))
			return TC_ACT_SHOT;
	}
	return bpf_redirect(to->interface, 0);
}

/* Out where its requests come in; of an egress connection up to the stack, which knows the way. */
static __always_inline int nat_to_client(struct __sk_buff *skb, const struct nat_connection *nat)
{
	if (!nat->service)
		return TC_ACT_UNSPEC;
	const struct nat_detail *detail = nat_detail(nat->id);

	return detail && nat_set_macs(skb, detail->router_mac, detail->own_mac)
		       ? bpf_redirect(detail->interface, 0)
		       : TC_ACT_SHOT;
}

/* As in XDP: requests only, by service and member. */
static __always_inline void nat_count_request(const struct nat_connection *nat, const struct backend *to,
					      struct __sk_buff *skb, __u32 start, __u32 pool, bool begins)
{
	__u32 index = start + (to->pool == pool ? to->slot : 0);
	struct counters *count = bpf_map_lookup_elem(&counters, &index);

	if (!count)
		return;
	count->packets += skb->gso_segs ? skb->gso_segs : 1;
	count->bytes += skb->len - sizeof(struct ethhdr);
	count->connections += begins;
}

/* What the packet is longer by on the other side of its connection; IP bytes. */
static __always_inline __s32 nat_growth(const struct nat_connection *nat, const struct packet *pkt)
{
	__s32 more = sizeof(struct ipv6hdr) - sizeof(struct iphdr);

	if (nat->client_family == nat->backend_family)
		return 0;
	if (pkt->fragment)
		more += sizeof(struct nat_fragment_header);
	return pkt->to.family == FAMILY_IPV4 ? more : -more;
}

/* IP bytes; of a super-packet, of the longest piece that it is cut to. */
static __always_inline __s32 nat_size(struct __sk_buff *skb, const struct packet *pkt)
{
	__u32 header = UDP_HEADER_SIZE;

	if (!skb->gso_size)
		return pkt->size;
	if (pkt->to.protocol == IPPROTO_TCP) {
		__u8 *tcp = (void *)(long)skb->data + sizeof(struct ethhdr) + (pkt->l4_offset & 0x3f);

		if ((void *)(tcp + TCP_HEADER_MIN) > (void *)(long)skb->data_end)
			return pkt->size;
		header = (tcp[12] >> 4) * 4;
	}
	return pkt->l4_offset + header + skb->gso_size;
}

/* The interface that requests come in by; 0: none has. */
static __always_inline __u32 nat_home(const struct nat_connection *nat)
{
	struct nat_detail *detail = nat_detail(nat->id);

	return detail ? detail->interface : 0;
}

#endif
