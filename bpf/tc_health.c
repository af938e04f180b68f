// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Health checks through the tunnel, at TC egress: what the daemon's own sockets send to a VIP gets the outer
 * header that clients' packets to that backend get, and goes there. The answers come straight back.
 */
#include <stdbool.h>
#include <stddef.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/pkt_cls.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "lib/types.h"
#include "lib/outer.h"

/* A socket of a check that is under way. */
struct health_probe_key {
	__be64 address[2]; /* the VIP, as in service_key */
	__be16 port;
	__be16 from_port;
	__u8 protocol;
	__u8 family;
	__u16 pad;
};
_Static_assert(sizeof(struct health_probe_key) == 24, "no holes");

struct health_probe {
	__u8 to[sizeof(struct backend)]; /* the backend's entry */
	__u32 flags;			 /* enum service_flag: how it is forwarded to */
	__u32 sent;			 /* packets */
};
_Static_assert(sizeof(struct health_probe) == 72, "no holes");

/* Written by the daemon before a check begins; read per packet that leaves; bounded by what is looked after.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct health_probe_key);
	__type(value, struct health_probe);
	__uint(max_entries, 16384);
} health_probes SEC(".maps");

/* Of the kernel's own packets: no options, no extension headers, no fragments. */
static __always_inline bool read_packet(struct __sk_buff *skb, struct health_probe_key *key,
					struct packet *pkt)
{
	__u32 l4 = sizeof(struct ethhdr);
	__be16 ports[2];

	if (skb->protocol == bpf_htons(ETH_P_IP)) {
		struct iphdr ip;

		if (bpf_skb_load_bytes(skb, l4, &ip, sizeof(ip)) || ip.ihl != 5)
			return false;
		key->address[0] = ip.daddr;
		key->protocol = ip.protocol;
		key->family = FAMILY_IPV4;
		pkt->from[0] = ip.saddr;
		pkt->traffic_class = ip.tos;
		pkt->size = bpf_ntohs(ip.tot_len);
		l4 += sizeof(ip);
	} else if (skb->protocol == bpf_htons(ETH_P_IPV6)) {
		struct ipv6hdr ip;

		if (bpf_skb_load_bytes(skb, l4, &ip, sizeof(ip)))
			return false;
		__builtin_memcpy(key->address, &ip.daddr, sizeof(key->address));
		__builtin_memcpy(pkt->from, &ip.saddr, sizeof(pkt->from));
		key->protocol = ip.nexthdr;
		key->family = FAMILY_IPV6;
		pkt->traffic_class = bpf_ntohl(*(__be32 *)&ip) >> 20;
		pkt->size = bpf_ntohs(ip.payload_len) + sizeof(ip);
		l4 += sizeof(ip);
	} else {
		return false;
	}
	if (key->protocol != IPPROTO_TCP && key->protocol != IPPROTO_UDP)
		return false;
	if (bpf_skb_load_bytes(skb, l4, ports, sizeof(ports)))
		return false;
	key->from_port = ports[0];
	key->port = ports[1];
	return true;
}

/*
 * The checksum of what is behind the outer UDP header, from its parts: an IPv4 header adds up to 0, and so do
 * TCP and UDP with their pseudo headers, once a card has filled them in. The addresses of IPv6 are in both,
 * and cancel out.
 */
static __always_inline __u32 sum_inside(struct __sk_buff *skb, const struct health_probe_key *key,
					const struct packet *pkt)
{
	__be16 words[4] = {};

	if (key->family == FAMILY_IPV4) {
		__u32 pseudo = bpf_htons(key->protocol) + bpf_htons(pkt->size - sizeof(struct iphdr)) +
			       sum_address(pkt->from) + sum_address(key->address);

		return (__u16)~fold_once(fold_once(pseudo));
	}
	bpf_skb_load_bytes(skb, sizeof(struct ethhdr), words, sizeof(words));
	__u32 pseudo = bpf_htons(key->protocol) + bpf_htons(pkt->size - sizeof(struct ipv6hdr));

	return words[0] + words[1] + words[2] + words[3] + (__u16)~fold_once(pseudo);
}

