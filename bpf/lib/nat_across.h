/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * ICMP errors between families (RFC 7915, 4.2, 4.3, 5.2, 5.3): everything in front of the quoted transport
 * header is written anew, and what is behind it stays as long as the other family lets an error be.
 */
#ifndef FAIRLEAD_NAT_ACROSS_H
#define FAIRLEAD_NAT_ACROSS_H

#include "nat_error_types.h"
#include "nat_translate.h"

#define QUOTE_MIN 8    /* bytes of a quoted transport header: all that RFC 792 promises */
#define ERROR_IPV4 576 /* most IP bytes of an error (RFC 1812, 4.3.2.3); of ICMPv6's (RFC 4443, 3.1): */
#define ERROR_IPV6 IPV6_MTU_MIN

/* Where things are, from the frame's start, and what the quote says. */
struct nat_quote {
	__u32 l4;    /* the ICMP header */
	__u32 ip;    /* the quoted IP header */
	__u32 ports; /* the quoted transport header */
	__u32 check; /* its checksum; 0: none, or not in the quote */
	__u32 family;
	struct packet back; /* a packet that answers the quoted one */
};

/* An ICMP error on its way, in scratches[SCRATCH_ERRAND]: the stack is not deep. */
struct nat_error {
	struct packet pkt;
	struct nat_quote quote;
	struct nat_end from; /* of the quoted packet on the other side: it goes from `to` to `from` */
	struct nat_end to;
	__be64 sender[2];	 /* who the error is from there */
	__u32 way;		 /* enum nat_way, of the error */
	struct nat_header outer; /* to be written */
	struct nat_header inner;
};
_Static_assert(sizeof(struct nat_error) <= sizeof(struct scratch), "lies in it");

/* The address in the other family, where it has one (RFC 6052, 2.2); false: none. */
static __always_inline bool nat_other_name(const __be64 *address, __u32 family, __be64 *name)
{
	__u64 prefix = (__u64)nat_prefix[1] << 32 | nat_prefix[0];

	if (family == FAMILY_IPV4) {
		name[0] = prefix;
		name[1] = address[0] << 32 | nat_prefix[2];
		return true;
	}
	name[0] = address[1] >> 32;
	name[1] = 0;
	return address[0] == prefix && (__u32)address[1] == nat_prefix[2];
}

/* Sums of an address pair and of ports, folded. */
static __always_inline __u16 sum_pair(const __be64 *a, const __be64 *b)
{
	return fold_once(fold_once(fold_once(sum_address(a)) + fold_once(sum_address(b))));
}

static __always_inline __u16 fold_sum(__u32 sum)
{
	return ~fold_checksum(fold_once(sum));
}

/* The pseudo header of an ICMPv6 message of this size; addresses in it. */
static __always_inline __u16 sum_pseudo(const __be64 *from, const __be64 *to, __u32 size)
{
	return fold_sum(sum_pair(from, to) + bpf_htons(size) + bpf_htons(IPPROTO_ICMPV6));
}

/* The error's headers in the other family, in the room made for them. */
static __always_inline bool write_error6(struct __sk_buff *skb, struct nat_error *error, __u64 word,
					 __u16 sum)
{
	struct ethhdr *eth = (void *)(long)skb->data;
	void *end = (void *)(long)skb->data_end;
	struct ipv6hdr *ip = (void *)(eth + 1);
	struct icmp_header *icmp = (void *)(ip + 1);
	struct ipv6hdr *quoted = (void *)(icmp + 1);
	struct nat_fragment_header *fragment = (void *)(quoted + 1);

	if ((void *)(quoted + 1) > end)
		return false;
	eth->h_proto = bpf_htons(ETH_P_IPV6);
	nat_write_ipv6(ip, &error->outer);
	*icmp = (struct icmp_header){.type = word >> 40, .code = word >> 32, .rest = bpf_htonl(word)};
	nat_write_ipv6(quoted, &error->inner);
	__u32 head = bpf_csum_diff(NULL, 0, (__be32 *)icmp, sizeof(*icmp) + sizeof(*quoted), 0);

	if (error->inner.fragment) {
		if ((void *)(fragment + 1) > end)
			return false;
		nat_write_fragment(fragment, &error->inner);
		head = bpf_csum_diff(NULL, 0, (__be32 *)fragment, sizeof(*fragment), head);
	}
	__u32 pseudo = sum_pseudo(error->outer.from, error->outer.to, error->outer.size);

	icmp->checksum = fold_checksum(fold_sum(head) + pseudo + sum);
	return true;
}

