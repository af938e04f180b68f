// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * `fairlead agent` on a backend: takes balancers' tunnel headers off (xdp_agent). A TCP packet that a
 * balancer could only guess the owner of, and that has no socket here, is left to tc_agent on the same
 * interface, which sends it to the next owner in its list: the kernel finds route and neighbour, and needs no
 * forwarding.
 */
#include <stdbool.h>
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>
#include "lib/types.h"
#include "lib/listed.h"

/* What was done with a tunnel packet. */
enum agent_result {
	AGENT_RESULT_PLAIN,	/* without a list of owners: taken in */
	AGENT_RESULT_SOCKET,	/* with one: it has a socket here */
	AGENT_RESULT_COOKIE,	/* with one: it answers a SYN cookie of a listener here */
	AGENT_RESULT_FORWARDED, /* with one: sent on to the next owner */
	AGENT_RESULT_LAST,	/* with one: no socket here and nobody left to ask; taken in, to be refused */
	AGENT_RESULT_STRANGER,	/* not from a balancer: left as it came */
	AGENT_RESULT_BAD_TAG,	/* with a list not made with our key: taken in as if it had none */
	AGENT_RESULT_MALFORMED, /* with a list that contradicts itself or the packet: left as it came */
	AGENT_RESULT_COUNT,
};

struct balancer4_key {
	__u32 prefix_size;
	__be32 address;
};

struct balancer6_key {
	__u32 prefix_size;
	__u8 address[16];
};

/* Where tunnel packets may come from. Written by the agent; read per packet. */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct balancer4_key);
	__type(value, __u32);
	__uint(max_entries, 1024);
} balancers4 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct balancer6_key);
	__type(value, __u32);
	__uint(max_entries, 1024);
} balancers6 SEC(".maps");

/* Packets by enum agent_result. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, __u64);
	__uint(max_entries, AGENT_RESULT_COUNT);
} agent_results SEC(".maps");

/* The same as the balancers'. */
const volatile __u64 agent_key[2] = {};

struct agent_anchor {
	enum agent_result *agent_result;
};
const struct agent_anchor agent_anchor __attribute__((used)) = {};

static __always_inline void count(enum agent_result result)
{
	__u32 key = result;
	__u64 *packets = bpf_map_lookup_elem(&agent_results, &key);

	if (packets)
		(*packets)++;
}

static __always_inline bool from_balancer(const struct outer *outer)
{
	if (outer->family == FAMILY_IPV4) {
		struct balancer4_key key = {32, (__be32)outer->from[0]};

		return bpf_map_lookup_elem(&balancers4, &key);
	}
	struct balancer6_key key = {128, {}};

	__builtin_memcpy(key.address, outer->from, sizeof(key.address));
	return bpf_map_lookup_elem(&balancers6, &key);
}

/* Whether the packet has a socket here, or answers a SYN cookie; else AGENT_RESULT_FORWARDED. */
static __always_inline enum agent_result find_socket(struct xdp_md *ctx, const struct listed *list, void *end)
{
	const struct packet *pkt = &list->pkt;
	enum agent_result result = AGENT_RESULT_FORWARDED;
	struct bpf_sock_tuple tuple = {};
	__u32 size = sizeof(tuple.ipv6), ip_size = sizeof(struct ipv6hdr);

	if (pkt->to.family == FAMILY_IPV4) {
		size = sizeof(tuple.ipv4);
		ip_size = sizeof(struct iphdr);
		tuple.ipv4.saddr = (__be32)pkt->from[0];
		tuple.ipv4.daddr = (__be32)pkt->to.address[0];
		tuple.ipv4.sport = pkt->from_port;
		tuple.ipv4.dport = pkt->to.port;
	} else {
		__builtin_memcpy(tuple.ipv6.saddr, pkt->from, sizeof(pkt->from));
		__builtin_memcpy(tuple.ipv6.daddr, pkt->to.address, sizeof(pkt->to.address));
		tuple.ipv6.sport = pkt->from_port;
		tuple.ipv6.dport = pkt->to.port;
	}
	struct bpf_sock *sock = bpf_skc_lookup_tcp(ctx, &tuple, size, BPF_F_CURRENT_NETNS, 0);

	if (!sock)
		return result;
	if (sock->state != BPF_TCP_LISTEN) {
		result = AGENT_RESULT_SOCKET;
	} else {
		struct tcphdr *tcp = list->ip + (pkt->l4_offset & 0x3f);

		if (list->ip + sizeof(struct ipv6hdr) <= end && (void *)(tcp + 1) <= end && tcp->ack &&
		    bpf_tcp_check_syncookie(sock, list->ip, ip_size, tcp, sizeof(*tcp)) == 0)
			result = AGENT_RESULT_COOKIE;
	}
	bpf_sk_release(sock);
	return result;
}

static __always_inline bool ours(const struct listed *list)
{
	return owners_tag(agent_key[0], agent_key[1], &list->pkt, &list->owners) == list->tag;
}

/* As in xdp_lb.c. */
#ifndef XDP_SECTION
#define XDP_SECTION "xdp.frags"
#endif

SEC(XDP_SECTION)
int xdp_agent(struct xdp_md *ctx)
{
	void *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = (void *)(long)ctx->data;
	struct outer outer = find_outer(eth, end);
	enum agent_result result = AGENT_RESULT_PLAIN;
	struct listed list = {};

	if (!outer.size)
		return XDP_PASS;
	if (!from_balancer(&outer)) {
		count(AGENT_RESULT_STRANGER);
		return XDP_PASS;
	}
	if (outer.gue) {
		if (!read_list(&list, (void *)(eth + 1) + (outer.gue & 0x3f), end, &outer) ||
		    !read_tcp(&list, end, outer.inside)) {
			count(AGENT_RESULT_MALFORMED);
			return XDP_PASS;
		}
		result = ours(&list) ? find_socket(ctx, &list, end) : AGENT_RESULT_BAD_TAG;
		if (result == AGENT_RESULT_FORWARDED) {
			if (list.next < list.owners.count)
				return XDP_PASS; /* to tc_agent, which counts it */
			result = AGENT_RESULT_LAST;
		}
	}
	count(result);
	return decap(ctx, &outer);
}

SEC("tc")
int tc_agent(struct __sk_buff *skb)
{
	struct listed list = {};

	if (skb->protocol != bpf_htons(ETH_P_IP) && skb->protocol != bpf_htons(ETH_P_IPV6))
		return TC_ACT_UNSPEC;

	void *end = (void *)(long)skb->data_end;
	struct ethhdr *eth = (void *)(long)skb->data;
	struct outer outer = find_outer(eth, end);

	if (!outer.gue || !from_balancer(&outer))
		return TC_ACT_UNSPEC;
	bpf_skb_pull_data(skb, skb->len < HEADERS_MAX ? skb->len : HEADERS_MAX);
	end = (void *)(long)skb->data_end;
	eth = (void *)(long)skb->data;
	if (!read_list(&list, (void *)(eth + 1) + (outer.gue & 0x3f), end, &outer) ||
	    !read_tcp(&list, end, outer.inside) || !ours(&list) || list.next >= list.owners.count ||
	    !readdress(eth, end, &outer, &list))
		return TC_ACT_UNSPEC;
	count(AGENT_RESULT_FORWARDED);
	return bpf_redirect_neigh(skb->ifindex, NULL, 0, 0);
}

char _license[] SEC("license") = "Dual BSD/GPL";
