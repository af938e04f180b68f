// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
// A balancer's tunnel for tests, on egress: what goes to a VIP leaves in an outer header of the VIP's family.
// Not every kernel has tunnel devices.
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

/* Addresses as on the wire. */
struct tunnel {
	__u8 vip[16]; /* IPv4: the first four */
	__u8 from[16];
	__u8 to[16];
	__u32 is_v6;
};

const volatile struct tunnel tunnels[3] = {};

static __u16 sum(const struct iphdr *ip)
{
	const __u16 *word = (const void *)ip;
	__u32 total = 0;

	for (int i = 0; i < 10; i++)
		total += word[i];
	total = (total & 0xffff) + (total >> 16);
	return ~((total & 0xffff) + (total >> 16));
}

static int wrap4(struct __sk_buff *skb, const volatile struct tunnel *tunnel)
{
	struct iphdr outer = {.version = 4, .ihl = 5, .ttl = 64, .protocol = IPPROTO_IPIP};

	outer.tot_len = bpf_htons(skb->len - ETH_HLEN + sizeof(outer));
	outer.saddr = *(const volatile __u32 *)tunnel->from;
	outer.daddr = *(const volatile __u32 *)tunnel->to;
	outer.check = sum(&outer);
	if (bpf_skb_adjust_room(skb, sizeof(outer), BPF_ADJ_ROOM_MAC, BPF_F_ADJ_ROOM_ENCAP_L3_IPV4) ||
	    bpf_skb_store_bytes(skb, ETH_HLEN, &outer, sizeof(outer), 0))
		return TC_ACT_SHOT;
	return TC_ACT_UNSPEC;
}

static int wrap6(struct __sk_buff *skb, const volatile struct tunnel *tunnel)
{
	struct ipv6hdr outer = {.version = 6, .hop_limit = 64, .nexthdr = IPPROTO_IPV6};

	outer.payload_len = bpf_htons(skb->len - ETH_HLEN);
	for (int i = 0; i < 16; i++) {
		outer.saddr.in6_u.u6_addr8[i] = tunnel->from[i];
		outer.daddr.in6_u.u6_addr8[i] = tunnel->to[i];
	}
	if (bpf_skb_adjust_room(skb, sizeof(outer), BPF_ADJ_ROOM_MAC, BPF_F_ADJ_ROOM_ENCAP_L3_IPV6) ||
	    bpf_skb_store_bytes(skb, ETH_HLEN, &outer, sizeof(outer), 0))
		return TC_ACT_SHOT;
	return TC_ACT_UNSPEC;
}

SEC("tc")
int tunnel(struct __sk_buff *skb)
{
	__u8 to[16] = {};
	__u32 v6 = skb->protocol == bpf_htons(ETH_P_IPV6);

	if (!v6 && skb->protocol != bpf_htons(ETH_P_IP))
		return TC_ACT_UNSPEC;
	if (v6 ? bpf_skb_load_bytes(skb, ETH_HLEN + 24, to, 16) : bpf_skb_load_bytes(skb, ETH_HLEN + 16, to, 4))
		return TC_ACT_UNSPEC;
	for (int i = 0; i < 3; i++) {
		__u32 other = tunnels[i].is_v6 ^ v6;

		for (int byte = 0; byte < 16; byte++)
			other |= tunnels[i].vip[byte] ^ to[byte];
		if (!other)
			return v6 ? wrap6(skb, &tunnels[i]) : wrap4(skb, &tunnels[i]);
	}
	return TC_ACT_UNSPEC;
}

char _license[] SEC("license") = "GPL";
