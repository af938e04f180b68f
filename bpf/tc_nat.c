// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * NAT at TC, where GRO's super-packets are still whole: services with SERVICE_NAT, on ingress (tc_nat), and
 * private sources on their way out, on egress (tc_nat_out). docs/nat.md tells it in prose.
 */
#include <stdbool.h>
#include <stddef.h>
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>

#include "lib/types.h"
#include "lib/config.h"
#include "lib/nat_maps.h"
#include "lib/service.h"
#include "lib/ring.h"
#include "lib/nat_egress.h"
#include "lib/nat_forget.h"
#include "lib/nat_fragment.h"
#include "lib/nat_icmp.h"
#include "lib/nat_sweep.h"
#include "lib/nat_too_big.h"
#include "lib/nat_translate.h"

struct nat_anchor {
	enum nat_abi *nat_abi;
	enum nat_limit *nat_limit;
	enum nat_way *nat_way;
	enum nat_state *nat_state;
	enum nat_outcome *nat_outcome;
};
const struct nat_anchor nat_anchor __attribute__((used)) = {};

/* A request to its backend. */
static __always_inline int forward(struct __sk_buff *skb, const struct packet *pkt,
				   struct nat_connection *nat, const struct service *service, bool begins,
				   __u32 ticks)
{
	const struct backend *to = nat_taking(nat->backend);
	struct nat_end from, end;

	if (!to)
		return nat_drop(nat->service, NAT_OUTCOME_NO_BACKEND);
	__s32 limit = to->mtu - nat_growth(nat, pkt);

	if (pkt->size > NAT_SMALL && nat_size(skb, pkt) > limit)
		return nat_too_big(skb, pkt, nat->service, limit);
	nat_note_router(nat, skb);
	nat_follow(nat, NAT_REQUEST, pkt);
	nat_tally(nat, NAT_REQUEST, skb, pkt, ticks);
	nat_count_request(nat, to, skb, service->counters_start, service->pool, begins);
	nat_count(nat->service, NAT_OUTCOME_FORWARDED);
	nat_ends(nat, NAT_REQUEST, pkt, &from, &end);
	if (!nat_ready(skb, pkt, nat, &from, &end))
		return nat_drop(nat->service, NAT_OUTCOME_UNTRANSLATABLE);
	return nat_to_backend(skb, to);
}

/* A reply to its client. */
static __always_inline int give_back(struct __sk_buff *skb, const struct packet *pkt,
				     struct nat_connection *nat, __u32 ticks)
{
	struct nat_end from, to;
	__s32 limit = nat_reply_limit(skb, pkt, nat);

	if (limit)
		return nat_too_big(skb, pkt, nat->service, limit);
	nat_follow(nat, NAT_REPLY, pkt);
	nat_tally(nat, NAT_REPLY, skb, pkt, ticks);
	nat_count(nat->service, NAT_OUTCOME_RETURNED);
	nat_ends(nat, NAT_REPLY, pkt, &from, &to);
	if (!nat_ready(skb, pkt, nat, &from, &to))
		return nat_drop(nat->service, NAT_OUTCOME_UNTRANSLATABLE);
	return nat_to_client(skb, nat);
}

