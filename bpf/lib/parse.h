/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * From bytes to the fields the policy needs. Nothing is read past data_end, and nothing is believed
 * that the frame's own length contradicts.
 */
#ifndef FAIRLEAD_PARSE_H
#define FAIRLEAD_PARSE_H

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include "types.h"

#define IP_FRAGMENT_BITS 0x3fff /* more fragments, offset */
#define TCP_HEADER_MIN 20
#define UDP_HEADER_SIZE 8

enum tcp_flag { TCP_FIN = 0x01, TCP_SYN = 0x02, TCP_RST = 0x04, TCP_ACK = 0x10 };

struct packet {
	struct service_key to; /* its port and protocol are set when the reason is REASON_FORWARDED */
	__be64 from[2];
	__be16 from_port;
	__u8 tcp_flags; /* 0 for UDP */
	__u8 traffic_class;
	__u32 size; /* IP bytes, from the IP header's own length */
};

/* First byte past an IP header at `l4`, `size` bytes of payload left by the IP length. */
static __always_inline enum reason parse_transport(struct packet *pkt, void *l4, void *end, __u32 size,
						   __u8 protocol)
{
	__be16 *ports;

	/*
	 * The caller has seen that `size` bytes lie before `end`, so the checks against `end` below never
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
		if (length < UDP_HEADER_SIZE || length > size)
			return REASON_MALFORMED;
	} else {
		return REASON_NOT_OURS;
	}
	pkt->from_port = ports[0];
	pkt->to.port = ports[1];
	return REASON_FORWARDED;
}

static __always_inline enum reason parse_ipv4(struct packet *pkt, struct iphdr *ip, void *end)
{
	if ((void *)(ip + 1) > end)
		return REASON_RUNT;
	pkt->to.family = FAMILY_IPV4;
	pkt->to.address[0] = ip->daddr;
	pkt->from[0] = ip->saddr;
	pkt->traffic_class = ip->tos;
	pkt->size = bpf_ntohs(ip->tot_len);

	__u32 header = ip->ihl * 4;
	if (ip->version != 4 || header < sizeof(*ip) || pkt->size < header)
		return REASON_MALFORMED;
	/* Padding after the packet is normal, a packet longer than its frame is not. */
	if ((void *)ip + pkt->size > end)
		return REASON_TRUNCATED;
	if (ip->frag_off & bpf_htons(IP_FRAGMENT_BITS))
		return REASON_FRAGMENT;
	return parse_transport(pkt, (void *)ip + header, end, pkt->size - header, ip->protocol);
}

/* Two loads of 8 bytes; a memcpy would become four of 4, since a packet's headers are aligned to less. */
static __always_inline void copy_address(__be64 *to, const void *from)
{
	to[0] = *(const __be64 *)from;
	to[1] = *((const __be64 *)from + 1);
}

static __always_inline enum reason parse_ipv6(struct packet *pkt, struct ipv6hdr *ip, void *end)
{
	if ((void *)(ip + 1) > end)
		return REASON_RUNT;
	pkt->to.family = FAMILY_IPV6;
	copy_address(pkt->to.address, &ip->daddr);
	copy_address(pkt->from, &ip->saddr);
	pkt->traffic_class = ip->priority << 4 | ip->flow_lbl[0] >> 4;

	__u32 payload = bpf_ntohs(ip->payload_len);
	pkt->size = payload + sizeof(*ip);
	if (ip->version != 6)
		return REASON_MALFORMED;
	if ((void *)ip + pkt->size > end)
		return REASON_TRUNCATED;
	switch (ip->nexthdr) {
	case IPPROTO_FRAGMENT:
		return REASON_FRAGMENT;
	case IPPROTO_HOPOPTS:
	case IPPROTO_ROUTING:
	case IPPROTO_DSTOPTS:
	case IPPROTO_AH:
		return REASON_EXTENSION;
	}
	return parse_transport(pkt, ip + 1, end, payload, ip->nexthdr);
}

/*
 * Fills `pkt` and says REASON_FORWARDED when it is whole TCP or UDP. With any other reason but
 * REASON_NOT_IP and REASON_RUNT the addresses are set, so the caller can ask whose packet it is.
 */
static __always_inline enum reason parse(struct xdp_md *ctx, struct packet *pkt)
{
	void *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = (void *)(long)ctx->data;

	if ((void *)(eth + 1) > end)
		return REASON_NOT_IP;
	if (eth->h_proto == bpf_htons(ETH_P_IP))
		return parse_ipv4(pkt, (void *)(eth + 1), end);
	if (eth->h_proto == bpf_htons(ETH_P_IPV6))
		return parse_ipv6(pkt, (void *)(eth + 1), end);
	return REASON_NOT_IP;
}

#endif
