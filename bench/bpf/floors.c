// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * What the packet path is measured against, each the least that does its job: min_tx returns,
 * min_encap parses and encapsulates to a fixed address, min_lb_ct is a minimal stateful balancer on the
 * kernel's LRU hash. None of them counts per flow or checks lengths.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/tcp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

struct connection {
	__u32 source, destination, ports, protocol;
};
struct vip {
	__u32 address;
	__u16 port, protocol;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, struct vip);
	__type(value, __u32);
	__uint(max_entries, 512);
} min_vips SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, struct connection);
	__type(value, __u32);
	__uint(max_entries, 1000000);
} min_connections SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, __u32);
	__uint(max_entries, 65537);
} min_ring SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, __u32);
	__uint(max_entries, 4096);
} min_reals SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, __u64[2]);
	__uint(max_entries, 4096);
} min_stats SEC(".maps");

const volatile __u8 gateway[6] = {2, 0, 0, 0, 0, 9};

static __always_inline int encap(struct xdp_md *ctx, __u32 source, __u32 destination, __u8 tos, __u16 inner)
{
	if (bpf_xdp_adjust_head(ctx, -20))
		return XDP_DROP;
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = data, *old = data + 20;
	struct iphdr *ip = (void *)(eth + 1);
	__u8 mac[6];

	if ((void *)(ip + 1) > end || (void *)(old + 1) > end)
		return XDP_DROP;
	__builtin_memcpy(mac, old->h_dest, 6);
	__builtin_memcpy(eth->h_source, mac, 6);
	for (int i = 0; i < 6; i++)
		eth->h_dest[i] = gateway[i];
	eth->h_proto = bpf_htons(ETH_P_IP);
	ip->version = 4;
	ip->ihl = 5;
	ip->tos = tos;
	ip->tot_len = bpf_htons(inner + 20);
	ip->id = 0;
	ip->frag_off = 0;
	ip->ttl = 64;
	ip->protocol = IPPROTO_IPIP;
	ip->check = 0;
	ip->saddr = source;
	ip->daddr = destination;

	__u32 sum = 0;
	__u16 *word = (void *)ip;

#pragma unroll
	for (int i = 0; i < 10; i++)
		sum += word[i];
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	ip->check = ~sum;
	return XDP_TX;
}

static __always_inline __u32 source_of(const struct iphdr *ip, __u32 ports)
{
	return bpf_htonl(0xac100000) | ((ip->saddr ^ (ports << 16)) & 0xffff0000);
}

static __always_inline __u32 mix(__u32 hash)
{
	hash ^= hash >> 16;
	hash *= 0x85ebca6b;
	hash ^= hash >> 13;
	hash *= 0xc2b2ae35;
	return hash ^ hash >> 16;
}

SEC("xdp.frags")
int min_tx(struct xdp_md *ctx)
{
	return XDP_TX;
}

SEC("xdp.frags")
int min_encap(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = data;
	struct iphdr *ip = (void *)(eth + 1);

	if ((void *)(eth + 1) > end)
		return XDP_DROP;
	if (eth->h_proto != bpf_htons(ETH_P_IP))
		return XDP_PASS;
	if ((void *)(ip + 1) > end || ip->ihl != 5 || ip->frag_off & bpf_htons(0x3fff))
		return XDP_DROP;
	__u32 *ports = (void *)(ip + 1);
	if ((void *)(ports + 1) > end)
		return XDP_DROP;
	if (ip->protocol != IPPROTO_TCP && ip->protocol != IPPROTO_UDP)
		return XDP_PASS;
	return encap(ctx, source_of(ip, *ports), bpf_htonl(0x0a000001), ip->tos, bpf_ntohs(ip->tot_len));
}

SEC("xdp.frags")
int min_lb_ct(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = data;
	struct iphdr *ip = (void *)(eth + 1);

	if ((void *)(eth + 1) > end)
		return XDP_DROP;
	if (eth->h_proto != bpf_htons(ETH_P_IP))
		return XDP_PASS;
	if ((void *)(ip + 1) > end || ip->ihl != 5 || ip->frag_off & bpf_htons(0x3fff))
		return XDP_DROP;
	struct tcphdr *tcp = (void *)(ip + 1);
	if ((void *)tcp + 14 > end)
		return XDP_DROP;

	int syn = 0;

	if (ip->protocol == IPPROTO_TCP)
		syn = ((__u8 *)tcp)[13] & 2;
	else if (ip->protocol != IPPROTO_UDP)
		return XDP_PASS;

	struct connection key = {ip->saddr, ip->daddr, *(__u32 *)tcp, ip->protocol};
	struct vip vip = {ip->daddr, tcp->dest, ip->protocol};
	__u32 *found = bpf_map_lookup_elem(&min_vips, &vip);

	if (!found)
		return XDP_PASS;
	__u32 *known = syn ? 0 : bpf_map_lookup_elem(&min_connections, &key);
	__u32 real = 0;

	if (known) {
		real = *known;
	} else {
		__u32 row = mix(key.source ^ mix(key.ports ^ 0x9e3779b9));

		row = (__u64)row * 65537 >> 32;
		known = bpf_map_lookup_elem(&min_ring, &row);
		if (!known)
			return XDP_DROP;
		real = *known;
		bpf_map_update_elem(&min_connections, &key, &real, BPF_ANY);
	}
	__u32 *destination = bpf_map_lookup_elem(&min_reals, &real);

	if (!destination)
		return XDP_DROP;
	__u16 size = bpf_ntohs(ip->tot_len);
	__u64 *stats = bpf_map_lookup_elem(&min_stats, &real);

	if (stats) {
		stats[0]++;
		stats[1] += size;
	}
	return encap(ctx, source_of(ip, key.ports), *destination, ip->tos, size);
}

char _license[] SEC("license") = "GPL";