/* TCP and UDP; NAT_OTHER: ICMP; NAT_LATER: a fragment that is not the first. */
__noinline int nat_packet(struct __sk_buff *skb)
{
	struct packet pkt = {};
	struct service service = {};
	struct nat_peer peer = {};

	enum reason reason = nat_parse(skb, &pkt);

	if (reason == REASON_NOT_OURS && is_icmp(&pkt)) {
		if (!nat_parse_echo(skb, &pkt, NAT_REPLY))
			return NAT_OTHER;
		reason = REASON_FORWARDED;
	}
	if (reason == REASON_FRAGMENT)
		return NAT_LATER;
	if (reason != REASON_FORWARDED)
		return TC_ACT_UNSPEC;
	__u64 ticks = bpf_jiffies64(), hash = flow_hash(&pkt), found = nat_find(&pkt, hash);
	struct nat_connection *nat = found ? nat_connection(found >> 2) : NULL;

	if (nat && pkt.fragment)
		nat_fragment_note(&pkt, found >> 2, found >> 1 & 1, ticks);
	if (nat && found & NAT_FOUND << 1)
		return give_back(skb, &pkt, nat, ticks);
	if (!service_possible(&pkt) || !service_of(&pkt, &service) || !(service.flags & SERVICE_NAT))
		return TC_ACT_UNSPEC;
	bool syn = pkt.tcp_flags & TCP_SYN, tcp = pkt.to.protocol == IPPROTO_TCP;

	if (nat) {
		bool anew = syn && nat->state >= NAT_CLOSING; /* on ports used again */

		/* Where the backend has gone, or is down, what can begin anew does; a connection in its
		 * middle cannot. */
		if (!nat_begins(nat->backend))
			anew = !tcp || syn;
		if (!anew)
			return forward(skb, &pkt, nat, &service, false, ticks);
	}
	if (tcp && (!syn || pkt.tcp_flags & TCP_ACK))
		return nat_drop(service.number, NAT_OUTCOME_UNKNOWN);
	if (!budget_take(&flow_budgets, service.number, ticks, flow_budget_per_window))
		return nat_drop(service.number, NAT_OUTCOME_BUDGET);
	__u32 number = service.number;
	struct nat_service *own = bpf_map_lookup_elem(&nat_services, &number);

	peer.service = service.number;
	/* Not masked by `features`: those are the balancer's when this was loaded, and services come later.
	 */
	peer.backend = row_current(ring_row_of(&pkt, &service, service.flags));
	const struct backend *to = nat_taking(peer.backend);

	if (!to || !own)
		return nat_drop(service.number, NAT_OUTCOME_NO_BACKEND);
	peer.family = to->flags & BACKEND_IPV6 ? FAMILY_IPV6 : FAMILY_IPV4;
	peer.pool = peer.family == pkt.to.family ? own->pool : own->pool_other;
	if (peer.family == FAMILY_IPV4 && pkt.to.family == FAMILY_IPV6 && !peer.pool)
		return nat_drop(service.number, NAT_OUTCOME_UNTRANSLATABLE);
	copy_address(peer.address, to->address);
	peer.port = to->port ? to->port : pkt.to.port;
	__u64 begun = found && nat_renew(found >> 2, &peer, ticks)
			      ? (__u64)NAT_OUTCOME_BEGUN << 32 | found >> 2
			      : nat_begin(&pkt, &peer, hash, ticks);

	nat = nat_connection((__u32)begun);
	if (begun >> 32 != NAT_OUTCOME_BEGUN || !nat)
		return nat_drop(service.number, begun);
	nat_count(service.number, NAT_OUTCOME_BEGUN);
	if (pkt.fragment)
		nat_fragment_note(&pkt, (__u32)begun, NAT_REQUEST, ticks);
	return forward(skb, &pkt, nat, &service, true, ticks);
}

static __always_inline int others(struct __sk_buff *skb, int action, bool out)
{
	if (action == NAT_LATER)
		return nat_fragment(skb, out);
	return action == NAT_OTHER ? nat_icmp(skb, out) : action;
}

/* Apart, one after the other: the stack is not deep. */
SEC("tc")
int tc_nat(struct __sk_buff *skb)
{
	int action = others(skb, nat_packet(skb), false);

	return action == NAT_NOT_OURS ? TC_ACT_UNSPEC : action;
}

SEC("tc")
int tc_nat_out(struct __sk_buff *skb)
{
	int action = others(skb, nat_leave(skb), true);

	return action == NAT_NOT_OURS ? nat_unknown(skb) : action;
}

/* Run by BPF_PROG_TEST_RUN when the program is loaded: the kernel sweeps from then on. */
SEC("tc")
int nat_start(struct __sk_buff *skb)
{
	return nat_sweep_start();
}

/* Run by BPF_PROG_TEST_RUN when services or backends are gone: how many connections ended, or NAT_NONE. */
SEC("tc")
int nat_forget(struct __sk_buff *skb)
{
	return nat_forget_all();
}

/* Run by BPF_PROG_TEST_RUN: the clock of nat_connection.seen and begun. */
SEC("tc")
int nat_clock(struct __sk_buff *skb)
{
	return bpf_jiffies64();
}

char _license[] SEC("license") = "Dual BSD/GPL";