static __always_inline bool write_error4(struct __sk_buff *skb, struct nat_error *error, __u64 word,
					 __u16 sum)
{
	struct ethhdr *eth = (void *)(long)skb->data;
	struct iphdr *ip = (void *)(eth + 1);
	struct icmp_header *icmp = (void *)(ip + 1);
	struct iphdr *quoted = (void *)(icmp + 1);

	if ((void *)(quoted + 1) > (void *)(long)skb->data_end)
		return false;
	eth->h_proto = bpf_htons(ETH_P_IP);
	nat_write_ipv4(ip, &error->outer);
	*icmp = (struct icmp_header){.type = word >> 40, .code = word >> 32, .rest = bpf_htonl(word)};
	nat_write_ipv4(quoted, &error->inner);
	__u32 head = bpf_csum_diff(NULL, 0, (__be32 *)icmp, sizeof(*icmp) + sizeof(*quoted), 0);

	icmp->checksum = fold_checksum(fold_sum(head) + sum);
	return true;
}

/* The quote's ports and checksum as they are on the other side; `sum` of them with what follows, changed. */
static __always_inline bool write_ports(struct __sk_buff *skb, const struct nat_error *error, __u16 *sum)
{
	const struct packet *back = &error->quote.back;
	void *start = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	__be16 *ports = start + (error->quote.ports & 0xff);
	__be16 *check = start + (error->quote.check & 0xff);
	__u16 old_ports = fold_once(back->from_port + back->to.port),
	      new_ports = fold_once(error->from.port + error->to.port);

	if ((void *)(ports + 2) > end || (void *)(check + 1) > end)
		return false;
	*sum = fold_sum(*sum + (__u16)~old_ports + new_ports);
	ports[0] = error->to.port;
	ports[1] = error->from.port;
	if (!error->quote.check)
		return true;
	__u16 old = sum_pair(back->from, back->to.address),
	      new = sum_pair(error->from.address, error->to.address);
	__u16 before = *check;
	__u16 after = checksum_change(checksum_change(before, old, new), old_ports, new_ports);

	if (back->to.protocol == IPPROTO_UDP && !after)
		after = 0xffff;
	*sum = fold_sum(*sum + (__u16)~before + after);
	*check = after;
	return true;
}

