// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The packet path: parse, service, flow table, ring, send, count. docs/packet-path.md tells it in prose; each
 * step below is one header in lib/.
 */
#include <stdbool.h>
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "lib/types.h"
#include "lib/config.h"
#include "lib/maps.h"
#include "lib/parse.h"
#include "lib/parse_any.h"
#include "lib/service.h"
#include "lib/hash.h"
#include "lib/flow.h"
#include "lib/ring.h"
#include "lib/guard.h"
#include "lib/choose.h"
#include "lib/send.h"
#include "lib/owners.h"
#include "lib/icmp.h"
#include "lib/fragment.h"
#include "lib/exit.h"

const struct abi_anchor abi_anchor __attribute__((used)) = {};

/* Its packets take the long way: what decides is more than the flow. */
#define SERVICE_CHOOSY                                                                                       \
	(SERVICE_SOURCE | SERVICE_QUIC | SERVICE_STATELESS | SERVICE_ALLOW | SERVICE_DENY | SERVICE_RATE)

/* The errand of a packet with ports, whose service may be choosy, or which is the first of several fragments.
 */
__noinline int balance_errand(struct xdp_md *ctx)
{
	struct errand *errand = scratch(SCRATCH_ERRAND);
	struct flow_place place;

	if (!errand)
		return finish(REASON_INTERNAL, 0, 0);
	const struct packet *pkt = &errand->pkt;
	struct service *service = &errand->service;

	if (!service_of(pkt, service))
		return finish(REASON_NOT_OURS, 0, 0);
	enum reason reason = guard(pkt, service->number, flags_of(service));
	if (reason != REASON_FORWARDED)
		return finish(reason, service->number, 0);
	if (flags_of(service) & SERVICE_NAT) {
		if (pkt->fragment)
			fragment_leave(pkt, service);
		return leave_to_nat(ctx, pkt, service->number);
	}
	flow_locate(&place, flow_hash(pkt));
	if (!place.bucket)
		return finish(REASON_INTERNAL, service->number, 0);
	struct choice choice = choose(ctx, pkt, service, &place);
	if (pkt->fragment)
		first_fragment(pkt, service, &choice);
	errand->number = choice.number;
	errand->entropy = place.tag;
	errand->row = choice.row;
	errand->begins = choice.begins;
	return ERRAND_READY;
}

/* What the short way does not know, parsed again in full. Apart, so that it costs the short way nothing. */
__noinline int uncommon(struct xdp_md *ctx)
{
	struct errand *errand = scratch(SCRATCH_ERRAND);

	if (!errand)
		return finish(REASON_INTERNAL, 0, 0);
	__builtin_memset(errand, 0, sizeof(*errand));

	struct packet *pkt = &errand->pkt;
	enum reason reason = parse_any(ctx, pkt);

	if (reason == REASON_NOT_IP || reason == REASON_RUNT)
		return finish(reason, 0, 0);
	if (!service_possible(pkt) || !is_vip(pkt))
		return finish(REASON_NOT_OURS, 0, 0);
	if (reason != REASON_FORWARDED)
		return finish(reason, 0, 0);
	if (is_icmp(pkt))
		return icmp(ctx, errand);
	if (pkt->fragment_offset)
		return later_fragment(errand);
	return ERRAND_BALANCE;
}

/* The flow's backend, and on to it. */
static __always_inline int balance_flow(struct xdp_md *ctx, const struct packet *pkt,
					const struct service *service, struct flow_place *place)
{
	struct choice choice = choose_flow(pkt, service, place, 0, (struct choice){}, true);

	if (choice.row)
		return ERRAND_UNCOMMON;
	if (!choice.to)
		return finish(REASON_NO_BACKEND, service->number, 0);
	return send(ctx, pkt, service, choice.to, choice.number, place->tag, choice.begins);
}

/* The short way: a packet with ports, to an address that is probably a VIP. */
static __always_inline int balance(struct xdp_md *ctx, const struct packet *pkt)
{
	struct flow_place place;
	struct service service;

	flow_locate(&place, flow_hash(pkt));
	/* Not where it may be a flow of tc_nat's, which has no line here: a cache miss for nothing. */
	if (!(features & SERVICE_NAT) && !(pkt->tcp_flags & TCP_SYN))
		flow_touch(&place);
	if (!service_of(pkt, &service))
		return finish(REASON_NOT_OURS, 0, 0);
	if (!place.bucket)
		return finish(REASON_INTERNAL, service.number, 0);
	__u32 flags = flags_of(&service);

	if (flags) {
		if (flags & SERVICE_CHOOSY)
			return ERRAND_UNCOMMON;
		if (flags & SERVICE_NAT)
			return pkt->size > NAT_ALWAYS_FITS ? ERRAND_UNCOMMON
							   : finish(REASON_NAT, service.number, 0);
		return balance_flow(ctx, pkt, &service, &place);
	}
	/* The same again without a thought for flags: compiled apart, what they would ask costs nothing. */
	service.flags = 0;
	return balance_flow(ctx, pkt, &service, &place);
}

/*
 * What nearly every packet is, to services that want nothing more than their flows remembered. Apart, so that
 * its many values on the stack are gone before what it leaves over is called.
 */
__noinline int common(struct xdp_md *ctx)
{
	struct packet pkt = {};
	enum reason reason = parse(ctx, &pkt);

	if (reason == REASON_NOT_IP || reason == REASON_RUNT)
		return finish(reason, 0, 0);
	if (reason != REASON_FORWARDED)
		return ERRAND_UNCOMMON;
	if (!service_possible(&pkt))
		return finish(REASON_NOT_OURS, 0, 0);
	return balance(ctx, &pkt);
}

/*
 * For generic XDP compiled once more, for frames in one piece, which the kernel makes of others: those it
 * hands over in several Linux 6.18 passes on to TC without their Ethernet header.
 */
#ifndef XDP_SECTION
#define XDP_SECTION "xdp.frags"
#endif

SEC(XDP_SECTION)
int xdp_lb(struct xdp_md *ctx)
{
	int action = common(ctx);

	if (action == ERRAND_UNCOMMON)
		action = uncommon(ctx);
	if (action == ERRAND_BALANCE)
		action = balance_errand(ctx);
	if (action == ERRAND_READY && features & SERVICE_GUE)
		action = send_guess(ctx);
	return action == ERRAND_READY ? send_errand(ctx) : action;
}

/* Each of the two copies of a packet that did not fit, in split_out. */
SEC("xdp.frags/devmap")
int split_part(struct xdp_md *ctx)
{
	struct split_note *found = (void *)(long)ctx->data_meta;

	if ((void *)(found + 1) > (void *)(long)ctx->data)
		return finish_part(true);
	struct split_note note = *found;
	return finish_part(!bpf_xdp_adjust_meta(ctx, sizeof(note)) && part(ctx, &note));
}

/* What `seen` is now, for readers of the flow table: run by BPF_PROG_TEST_RUN, attached nowhere. */
SEC("xdp")
int flow_clock(struct xdp_md *ctx)
{
	return flow_seen(bpf_jiffies64());
}

char _license[] SEC("license") = "Dual BSD/GPL";
