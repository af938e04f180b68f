/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A packet whose backend is a guess, since its row was another's before: sent with the row's other owners,
 * so that the backend's agent can pass on what it has no socket for.
 */
#ifndef FAIRLEAD_OWNERS_H
#define FAIRLEAD_OWNERS_H

#include "gue.h"
#include "send.h"

/* The row's owners other than `first` that take packets and are not down, previous ones first, of the family
 * of its address.
 */
static __always_inline void owners_of(struct owners *owners, const struct service *service, __u64 row,
				      __u32 first, const struct backend *to)
{
	__u64 order = row >> 16 | row << 48;

	owners->family = to->flags & BACKEND_IPV6 ? FAMILY_IPV6 : FAMILY_IPV4;
	for (int at = 0; at < 4; at++) {
		__u32 number = (__u16)(order >> 16 * at);
		bool seen = !number || number == first;

		for (int before = 0; before < at; before++)
			seen |= number == (__u16)(order >> 16 * before);
		if (seen)
			continue;
		const struct backend *owner = backend_of(service, number);

		if (!owner || owner->flags & BACKEND_DOWN)
			continue;
		if ((owner->flags ^ to->flags) & BACKEND_IPV6 || owners->count >= OWNERS_MAX)
			continue;
		owners->address[owners->count][0] = owner->address[0];
		owners->address[owners->count][1] = owner->address[1];
		owners->count++;
	}
}

/* Behind the UDP header, which is at `udp`; the sum of what it writes goes to `sum`. */
static __always_inline bool write_owners(struct udphdr *udp, void *end, const struct packet *pkt,
					 const struct owners *owners, __u32 *sum)
{
	struct gue_owners *gue = (void *)(udp + 1);
	__u64 tag = owners_tag(agent_key[0], agent_key[1], pkt, owners);
	__be32 *word = (void *)(gue + 1);

	if ((void *)word > end)
		return false;
	*gue = (struct gue_owners){
		.length = (gue_owners_size(owners) - GUE_WORD) / GUE_WORD,
		.protocol = pkt->to.family == FAMILY_IPV6 ? IPPROTO_IPV6 : IPPROTO_IPIP,
		.form = OWNERS_FORM,
		.count = owners->count,
		.family = owners->family,
		.tag = {(__u32)tag, tag >> 32},
	};
	*sum = sum_address((__be64 *)gue);
	for (int at = 0; at < OWNERS_MAX; at++) {
		if (at >= (int)owners->count)
			break;
		if (owners->family == FAMILY_IPV6) {
			if ((void *)(word + 4) > end)
				return false;
			copy_address((__be64 *)word, owners->address[at]);
			*sum += sum_address(owners->address[at]);
			word += 4;
		} else {
			if ((void *)(word + 1) > end)
				return false;
			*word++ = (__be32)owners->address[at][0];
		}
	}
	return true;
}

/* encap() with the owners: `size` IP bytes are added. */
static __always_inline enum reason encap_owners(struct xdp_md *ctx, const struct packet *pkt,
						const struct backend *to, const struct owners *owners,
						__u32 size, __u32 entropy)
{
	bool v6 = owners->family == FAMILY_IPV6;
	__u32 inner = 0, list;

	if (v6)
		inner = sum_packet(ctx, pkt->l2_size, pkt->l4_offset, pkt->size, pkt->to.protocol);
	if (!make_room(ctx, pkt, size & 0xff))
		return REASON_NO_HEADROOM;

	void *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = (void *)(long)ctx->data;
	void *ip = eth + 1;

	if (v6) {
		struct udphdr *udp = ip + sizeof(struct ipv6hdr);
		__u32 payload = pkt->size + size - sizeof(struct ipv6hdr);

		if ((void *)(udp + 1) > end || !write_owners(udp, end, pkt, owners, &list))
			return REASON_INTERNAL;
		write_ipv6(ip, pkt, to, payload, IPPROTO_UDP, entropy);
		write_udp(udp, payload, entropy, 0);
		udp->check = gue_check(udp, to, payload, fold_once(inner) + list);
	} else {
		struct udphdr *udp = ip + sizeof(struct iphdr);

		if ((void *)(udp + 1) > end || !write_owners(udp, end, pkt, owners, &list))
			return REASON_INTERNAL;
		write_ipv4(ip, pkt, to, pkt->size + size, IPPROTO_UDP);
		write_udp(udp, pkt->size + size - sizeof(struct iphdr), entropy, 0);
	}
	write_macs(eth, to);
	eth->h_proto = v6 ? bpf_htons(ETH_P_IPV6) : bpf_htons(ETH_P_IP);
	return to->tag_count ? add_tags(ctx, to) : REASON_FORWARDED;
}

/* Whether the packet may be cut: IPv4 without DF. */
static __always_inline bool may_split(struct xdp_md *ctx, const struct packet *pkt)
{
	struct iphdr *ip = (void *)(long)ctx->data + (pkt->l2_size & 0x1f);

	return pkt->to.family == FAMILY_IPV4 && (void *)(ip + 1) <= (void *)(long)ctx->data_end &&
	       !(ip->frag_off & bpf_htons(IP_DF));
}

/*
 * Sends the errand whose backend is a guess. ERRAND_READY: with no list, since there is no other owner, or
 * since the packet fits only in two, and an agent cannot tell whose the second one is.
 */
__noinline int send_guess(struct xdp_md *ctx)
{
	struct errand *errand = scratch(SCRATCH_ERRAND);
	struct owners owners = {};

	if (!errand)
		return finish(REASON_INTERNAL, 0, 0);
	const struct packet *pkt = &errand->pkt;
	const struct service *service = &errand->service;

	if (!errand->row)
		return ERRAND_READY;
	const struct backend *to = backend_of(service, errand->number);

	if (!to)
		return ERRAND_READY;
	owners_of(&owners, service, errand->row, errand->number, to);
	if (!owners.count)
		return ERRAND_READY;
	__u32 outer = outer_size(SERVICE_GUE, to) + gue_owners_size(&owners);
	__u32 limit = to->mtu < tunnel_mtu ? to->mtu : tunnel_mtu;

	if (pkt->size + outer > limit)
		return may_split(ctx, pkt) ? ERRAND_READY : too_big(ctx, service->number, limit - outer);
	enum reason reason = encap_owners(ctx, pkt, to, &owners, outer, errand->entropy);

	if (reason != REASON_FORWARDED)
		return finish(reason, service->number, 0);
	count_traffic(service, to, pkt->size, errand->begins);
	return finish(to->interface != ctx->ingress_ifindex ? REASON_REDIRECTED : REASON_FORWARDED,
		      service->number, to->interface);
}

#endif
