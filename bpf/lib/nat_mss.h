/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The maximum segment size that a SYN or SYN-ACK asks for (RFC 9293, 3.7.1), lowered to what a service or an
 * egress entry allows. Segments that follow fit without a router that has to say so. Never raised, and never
 * added where it is missing: then 536 (IPv4) or 1220 (IPv6) holds, which fits nearly every way.
 */
#ifndef FAIRLEAD_NAT_MSS_H
#define FAIRLEAD_NAT_MSS_H

#include "nat_send.h"

#define TCP_OPTIONS_MAX 40
#define TCP_OPTION_END 0
#define TCP_OPTION_NOP 1
#define TCP_OPTION_MSS 2
#define TCP_OPTION_MSS_SIZE 4

/* What nat_egress4 and nat_egress6 say of a source; 0: it is not one of those. */
static __always_inline __u32 nat_egress_value(__u32 family, const __be64 *source)
{
	__u32 *value;

	if (family == FAMILY_IPV4) {
		struct nat_prefix4 key = {.prefix_size = 32, .address = (__be32)source[0]};

		value = bpf_map_lookup_elem(&nat_egress4, &key);
	} else {
		struct nat_prefix6 key = {.prefix_size = 128};

		__builtin_memcpy(key.address, source, sizeof(key.address));
		value = bpf_map_lookup_elem(&nat_egress6, &key);
	}
	return value ? *value : 0;
}

struct nat_options {
	struct __sk_buff *skb;
	__u32 at;  /* of the next option, from the frame's start */
	__u32 end; /* of the header */
	__u32 mss; /* offset of the value; 0: not found */
};

static long nat_option(__u32 turn, struct nat_options *options)
{
	__u8 head[2];

	if (options->at + TCP_OPTION_MSS_SIZE > options->end ||
	    bpf_skb_load_bytes(options->skb, options->at, head, sizeof(head)) || head[0] == TCP_OPTION_END)
		return 1;
	if (head[0] == TCP_OPTION_NOP) {
		options->at++;
		return 0;
	}
	if (head[0] == TCP_OPTION_MSS && head[1] == TCP_OPTION_MSS_SIZE)
		options->mss = options->at + sizeof(head);
	options->at += head[1];
	return options->mss || head[1] < sizeof(head);
}

/* `l4`: of the TCP header. False: the packet is torn. */
__noinline int nat_lower_mss(struct __sk_buff *skb, __u32 l4, __u32 most)
{
	struct nat_options options = {.skb = skb, .at = l4 + TCP_HEADER_MIN};
	__u8 words;
	__be16 old, new = bpf_htons(most);

	if (bpf_skb_load_bytes(skb, l4 + 12, &words, sizeof(words)))
		return false;
	options.end = l4 + (words >> 4) * 4;
	bpf_loop(TCP_OPTIONS_MAX, nat_option, &options, 0);
	if (!options.mss || bpf_skb_load_bytes(skb, options.mss, &old, sizeof(old)) || bpf_ntohs(old) <= most)
		return true;
	if (bpf_skb_store_bytes(skb, options.mss, &new, sizeof(new), 0))
		return false;
	/* Its bytes may be in two words of the sum: then as if they had been swapped (RFC 1071, 2B). */
	if ((options.mss - l4) & 1) {
		old = __builtin_bswap16(old);
		new = __builtin_bswap16(new);
	}
	return !bpf_l4_csum_replace(skb, l4 + TCP_CHECK, old, new, sizeof(new));
}

/* Bytes of a segment that fit an IP packet of this size. */
static __always_inline __u32 nat_segment(__u32 mtu, __u32 family)
{
	__u32 headers =
		(family == FAMILY_IPV4 ? sizeof(struct iphdr) : sizeof(struct ipv6hdr)) + TCP_HEADER_MIN;

	return mtu > headers ? mtu - headers : 0;
}

/* What fits the interface, 0: the one the packet is at. 0: it is not known. */
static __always_inline __u32 nat_interface_segment(struct __sk_buff *skb, __u32 interface, __u32 family)
{
	__u32 mtu = 0;

	return bpf_check_mtu(skb, interface, &mtu, 0, 0) < 0 ? 0 : nat_segment(mtu, family);
}

/*
 * For a SYN or SYN-ACK of the connection, before its ends change. NAT_MSS_AUTO: what fits the backend's way,
 * which the daemon keeps, and the interface that requests come in by; of egress the one they leave by. False:
 * the packet is torn.
 */
__noinline int nat_clamp(struct __sk_buff *skb, const struct packet *pkt, const struct nat_connection *nat)
{
	if (!pkt || !nat)
		return false;
	__u32 number = nat->service, most;

	if (number) {
		struct nat_service *service = bpf_map_lookup_elem(&nat_services, &number);

		most = service ? service->mss : 0;
	} else {
		const struct nat_detail *detail = nat_detail(nat->id);

		most = detail ? nat_egress_value(nat->client_family, detail->client) >> 16 : 0;
	}
	if (most == NAT_MSS_AUTO) {
		const struct backend *backend = number ? nat_taking(nat->backend) : NULL;
		__u32 far = backend ? nat_segment(backend->mtu, nat->backend_family) : 0;

		most = nat_interface_segment(skb, number ? nat_home(nat) : 0, nat->client_family);
		if (far && (!most || far < most))
			most = far;
	}
	return !most || nat_lower_mss(skb, sizeof(struct ethhdr) + pkt->l4_offset, most);
}

#endif
