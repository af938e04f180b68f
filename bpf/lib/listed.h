/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* On a backend: a packet that came with a list of owners (gue.h), and its way to the next one. */
#ifndef FAIRLEAD_LISTED_H
#define FAIRLEAD_LISTED_H

#include <linux/tcp.h>
#include "decap.h"

/* A list of owners, and the TCP packet it came with. */
struct listed {
	struct packet pkt; /* addresses, ports, flags, l4_offset from `ip` */
	struct owners owners;
	__u32 next;
	void *ip; /* the packet inside */
	__u64 tag;
};

/* Steps over one address, if there are so many. `at` is a constant: 6.1's verifier wants no index into the
 * stack. */
static __always_inline bool read_owner(struct listed *list, const __u32 at, __be32 **word, void *end)
{
	if (at >= list->owners.count)
		return true;
	if (list->owners.family == FAMILY_IPV6) {
		if ((void *)(*word + 4) > end)
			return false;
		copy_address(list->owners.address[at], *word);
		*word += 4;
	} else {
		if ((void *)(*word + 1) > end)
			return false;
		list->owners.address[at][0] = *(*word)++;
	}
	return true;
}

/* False: the list, or the packet it came with, contradicts itself. */
static __always_inline bool read_list(struct listed *list, void *gue_start, void *end,
				      const struct outer *outer)
{
	struct gue_owners *gue = gue_start;
	__be32 *word = (void *)(gue + 1);

	if ((void *)word > end || gue->form != OWNERS_FORM || !gue->count || gue->count > OWNERS_MAX ||
	    gue->next > gue->count || gue->family != outer->family)
		return false;
	list->owners.count = gue->count;
	list->owners.family = gue->family;
	list->next = gue->next;
	list->tag = (__u64)gue->tag[1] << 32 | gue->tag[0];
	if (gue->length * GUE_WORD + GUE_WORD != (int)gue_owners_size(&list->owners))
		return false;
	if (!read_owner(list, 0, &word, end) || !read_owner(list, 1, &word, end) ||
	    !read_owner(list, 2, &word, end))
		return false;
	list->ip = word;
	return true;
}

/* The TCP packet at list->ip; false when it is none, or not whole enough to have a socket. */
static __always_inline bool read_tcp(struct listed *list, void *end, __be16 type)
{
	struct packet *pkt = &list->pkt;
	struct iphdr *ip4 = list->ip;
	struct ipv6hdr *ip6 = list->ip;
	struct tcphdr *tcp;

	if (type == bpf_htons(ETH_P_IP)) {
		if ((void *)(ip4 + 1) > end || ip4->version != 4 || ip4->ihl < 5 ||
		    ip4->protocol != IPPROTO_TCP || ip4->frag_off & bpf_htons(IP_FRAGMENT_BITS))
			return false;
		pkt->to.family = FAMILY_IPV4;
		pkt->from[0] = ip4->saddr;
		pkt->to.address[0] = ip4->daddr;
		pkt->l4_offset = ip4->ihl * 4;
	} else {
		if ((void *)(ip6 + 1) > end || ip6->version != 6 || ip6->nexthdr != IPPROTO_TCP)
			return false;
		pkt->to.family = FAMILY_IPV6;
		copy_address(pkt->from, &ip6->saddr);
		copy_address(pkt->to.address, &ip6->daddr);
		pkt->l4_offset = sizeof(*ip6);
	}
	tcp = list->ip + (pkt->l4_offset & 0x3f);
	if ((void *)(tcp + 1) > end)
		return false;
	pkt->from_port = tcp->source;
	pkt->to.port = tcp->dest;
	pkt->tcp_flags = ((__u8 *)tcp)[13];
	return true;
}

/* The outer header's way to the next owner. */
static __always_inline bool readdress(struct ethhdr *eth, void *end, const struct outer *outer,
				      const struct listed *list)
{
	__be64 to[2] = {};
	struct gue_owners *gue = (void *)(eth + 1) + (outer->gue & 0x3f);
	struct udphdr *udp = (void *)gue - sizeof(*udp);

	if ((void *)(gue + 1) > end)
		return false;
#pragma unroll
	for (int at = 0; at < OWNERS_MAX; at++) {
		if (at == (int)list->next) {
			to[0] = list->owners.address[at][0];
			to[1] = list->owners.address[at][1];
		}
	}
	__be16 *turn = (void *)&gue->form;
	__be16 before = *turn;

	gue->next++;
	if (outer->family == FAMILY_IPV4) {
		struct iphdr *ip = (void *)(eth + 1);
		__be32 from = ip->daddr, next = (__be32)to[0];

		ip->daddr = next;
		ip->check = checksum_change(checksum_change(ip->check, from & 0xffff, next & 0xffff),
					    from >> 16, next >> 16);
		if (udp->check) {
			__u16 check =
				checksum_change(checksum_change(udp->check, from & 0xffff, next & 0xffff),
						from >> 16, next >> 16);

			check = checksum_change(check, before, *turn);
			udp->check = check ? check : 0xffff;
		}
		return true;
	}
	struct ipv6hdr *ip = (void *)(eth + 1);
	__be64 from[2];

	copy_address(from, &ip->daddr);
	__u32 old = fold_once(sum_address(from)), new = fold_once(sum_address(to));
	__u16 check = checksum_change(checksum_change(udp->check, old, new), before, *turn);

	copy_address((__be64 *)&ip->daddr, to);
	udp->check = check ? check : 0xffff;
	return true;
}

/* Every header of a listed packet: the outer ones, the longest list, the inner ones with options. */
#define HEADERS_MAX (sizeof(struct ethhdr) + 40 + 8 + sizeof(struct gue_owners) + OWNERS_MAX * 16 + 60 + 20)

#endif
