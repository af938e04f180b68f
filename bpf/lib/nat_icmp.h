/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * ICMP errors about connections of NAT (RFC 5508, section 4): the packet they quote is made what its sender
 * had sent, and the error goes where that came from. A router's own address stays, so that traceroute shows
 * the way. Between families: nat_across.h.
 */
#ifndef FAIRLEAD_NAT_ICMP_H
#define FAIRLEAD_NAT_ICMP_H

#include "nat_across.h"

/* Ethernet, two IPv4 headers with options, ICMP, and as much of TCP as holds its checksum. */
#define NAT_ICMP_HEADERS (sizeof(struct ethhdr) + 60 + sizeof(struct icmp_header) + 60 + TCP_HEADER_MIN)

static __always_inline bool is_icmp_error(__u32 family, __u8 type)
{
	if (family == FAMILY_IPV6)
		return type >= ICMPV6_UNREACHABLE && type <= ICMPV6_PARAMETER;
	return type == ICMP_UNREACHABLE || type == ICMP_TIME_EXCEEDED || type == ICMP_PARAMETER;
}

/* Of the same family as the error. False: it quotes nothing that NAT could know. */
static __always_inline bool nat_read_quote(struct __sk_buff *skb, struct nat_quote *quote)
{
	void *start = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	struct icmp_header *icmp = start + (quote->l4 & 0x7f);
	struct packet *back = &quote->back;

	if ((void *)(icmp + 1) > end || !is_icmp_error(quote->family, icmp->type))
		return false;
	back->to.family = quote->family;
	quote->ip = quote->l4 + sizeof(*icmp);
	if (quote->family == FAMILY_IPV4) {
		struct iphdr *ip = start + (quote->ip & 0x7f);

		if ((void *)(ip + 1) > end || ip->version != 4 || ip->ihl < 5 ||
		    ip->frag_off & bpf_htons(IP_OFFSET))
			return false;
		back->from[0] = ip->daddr;
		back->to.address[0] = ip->saddr;
		back->to.protocol = ip->protocol;
		quote->ports = quote->ip + ip->ihl * 4;
	} else {
		struct ipv6hdr *ip = start + (quote->ip & 0x7f);

		if ((void *)(ip + 1) > end || ip->version != 6)
			return false;
		copy_address(back->from, &ip->daddr);
		copy_address(back->to.address, &ip->saddr);
		back->to.protocol = ip->nexthdr;
		quote->ports = quote->ip + sizeof(*ip);
		struct nat_fragment_header *fragment = (void *)(ip + 1);

		if (ip->nexthdr == IPPROTO_FRAGMENT && (void *)(fragment + 1) <= end &&
		    !(fragment->offset & bpf_htons(~7))) {
			back->to.protocol = fragment->next;
			quote->ports += sizeof(*fragment);
		}
	}
	__be16 *ports = start + (quote->ports & 0xff);

	if ((void *)ports + QUOTE_MIN > end)
		return false;
	if (is_icmp(back)) {
		__u8 type = *(__u8 *)ports;
		bool v6 = quote->family == FAMILY_IPV6;

		/* As nat_parse_echo: what answers a request comes from port 0. */
		if (type == (v6 ? ICMPV6_ECHO : ICMP_ECHO))
			back->to.port = ports[ICMP_ECHO_ID / 2];
		else if (type == (v6 ? ICMPV6_ECHO_REPLY : ICMP_ECHO_REPLY))
			back->from_port = ports[ICMP_ECHO_ID / 2];
		else
			return false;
		quote->check = quote->ports + ICMP_CHECK;
		return true;
	}
	if (back->to.protocol != IPPROTO_TCP && back->to.protocol != IPPROTO_UDP)
		return false;
	back->from_port = ports[1];
	back->to.port = ports[0];
	if (back->to.protocol == IPPROTO_UDP)
		quote->check = ports[UDP_CHECK / 2] ? quote->ports + UDP_CHECK : 0;
	else if ((void *)ports + TCP_CHECK + 2 <= end)
		quote->check = quote->ports + TCP_CHECK;
	return true;
}

/* A quote whose packet goes from `to` to `from`: the other way than the error. */
static __always_inline bool nat_write_quote(struct __sk_buff *skb, const struct nat_quote *quote,
					    const struct nat_end *from, const struct nat_end *to)
{
	void *start = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	const struct packet *back = &quote->back;
	struct icmp_header *icmp = start + (quote->l4 & 0x7f);
	__be16 *ports = start + (quote->ports & 0xff);
	__be16 *check = start + (quote->check & 0xff);
	__u16 old = sum_pair(back->from, back->to.address), new = sum_pair(from->address, to->address);
	__u16 old_ports = fold_once(back->from_port + back->to.port),
	      new_ports = fold_once(from->port + to->port);

	if ((void *)(icmp + 1) > end || (void *)(ports + QUOTE_MIN / 2) > end || (void *)(check + 1) > end)
		return false;
	/* What changes within ICMP's own checksum: all of it but an IPv4 header, whose sum stays the same. */
	__u16 sum = icmp->checksum;

	sum = checksum_change(sum, old_ports, new_ports);
	if (quote->family == FAMILY_IPV6)
		sum = checksum_change(sum, old, new);
	if (quote->check) {
		__u16 before = *check;
		__u16 after = checksum_change(before, old_ports, new_ports);

		if (back->to.protocol != IPPROTO_ICMP) /* whose sum covers no addresses */
			after = checksum_change(after, old, new);

		if (back->to.protocol == IPPROTO_UDP && !after)
			after = 0xffff;
		sum = checksum_change(sum, before, after);
		*check = after;
	}
	icmp->checksum = sum;
	if (is_icmp(back)) {
		ports[ICMP_ECHO_ID / 2] = from->port | to->port; /* one of them is 0 */
	} else {
		ports[0] = to->port;
		ports[1] = from->port;
	}
	if (quote->family == FAMILY_IPV4) {
		struct iphdr *ip = start + (quote->ip & 0x7f);

		if ((void *)(ip + 1) > end)
			return false;
		ip->check = checksum_change(ip->check, old, new);
		ip->saddr = (__be32)to->address[0];
		ip->daddr = (__be32)from->address[0];
	} else {
		struct ipv6hdr *ip = start + (quote->ip & 0x7f);

		if ((void *)(ip + 1) > end)
			return false;
		copy_address((__be64 *)&ip->saddr, to->address);
		copy_address((__be64 *)&ip->daddr, from->address);
	}
	return true;
}

