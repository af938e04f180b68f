// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The packet path: parse, service, flow table, ring, encapsulate, count. docs/packet-path.md tells it
 * in prose; each step below is one header in lib/.
 */
#include <stdbool.h>
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "lib/types.h"
#include "lib/config.h"
#include "lib/maps.h"
#include "lib/parse.h"
#include "lib/service.h"
#include "lib/hash.h"
#include "lib/flow.h"
#include "lib/ring.h"
#include "lib/encap.h"
#include "lib/exit.h"

const struct abi_anchor abi_anchor __attribute__((used)) = {};

static __always_inline struct backend *backend_of(__u32 number)
{
	struct backend *backend = bpf_map_lookup_elem(&backends, &number);

	return backend && backend->flags & BACKEND_VALID ? backend : NULL;
}

static __always_inline void count_traffic(const struct service *service, const struct backend *to, __u32 size,
					  bool begins)
{
	/* A flow may outlive its backend's membership: slot 0 counts those, so nobody else is credited. */
	__u32 index = service->counters_start + (to->pool == service->pool ? to->slot : 0);
	struct counters *count = bpf_map_lookup_elem(&counters, &index);

	if (!count)
		return;
	count->packets++;
	count->bytes += size;
	count->connections += begins;
}

SEC("xdp")
int xdp_lb(struct xdp_md *ctx)
{
	struct packet pkt = {};
	enum reason reason = parse(ctx, &pkt);

	if (reason != REASON_FORWARDED)
		return finish(unless_ours(&pkt, reason), 0, 0);
	if (!service_possible(&pkt))
		return finish(REASON_NOT_OURS, 0, 0);

	bool syn = pkt.tcp_flags & TCP_SYN;
	struct flow_place place;
	struct service service;

	flow_locate(&place, flow_hash(&pkt));
	if (!syn)
		flow_touch(&place);
	if (!service_find(&pkt.to, &service))
		return finish(REASON_NOT_OURS, 0, 0);
	if (!place.bucket)
		return finish(REASON_INTERNAL, service.number, 0);

	/* Inlined to one load; a clock would be a call of some 10 ns on every packet. */
	__u64 ticks = bpf_jiffies64();
	struct backend *to = NULL;
	bool begins = false;

	flow_tag_service(&place, service.number);
	/* Over the budget a SYN does not even look: the ring decides, and a flood costs no cache line. */
	if (!syn || flow_budget_left(service.number, ticks))
		to = backend_of(flow_lookup(&place, &pkt, flow_seen(ticks)));
	if (to) {
		flow_count(&place, pkt.size, flow_seen(ticks));
	} else {
		__u16 chosen = ring_choose(&pkt, service.pool);

		to = backend_of(chosen);
		if (!to)
			return finish(REASON_NO_BACKEND, service.number, 0);
		bool inserted = flow_insert(&place, &pkt, service.number, chosen, ticks);

		begins = syn || (inserted && pkt.to.protocol == IPPROTO_UDP);
	}

	reason = to->flags & BACKEND_IPV6 ? encap_ipv6(ctx, &pkt, to, place.tag) : encap_ipv4(ctx, &pkt, to);
	if (reason != REASON_FORWARDED)
		return finish(reason, service.number, 0);
	count_traffic(&service, to, pkt.size, begins);
	if (to->interface != ctx->ingress_ifindex)
		reason = REASON_REDIRECTED;
	return finish(reason, service.number, to->interface);
}

/* What `seen` is now, for readers of the flow table: run by BPF_PROG_TEST_RUN, attached nowhere. */
SEC("xdp")
int flow_clock(struct xdp_md *ctx)
{
	return flow_seen(bpf_jiffies64());
}

char _license[] SEC("license") = "Dual BSD/GPL";