/* Into the room that was made behind the Ethernet header. */
static __always_inline bool write_outer(struct __sk_buff *skb, const struct health_probe_key *key,
					const struct packet *pkt, const struct backend *to, __u32 flags,
					__u32 inside)
{
	bool v6 = to->flags & BACKEND_IPV6, gue = flags & SERVICE_GUE;
	__u32 entropy = bpf_ntohs(key->from_port), payload = pkt->size + (gue ? sizeof(struct udphdr) : 0);
	__u8 protocol = gue ? IPPROTO_UDP : key->family == FAMILY_IPV6 ? IPPROTO_IPV6 : IPPROTO_IPIP;

	if (bpf_skb_pull_data(skb, sizeof(struct ethhdr) + sizeof(struct ipv6hdr) + sizeof(struct udphdr)))
		return false;
	void *end = (void *)(long)skb->data_end;
	struct ethhdr *eth = (void *)(long)skb->data;
	struct iphdr *ip = (void *)(eth + 1);
	struct ipv6hdr *ip6 = (void *)(eth + 1);
	struct udphdr *udp = v6 ? (void *)(ip6 + 1) : (void *)(ip + 1);

	/* Also with shorter headers: the packet inside is longer than what they lack. */
	if ((void *)(ip6 + 1) + sizeof(*udp) > end)
		return false;
	eth->h_proto = v6 ? bpf_htons(ETH_P_IPV6) : bpf_htons(ETH_P_IP);
	if (gue) {
		write_udp(udp, payload, entropy, 0);
		if (v6)
			udp->check = gue_check(udp, to, payload, inside);
	}
	if (v6)
		write_ipv6(ip6, pkt, to, payload, protocol, entropy);
	else
		write_ipv4(ip, pkt, to, payload + sizeof(*ip), protocol);
	return true;
}

SEC("tc")
int tc_health(struct __sk_buff *skb)
{
	struct health_probe_key key = {};
	struct packet pkt = {};

	if (!read_packet(skb, &key, &pkt))
		return TC_ACT_UNSPEC;
	struct health_probe *probe = bpf_map_lookup_elem(&health_probes, &key);

	if (!probe)
		return TC_ACT_UNSPEC;
	const struct backend *to = (const void *)probe->to;
	__u32 outer = outer_size(probe->flags, to), inside = 0;
	__u64 room = BPF_F_ADJ_ROOM_FIXED_GSO;
	__u8 mac[ETH_ALEN];

	/* Without an outer header it still is that socket's when it comes by here again, redirected. */
	if (!outer && !bpf_skb_load_bytes(skb, offsetof(struct ethhdr, h_dest), mac, sizeof(mac)) &&
	    !__builtin_memcmp(mac, to->next_hop_mac, sizeof(mac)))
		return TC_ACT_UNSPEC;
	room |= to->flags & BACKEND_IPV6 ? BPF_F_ADJ_ROOM_ENCAP_L3_IPV6 : BPF_F_ADJ_ROOM_ENCAP_L3_IPV4;
	if (probe->flags & SERVICE_GUE) {
		room |= BPF_F_ADJ_ROOM_ENCAP_L4_UDP;
		inside = sum_inside(skb, &key, &pkt);
	}
	if (outer && bpf_skb_adjust_room(skb, outer, BPF_ADJ_ROOM_MAC, room))
		return TC_ACT_SHOT;
	if (outer && !write_outer(skb, &key, &pkt, to, probe->flags, inside))
		return TC_ACT_SHOT;
	if (bpf_skb_store_bytes(skb, offsetof(struct ethhdr, h_dest), to->next_hop_mac, ETH_ALEN, 0) ||
	    bpf_skb_store_bytes(skb, offsetof(struct ethhdr, h_source), to->source_mac, ETH_ALEN, 0))
		return TC_ACT_SHOT;
	for (int tag = 1; tag >= 0; tag--) {
		const __be16 *words = (const __be16 *)&to->tag[tag];

		if (tag < to->tag_count && bpf_skb_vlan_push(skb, words[0], bpf_ntohs(words[1])))
			return TC_ACT_SHOT;
	}
	probe->sent++;
	return bpf_redirect(to->interface, 0);
}

char _license[] SEC("license") = "Dual BSD/GPL";