/* Makes it one of the other family, from the address error->sender. False: there is none like it. */
__noinline int nat_error_across(struct __sk_buff *skb, struct nat_error *error)
{
	if (!error)
		return false;
	void *start = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	struct nat_header *outer = &error->outer, *inner = &error->inner;
	__u32 frame = skb->len - sizeof(struct ethhdr), sum, head;
	bool v4 = error->quote.family == FAMILY_IPV4;
	struct icmp_header *icmp;
	__u64 word;

	if (v4) {
		struct iphdr *ip = start + sizeof(struct ethhdr);
		struct iphdr *quoted = (void *)(ip + 1) + sizeof(*icmp);

		icmp = (void *)(ip + 1);
		if ((void *)(quoted + 1) > end || !nat_read_ipv4(ip, frame, outer) ||
		    !nat_read_ipv4(quoted, 0xffff, inner))
			return false;
		head = sizeof(*icmp) + sizeof(*quoted);
		sum = bpf_csum_diff(NULL, 0, (__be32 *)icmp, sizeof(*icmp) + sizeof(*quoted), 0);
	} else {
		struct ipv6hdr *ip = start + sizeof(struct ethhdr);
		struct ipv6hdr *quoted = (void *)(ip + 1) + sizeof(*icmp);
		struct nat_fragment_header *fragment = (void *)(quoted + 1);

		icmp = (void *)(ip + 1);
		if ((void *)(quoted + 1) > end || !nat_read_ipv6(ip, end, frame, outer) ||
		    !nat_read_ipv6(quoted, end, 0xffff, inner))
			return false;
		head = sizeof(*icmp) + sizeof(*quoted);
		sum = bpf_csum_diff(NULL, 0, (__be32 *)icmp, sizeof(*icmp) + sizeof(*quoted), 0);
		if (inner->fragment) {
			if ((void *)(fragment + 1) > end)
				return false;
			head += sizeof(*fragment);
			sum = bpf_csum_diff(NULL, 0, (__be32 *)fragment, sizeof(*fragment), sum);
		}
	}
	__u32 growth = IP_GROWTH + (inner->fragment ? sizeof(struct nat_fragment_header) : 0);
	__u32 rest = bpf_ntohl(icmp->rest), length = quote_length(v4, icmp->type, rest);
	__u32 ip_size = v4 ? sizeof(struct iphdr) : sizeof(struct ipv6hdr),
	      behind = sizeof(struct ethhdr) + ip_size;
	__u32 left = outer->size - head, keep = left; /* bytes of quoted transport */
	__u32 most = v4 ? ERROR_IPV6 - sizeof(struct ipv6hdr) - head - growth
			: ERROR_IPV4 - sizeof(struct iphdr) - head + growth;

	word = v4 ? error_to_ipv6(icmp->type, icmp->code, rest, inner->size + sizeof(struct iphdr))
		  : error_to_ipv4(icmp->type, icmp->code, rest, growth);
	if (!word || outer->fragment || outer->size < head + QUOTE_MIN || error->quote.ports != behind + head)
		return false;
	/* What the checksum says of the quoted transport: a wrong one stays wrong. */
	sum = fold_sum(sum);
	if (!v4)
		sum += sum_pseudo(error->pkt.from, error->pkt.to.address, outer->size);
	__u16 transport = ~fold_sum(sum);

	if (length) {
		if (length < head - sizeof(*icmp) + QUOTE_MIN)
			return false;
		if (length - (head - sizeof(*icmp)) < keep)
			keep = length - (head - sizeof(*icmp));
	}
	if (keep > most)
		keep = most;
	if (keep < left) {
		__u32 lost = sum_bytes(skb, behind + head + keep, left - keep);

		transport = fold_sum(transport + (__u16)~fold_sum(lost));
	}
	if (!write_ports(skb, error, &transport) || bpf_skb_change_tail(skb, behind + head + keep, 0))
		return false;
	copy_address(outer->from, error->sender);
	copy_address(outer->to, error->to.address);
	copy_address(inner->from, error->to.address);
	copy_address(inner->to, error->from.address);
	outer->protocol = v4 ? IPPROTO_ICMPV6 : IPPROTO_ICMP;
	outer->size = keep + (v4 ? head + growth : head - growth);
	if (v4)
		return !bpf_skb_change_proto(skb, bpf_htons(ETH_P_IPV6), 0) &&
		       !bpf_skb_adjust_room(skb, growth, BPF_ADJ_ROOM_MAC, 0) &&
		       write_error6(skb, error, word, transport);
	return !bpf_skb_change_proto(skb, bpf_htons(ETH_P_IP), 0) &&
	       !bpf_skb_adjust_room(skb, -(int)growth, BPF_ADJ_ROOM_MAC, 0) &&
	       write_error4(skb, error, word, transport);
}

#endif