/* The error's own ends; ICMPv6's checksum covers them. */
static __always_inline bool nat_readdress(struct __sk_buff *skb, const struct nat_quote *quote,
					  const struct packet *pkt, const __be64 *from, const __be64 *to)
{
	void *start = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	struct icmp_header *icmp = start + (quote->l4 & 0x7f);
	__u16 old = sum_pair(pkt->from, pkt->to.address), new = sum_pair(from, to);

	if ((void *)(icmp + 1) > end)
		return false;
	if (quote->family == FAMILY_IPV4) {
		struct iphdr *ip = start + sizeof(struct ethhdr);

		if ((void *)(ip + 1) > end)
			return false;
		ip->check = checksum_change(ip->check, old, new);
		ip->saddr = (__be32)from[0];
		ip->daddr = (__be32)to[0];
		return true;
	}
	struct ipv6hdr *ip = start + sizeof(struct ethhdr);

	if ((void *)(ip + 1) > end)
		return false;
	icmp->checksum = checksum_change(icmp->checksum, old, new);
	copy_address((__be64 *)&ip->saddr, from);
	copy_address((__be64 *)&ip->daddr, to);
	return true;
}

/* Who an error is from on the other side of the connection. */
static __always_inline void nat_sender(struct nat_error *error, const struct nat_connection *nat,
				       const struct nat_detail *detail)
{
	const __be64 *from = error->pkt.from, *quoted = error->quote.back.from;
	bool by_end = from[0] == quoted[0] && from[1] == quoted[1];
	bool across = nat->client_family != nat->backend_family;

	/* A backend may not know the way to a router outside, nor has its family a name for it. */
	if (by_end || (error->way == NAT_REQUEST && detail->pool) ||
	    (across && !nat_other_name(from, error->quote.family, error->sender)))
		copy_address(error->sender, error->from.address);
	else if (!across)
		copy_address(error->sender, from);
}

/* `out`: on egress. NAT_NOT_OURS: it is not about a connection of ours; TC_ACT_UNSPEC: the kernel sends it.
 */
__noinline int nat_icmp(struct __sk_buff *skb, bool out)
{
	__u32 want = skb->len < NAT_ICMP_HEADERS ? skb->len : NAT_ICMP_HEADERS, use = SCRATCH_ERRAND;
	struct nat_error *error = bpf_map_lookup_elem(&scratches, &use);
	const struct backend *backend = NULL;

	if (!error)
		return NAT_NOT_OURS;
	__builtin_memset(error, 0, sizeof(*error));
	struct nat_quote *quote = &error->quote;

	nat_parse(skb, &error->pkt);
	if (bpf_skb_pull_data(skb, want))
		return NAT_NOT_OURS;
	quote->family = error->pkt.to.family;
	quote->l4 = sizeof(struct ethhdr) + error->pkt.l4_offset;
	if (!nat_read_quote(skb, quote))
		return NAT_NOT_OURS;
	__u64 found = nat_find(&quote->back, flow_hash(&quote->back));
	struct nat_connection *nat = found ? nat_connection(found >> 2) : NULL;

	const struct nat_detail *detail = nat_detail(found >> 2);

	if (!nat || !detail)
		return NAT_NOT_OURS;
	error->way = found >> 1 & 1;
	if (out != (error->way == NAT_REQUEST && !nat->service))
		return NAT_NOT_OURS;
	if (error->way == NAT_REQUEST && nat->service) {
		backend = nat_taking(nat->backend);
		if (!backend)
			return nat_drop(nat->service, NAT_OUTCOME_NO_BACKEND);
	}
	nat_ends(nat, error->way, &quote->back, &error->from, &error->to);
	nat_sender(error, nat, detail);
	if (nat->client_family != nat->backend_family) {
		if (!nat_error_across(skb, error))
			return nat_drop(nat->service, NAT_OUTCOME_UNTRANSLATABLE);
	} else if (!nat_write_quote(skb, quote, &error->from, &error->to) ||
		   !nat_readdress(skb, quote, &error->pkt, error->sender, error->to.address)) {
		return TC_ACT_SHOT;
	}
	nat_count(nat->service, NAT_OUTCOME_ERROR);
	if (out)
		return TC_ACT_UNSPEC;
	return backend ? nat_to_backend(skb, backend) : nat_to_client(skb, nat);
}

#endif
