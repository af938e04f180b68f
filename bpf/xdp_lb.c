// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The packet path: parse, service, flow table, ring, send, count. docs/packet-path.md tells it in prose; each step
 * below is one header in lib/.
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
#include "lib/choose.h"
#include "lib/send.h"
#include "lib/icmp.h"
#include "lib/fragment.h"
#include "lib/exit.h"

const struct abi_anchor abi_anchor __attribute__((used)) = {};

/* A packet with ports, to an address that is probably a VIP. */
static __always_inline int balance(struct xdp_md *ctx, const struct packet *pkt)
{
	struct flow_place place;
	struct service service;
	bool begins = false;

	flow_locate(&place, flow_hash(pkt));
	if (!(pkt->tcp_flags & TCP_SYN))
		flow_touch(&place);
	if (!service_of(pkt, &service))
		return finish(REASON_NOT_OURS, 0, 0);
	if (!place.bucket)
		return finish(REASON_INTERNAL, service.number, 0);

	struct backend *to = choose(pkt, &service, &place, &begins);

	if (!to)
		return finish(REASON_NO_BACKEND, service.number, 0);
	return send(ctx, pkt, &service, to, place.tag, begins);
}

/* What the short way does not know, parsed again in full. Apart, so that it costs the short way nothing. */
__noinline int uncommon(struct xdp_md *ctx)
{
	struct packet pkt = {};
	enum reason reason = parse_any(ctx, &pkt);

	if (reason == REASON_NOT_IP || reason == REASON_RUNT)
		return finish(reason, 0, 0);
	if (!service_possible(&pkt) || !is_vip(&pkt))
		return finish(REASON_NOT_OURS, 0, 0);
	if (reason != REASON_FORWARDED)
		return finish(reason, 0, 0);
	if (is_icmp(&pkt))
		return icmp(ctx, &pkt);
	if (pkt.fragment)
		return fragment(ctx, &pkt);
	return balance(ctx, &pkt);
}

SEC("xdp.frags")
int xdp_lb(struct xdp_md *ctx)
{
	struct packet pkt = {};
	enum reason reason = parse(ctx, &pkt);

	if (reason == REASON_NOT_IP || reason == REASON_RUNT)
		return finish(reason, 0, 0);
	if (reason != REASON_FORWARDED)
		return uncommon(ctx);
	if (!service_possible(&pkt))
		return finish(REASON_NOT_OURS, 0, 0);
	return balance(ctx, &pkt);
}

/* What `seen` is now, for readers of the flow table: run by BPF_PROG_TEST_RUN, attached nowhere. */
SEC("xdp")
int flow_clock(struct xdp_md *ctx)
{
	return flow_seen(bpf_jiffies64());
}

char _license[] SEC("license") = "Dual BSD/GPL";
