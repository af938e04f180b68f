/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * From bytes to the fields the policy needs. Nothing is read past data_end, and nothing is believed
 * that the frame's own length contradicts. parse() knows what nearly every packet is; parse_any() in
 * parse_any.h knows the rest.
 */
#ifndef FAIRLEAD_PARSE_H
#define FAIRLEAD_PARSE_H

#include <stdbool.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include "types.h"

#define IP_DF 0x4000
#define IP_MF 0x2000
#define IP_OFFSET 0x1fff /* in units of 8 bytes */
#define TCP_HEADER_MIN 20
#define UDP_HEADER_SIZE 8
#define TAG_SIZE 4
#define TAGS_MAX 2

enum tcp_flag { TCP_FIN = 0x01, TCP_SYN = 0x02, TCP_RST = 0x04, TCP_ACK = 0x10 };

enum icmp_type {
	ICMP_ECHO_REPLY = 0,
	ICMP_UNREACHABLE = 3,
	ICMP_FRAGMENT_NEEDED = 4, /* code */
	ICMP_ECHO = 8,
	ICMP_TIME_EXCEEDED = 11,
	ICMP_PARAMETER = 12,
	ICMPV6_UNREACHABLE = 1,
	ICMPV6_TOO_BIG = 2,
	ICMPV6_TIME_EXCEEDED = 3,
	ICMPV6_PARAMETER = 4,
	ICMPV6_ECHO = 128,
	ICMPV6_ECHO_REPLY = 129,
	ICMPV6_ROUTER_SOLICIT = 133,
	ICMPV6_REDIRECT = 137,
};

/* RFC 792 and RFC 4443. The Linux headers for it need those of libc. */
struct icmp_header {
	__u8 type;
	__u8 code;
	__sum16 checksum;
	__be32 rest;
};

struct packet {
	struct service_key to; /* its port and protocol are set when the reason is REASON_FORWARDED */
	__be64 from[2];
	__be16 from_port;
	__u8 tcp_flags; /* 0 for UDP */
	__u8 traffic_class;
	__u32 size;	 /* IP bytes, from the IP header's own length */
	__u16 l2_size;	 /* bytes before the IP header */
	__u16 l4_offset; /* bytes from the IP header to TCP, UDP or ICMP; in a fragment, to its data */
	/* Set by parse_any only. */
	bool fragment;	       /* one of several */
	__u16 fragment_offset; /* bytes */
	__u32 fragment_id;     /* as on the wire */
};

/* RFC 1122, 3.2.2: errors are not answered with errors. */
static __always_inline bool is_icmp(const struct packet *pkt)
{
	return pkt->to.protocol == IPPROTO_ICMP || pkt->to.protocol == IPPROTO_ICMPV6;
}

/* Two loads of 8 bytes; a memcpy would become four of 4, since a packet's headers are aligned to less. */
static __always_inline void copy_address(__be64 *to, const void *from)
{
	to[0] = *(const __be64 *)from;
	to[1] = *((const __be64 *)from + 1);
}

/*
 * `offset` bytes into the packet. At most six extension headers of 2,048 bytes lie before it, but the
 * verifier must see a bound.
 */
static __always_inline void *header_at(void *ip, __u32 offset)
{
	asm volatile("" : "+r"(offset));
	return ip + (offset & 0x3fff);
}

/*
 * Whether the frame holds `size` bytes from `from` on. A frame in several buffers is as long as the
 * kernel says; that costs a call, so only a packet that looks too long for its first one asks.
 */
static __always_inline bool frame_holds(struct xdp_md *ctx, const void *from, __u32 size)
{
	const void *start = (void *)(long)ctx->data;
	const void *end = (void *)(long)ctx->data_end;

	return from + size <= end || (__u32)(from - start) + size <= bpf_xdp_get_buff_len(ctx);
}

/*
 * Steps over VLAN tags: the EtherType behind them, or 0 when the frame ends before one. `l2_size` is
 * where that ends.
 */
static __always_inline __be16 parse_link(void *start, void *end, __u16 *l2_size)
{
	struct ethhdr *eth = start;

	*l2_size = sizeof(*eth);
	if ((void *)(eth + 1) > end)
		return 0;
	__be16 type = eth->h_proto;
	for (int tag = 0; tag < TAGS_MAX; tag++) {
		if (type != bpf_htons(ETH_P_8021Q) && type != bpf_htons(ETH_P_8021AD))
			break;
		__be16 *inside = start + *l2_size;
		if ((void *)(inside + 2) > end)
			return 0;
		type = inside[1];
		*l2_size += TAG_SIZE;
	}
	return type;
}

/*
 * REASON_COUNT: not TCP or UDP, which is for parse_any to look into. `size` bytes lie behind `l4`, by the IP
 * length; `goes_on`: the rest of the datagram is in other fragments.
 */
