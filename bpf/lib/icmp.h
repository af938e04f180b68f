/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * ICMP to a VIP (RFC 792, RFC 4443): an echo request becomes its reply, an error goes to the backend whose
 * flow it quotes. Everything else is the host's.
 */
#ifndef FAIRLEAD_ICMP_H
#define FAIRLEAD_ICMP_H

#include "choose.h"
#include "quote.h"

static __always_inline int answer_echo(struct xdp_md *ctx, const struct packet *pkt, void *ip, void *end,
				       struct icmp_header *header)
{
	void *start = (void *)(long)ctx->data;
	__u16 old = *(__u16 *)header;

	if (start + sizeof(struct ethhdr) > end)
		return finish(REASON_INTERNAL, 0, 0);
	if (pkt->to.family == FAMILY_IPV6) {
		struct ipv6hdr *ip6 = ip;

		if ((void *)(ip6 + 1) > end)
			return finish(REASON_INTERNAL, 0, 0);
		copy_address((__be64 *)&ip6->saddr, pkt->to.address);
		copy_address((__be64 *)&ip6->daddr, pkt->from);
		ip6->hop_limit = REPLY_TTL;
		header->type = ICMPV6_ECHO_REPLY;
	} else {
		struct iphdr *ip4 = ip;

		if ((void *)(ip4 + 1) > end)
			return finish(REASON_INTERNAL, 0, 0);
		__u16 lifetime = *(__u16 *)&ip4->ttl;

		ip4->saddr = (__be32)pkt->to.address[0];
		ip4->daddr = (__be32)pkt->from[0];
		ip4->ttl = REPLY_TTL;
		ip4->check = checksum_change(ip4->check, lifetime, *(__u16 *)&ip4->ttl);
		header->type = ICMP_ECHO_REPLY;
	}
	header->checksum = checksum_change(header->checksum, old, *(__u16 *)header);
	swap_macs(start);
	return finish(REASON_ECHO_ANSWERED, 0, 0);
}

/* To the backend of the flow it quotes, as that flow's packets go. */
static __always_inline int carry_error(struct xdp_md *ctx, struct errand *errand)
{
	const struct packet *pkt = &errand->pkt;
	struct service *service = &errand->service;
	struct packet *flow = scratch(SCRATCH_QUOTED);
	int reason = parse_quote(ctx, pkt, flow);

	if (!flow || reason != REASON_FORWARDED)
		return finish(reason, 0, 0);
	if (flow->to.family != pkt->to.family || flow->to.address[0] != pkt->to.address[0] ||
	    flow->to.address[1] != pkt->to.address[1] || !service_of(flow, service))
		return finish(REASON_ICMP_UNKNOWN, 0, 0);
	if (flags_of(service) & SERVICE_NAT)
		return finish(REASON_NAT, service->number, 0);
	if (!budget_take(&icmp_budgets, ICMP_ERROR, bpf_jiffies64(), icmp_budget_per_window))
		return finish(REASON_ICMP_LIMITED, service->number, 0);
	if (flags_of(service) & SERVICE_STATELESS) {
		errand->number = row_current(ring_row_of(flow, service, flags_of(service)));
	} else {
		errand->number = flow_owner(flow, service->number);
		if (!errand->number)
			return finish(REASON_ICMP_UNKNOWN, service->number, 0);
	}
	if (!backend_of(service, errand->number))
		return finish(REASON_NO_BACKEND, service->number, 0);
	errand->entropy = (__u32)flow_hash(flow);
	count_tally(service->number, TALLY_ICMP_ERROR);
	return ERRAND_READY;
}

static __always_inline bool is_error(const struct packet *pkt, __u8 type)
{
	if (pkt->to.family == FAMILY_IPV6)
		return type >= ICMPV6_UNREACHABLE && type <= ICMPV6_PARAMETER;
	return type == ICMP_UNREACHABLE || type == ICMP_TIME_EXCEEDED || type == ICMP_PARAMETER;
}

static __always_inline int icmp(struct xdp_md *ctx, struct errand *errand)
{
	const struct packet *pkt = &errand->pkt;
	void *end = (void *)(long)ctx->data_end;
	void *ip = (void *)(long)ctx->data + (pkt->l2_size & 0x1f);
	struct icmp_header *header = header_at(ip, pkt->l4_offset);

	if (pkt->size - pkt->l4_offset < sizeof(*header))
		return finish(REASON_MALFORMED, 0, 0);
	if ((void *)(header + 1) > end)
		return finish(REASON_TRUNCATED, 0, 0);
	if (is_error(pkt, header->type))
		return carry_error(ctx, errand);
	if (header->code || header->type != (pkt->to.family == FAMILY_IPV6 ? ICMPV6_ECHO : ICMP_ECHO))
		return finish(REASON_NOT_OURS, 0, 0);
	if (!budget_take(&icmp_budgets, ICMP_ECHO_ANSWER, bpf_jiffies64(), icmp_budget_per_window))
		return finish(REASON_ICMP_LIMITED, 0, 0);
	return answer_echo(ctx, pkt, ip, end, header);
}

#endif
