/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* How a connection of NAT begins, goes on and ends. */
#ifndef FAIRLEAD_NAT_CONNECT_H
#define FAIRLEAD_NAT_CONNECT_H

#include "budget.h"
#include "nat_table.h"
#include "nat_packet.h"

static __always_inline void nat_count(__u32 service, enum nat_outcome outcome)
{
	__u64 at = outcome;
	__u64 *counts = bpf_map_lookup_elem(&nat_outcomes, &service);

	asm volatile("" : "+r"(at));
	if (counts && at < NAT_OUTCOME_COUNT)
		counts[at]++;
}

/*
 * How long a handshake takes, each half by its first packet. Until it is over the second half's place holds
 * the clock: of the SYN, then of the SYN-ACK.
 */
static __always_inline void nat_shake(struct nat_detail *nat, __u32 way, bool syn)
{
	__u32 now = bpf_ktime_get_ns() / 1000, since = nat->handshake_us[1];
	__u32 spent = now - since ? now - since : 1; /* 0: not seen */

	if (way == NAT_REPLY && syn && since && !nat->handshake_us[0]) {
		nat->handshake_us[0] = spent;
		nat->handshake_us[1] = now | !now;
	} else if (way == NAT_REQUEST && syn && !since) {
		nat->handshake_us[1] = now | !now;
	} else if (way == NAT_REQUEST && !syn) {
		nat->handshake_us[1] = nat->handshake_us[0] ? spent : 0;
	}
}

/* What of TCP's states matters for how long a connection is kept (RFC 9293; timeouts as RFC 5382 wants them).
 */
static __always_inline void nat_follow(struct nat_connection *nat, __u32 way, const struct packet *pkt)
{
	__u8 before = nat->state, state = before;

	if (pkt->to.protocol != IPPROTO_TCP) {
		if (way == NAT_REPLY && state == NAT_NEW)
			nat->state = NAT_ESTABLISHED;
		return;
	}
	bool syn = pkt->tcp_flags & TCP_SYN;

	if (before == NAT_ESTABLISHED && !(pkt->tcp_flags & (TCP_RST | TCP_FIN)))
		return;
	struct nat_detail *detail = nat_detail(nat->id);

	if (!detail)
		return;
	if (pkt->tcp_flags & TCP_RST) {
		state = NAT_CLOSED;
	} else if (pkt->tcp_flags & TCP_FIN) {
		detail->fins |= 1 << way;
		state = detail->fins == 3 ? NAT_CLOSED : NAT_CLOSING;
	} else if (state == NAT_NEW) {
		nat_shake(detail, way, syn);
		if (way == NAT_REQUEST && !syn)
			state = NAT_ESTABLISHED;
	}
	if (state == before)
		return;
	if (state >= NAT_CLOSING && before == NAT_NEW)
		detail->handshake_us[1] = 0;
	/* Last: who reads that it is over reads how long it took. */
	*(volatile __u8 *)&nat->state = state;
}

/* One more packet, or a super-packet of several. */
static __always_inline void nat_tally(struct nat_connection *nat, __u32 way, struct __sk_buff *skb,
				      const struct packet *pkt, __u32 ticks)
{
	__u32 packets = skb->gso_segs ? skb->gso_segs : 1;
	__u32 before;

	way &= 1;
	before = nat->packets[way];
	nat->seen = ticks;
	nat->packets[way] = before + packets;
	if (before + packets < before) {
		struct nat_detail *detail = nat_detail(nat->id);

		if (detail)
			detail->packets_high[way]++;
	}
	nat->bytes[way] += pkt->size;
}

/*
 * Where requests come from is where replies go: the router may have been replaced by another. Noted only
 * then: nat_details is one more cache line.
 */
static __always_inline void nat_note_router(struct nat_connection *nat, struct __sk_buff *skb)
{
	struct ethhdr *eth = (void *)(long)skb->data;

	if ((void *)(eth + 1) > (void *)(long)skb->data_end)
		return;
	const __be16 *macs = (const __be16 *)eth;
	__u64 sum = mix(skb->ifindex, (__u64)macs[0] << 32 | (__u64)macs[1] << 16 | macs[2]);
	__u32 digest = mix(sum, (__u64)macs[3] << 32 | (__u64)macs[4] << 16 | macs[5]) | 1;

	if (nat->router == digest)
		return;
	struct nat_detail *detail = nat_detail(nat->id);

	if (!detail)
		return;
	detail->interface = skb->ifindex;
	__builtin_memcpy(detail->router_mac, eth->h_source, ETH_ALEN);
	__builtin_memcpy(detail->own_mac, eth->h_dest, ETH_ALEN);
	nat->router = digest;
}

/* Who a connection is to be with. */
struct nat_peer {
	__be64 address[2];
	__be16 port;
	__u16 backend; /* number; 0: egress */
	__u16 service;
	__u16 pool;  /* 0: the source stays */
	__u8 family; /* of the address */
};

/*
 * Begins a connection where the client's last one with these ports was, when it is with the same peer: it
 * keeps the place in the index and the source, whose sequence numbers the backend knows. Else ends that:
 * false.
 */