static __always_inline enum reason parse_transport(struct packet *pkt, void *l4, void *end, __u32 size,
						   __u8 protocol, bool goes_on)
{
	__be16 *ports;

	/*
	 * The caller has seen that `size` bytes lie in the frame, so most checks against `end` below never
	 * fail. The verifier does not know: hide the connection, or clang takes them out.
	 */
	asm volatile("" : "+r"(l4));
	ports = l4;
	pkt->to.protocol = protocol;
	if (protocol == IPPROTO_TCP) {
		if (size < TCP_HEADER_MIN)
			return REASON_MALFORMED;
		if (l4 + TCP_HEADER_MIN > end)
			return REASON_TRUNCATED;
		__u32 header = (((__u8 *)l4)[12] >> 4) * 4;
		if (header < TCP_HEADER_MIN || header > size)
			return REASON_MALFORMED;
		pkt->tcp_flags = ((__u8 *)l4)[13];
	} else if (protocol == IPPROTO_UDP) {
		if (size < UDP_HEADER_SIZE)
			return REASON_MALFORMED;
		if (l4 + UDP_HEADER_SIZE > end)
			return REASON_TRUNCATED;
		__u32 length = bpf_ntohs(ports[2]);
		if (length < UDP_HEADER_SIZE || (length > size && !goes_on))
			return REASON_MALFORMED;
	} else {
		return REASON_COUNT;
	}
	pkt->from_port = ports[0];
	pkt->to.port = ports[1];
	return REASON_FORWARDED;
}

/* Addresses and length; REASON_FORWARDED when the header can be believed and the frame holds the packet. */
static __always_inline enum reason parse_ipv4_header(struct xdp_md *ctx, struct packet *pkt, struct iphdr *ip,
						     void *end)
{
	if ((void *)(ip + 1) > end)
		return REASON_RUNT;
	pkt->to.family = FAMILY_IPV4;
	pkt->to.address[0] = ip->daddr;
	pkt->from[0] = ip->saddr;
	pkt->traffic_class = ip->tos;
	pkt->size = bpf_ntohs(ip->tot_len);
	pkt->l4_offset = ip->ihl * 4;
	if (ip->version != 4 || pkt->l4_offset < sizeof(*ip) || pkt->size < pkt->l4_offset)
		return REASON_MALFORMED;
	/* Padding after the packet is normal, a packet longer than its frame is not. */
	if (!frame_holds(ctx, ip, pkt->size))
		return REASON_TRUNCATED;
	return REASON_FORWARDED;
}

static __always_inline enum reason parse_ipv6_header(struct xdp_md *ctx, struct packet *pkt,
						     struct ipv6hdr *ip, void *end)
{
	if ((void *)(ip + 1) > end)
		return REASON_RUNT;
	pkt->to.family = FAMILY_IPV6;
	copy_address(pkt->to.address, &ip->daddr);
	copy_address(pkt->from, &ip->saddr);
	pkt->traffic_class = ip->priority << 4 | ip->flow_lbl[0] >> 4;
	pkt->size = bpf_ntohs(ip->payload_len) + sizeof(*ip);
	pkt->l4_offset = sizeof(*ip);
	if (ip->version != 6)
		return REASON_MALFORMED;
	if (!frame_holds(ctx, ip, pkt->size))
		return REASON_TRUNCATED;
	return REASON_FORWARDED;
}

/*
 * Fills `pkt` and says REASON_FORWARDED when it is whole TCP or UDP right behind the IP header;
 * REASON_NOT_IP or REASON_RUNT when nothing can be known; anything else: ask parse_any.
 */
static __always_inline enum reason parse(struct xdp_md *ctx, struct packet *pkt)
{
	void *start = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;
	__be16 type = parse_link(start, end, &pkt->l2_size);
	void *l3 = start + pkt->l2_size;
	enum reason reason;
	__u8 protocol;

	if (type == bpf_htons(ETH_P_IP)) {
		struct iphdr *ip = l3;

		reason = parse_ipv4_header(ctx, pkt, ip, end);
		if (reason != REASON_FORWARDED)
			return reason;
		if (ip->frag_off & bpf_htons(IP_MF | IP_OFFSET))
			return REASON_COUNT;
		protocol = ip->protocol;
	} else if (type == bpf_htons(ETH_P_IPV6)) {
		struct ipv6hdr *ip = l3;

		reason = parse_ipv6_header(ctx, pkt, ip, end);
		if (reason != REASON_FORWARDED)
			return reason;
		protocol = ip->nexthdr;
	} else {
		return REASON_NOT_IP;
	}
	return parse_transport(pkt, l3 + pkt->l4_offset, end, pkt->size - pkt->l4_offset, protocol, false);
}

#endif