__noinline int nat_renew(__u32 id, const struct nat_peer *peer, __u32 ticks)
{
	struct nat_connection *nat = nat_connection(id);
	struct nat_detail *detail = nat_detail(id);

	if (!nat || !detail || !peer)
		return false;
	if (nat->service != peer->service || nat->backend != peer->backend ||
	    nat->backend_port != peer->port || detail->pool != peer->pool ||
	    nat->backend_family != peer->family || !same_address(detail->backend_address, peer->address) ||
	    nat->state == NAT_GONE) {
		nat_end(id, ticks);
		return false;
	}
	nat->seen = ticks;
	for (int way = NAT_REQUEST; way <= NAT_REPLY; way++) {
		nat->packets[way] = 0;
		nat->bytes[way] = 0;
		detail->packets_high[way] = 0;
		detail->handshake_us[way] = 0;
	}
	detail->begun = ticks;
	detail->fins = 0;
	*(volatile __u8 *)&nat->state = NAT_NEW;
	return true;
}

/* Begins the connection of this packet: NAT_OUTCOME_BEGUN << 32 | id, or why not. Its hash is flow_hash's. */
__noinline __u64 nat_begin(const struct packet *pkt, const struct nat_peer *peer, __u64 hash, __u32 ticks)
{
	__u32 id = nat_id_take();
	struct nat_connection *nat = nat_connection(id);
	struct nat_detail *detail = nat_detail(id);

	if (id == NAT_NONE || !nat || !detail || !pkt || !peer)
		return NAT_OUTCOME_FULL;
	__builtin_memset(nat, 0, sizeof(*nat));
	__builtin_memset(detail, 0, sizeof(*detail));
	nat->id = id;
	nat->client_port = pkt->from_port;
	nat->vip_port = pkt->to.port;
	nat->backend_port = peer->port;
	nat->service = peer->service;
	nat->backend = peer->backend;
	nat->protocol = pkt->to.protocol;
	nat->client_family = pkt->to.family;
	nat->backend_family = peer->family;
	nat->seen = ticks;
	detail->begun = ticks;
	copy_address(detail->client, pkt->from);
	copy_address(detail->backend_address, peer->address);
	nat->source_port = pkt->from_port;
	copy_address(detail->source, pkt->from);
	if (peer->family != pkt->to.family) {
		detail->source[0] = (__u64)nat_prefix[1] << 32 | nat_prefix[0];
		detail->source[1] = pkt->from[0] << 32 | nat_prefix[2];
	}
	if (peer->pool) {
		__u32 number = peer->pool, taken = nat_take(number);
		struct nat_pool *pool = bpf_map_lookup_elem(&nat_pools, &number);
		__u32 at = taken >> 16 & (NAT_POOL_SIZE - 1);

		if (taken == NAT_NONE || !pool) {
			nat->state = NAT_GONE;
			return NAT_OUTCOME_PORTS;
		}
		detail->pool = peer->pool;
		detail->pool_address = at;
		nat->source_port = bpf_htons(taken & 0xffff);
		copy_address(detail->source, pool->address[at]);
	}
	nat->client4 = detail->client[0];
	nat->backend4 = detail->backend_address[0];
	nat->source4 = detail->source[0];
	/* Last: what the index names is whole. */
	*(volatile __u8 *)&nat->state = NAT_NEW;
	if (!nat_link(nat_hash(id, NAT_REPLY), id, NAT_REPLY) || !nat_link(hash, id, NAT_REQUEST)) {
		nat_end(id, ticks);
		return NAT_OUTCOME_FULL;
	}
	return (__u64)NAT_OUTCOME_BEGUN << 32 | id;
}

/* Who a request's ends are behind the node where that is not IPv4. Apart, for what nearly every packet is. */
__noinline int nat_request_ends(const struct nat_connection *nat, struct nat_end *from, struct nat_end *to)
{
	struct nat_detail *detail = nat ? nat_detail(nat->id) : NULL;

	if (!detail || !from || !to)
		return 0;
	copy_address(from->address, detail->source);
	copy_address(to->address, detail->backend_address);
	return 0;
}

/* Who the packet's ends are on the other side. */
static __always_inline void nat_ends(const struct nat_connection *nat, __u32 way, const struct packet *pkt,
				     struct nat_end *from, struct nat_end *to)
{
	if (way == NAT_REQUEST) {
		*from = (struct nat_end){{nat->source4}, nat->source_port};
		*to = (struct nat_end){{nat->backend4}, nat->backend_port};
		if (nat->backend_family != FAMILY_IPV4)
			nat_request_ends(nat, from, to);
		return;
	}
	__u32 number = nat->service;
	struct nat_service *service = bpf_map_lookup_elem(&nat_services, &number);

	*from = (struct nat_end){{pkt->from[0], pkt->from[1]}, nat->vip_port};
	if (nat->service && service)
		copy_address(from->address, service->address);
	*to = (struct nat_end){{nat->client4}, nat->client_port};
	if (nat->client_family != FAMILY_IPV4) {
		struct nat_detail *detail = nat_detail(nat->id);

		if (detail)
			copy_address(to->address, detail->client);
	}
}

#endif
