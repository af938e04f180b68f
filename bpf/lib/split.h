/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * One IPv4 packet that does not fit, sent as two fragments (RFC 791; RFC 4459, 3.4). XDP cannot copy a
 * packet, but a broadcast into a device map does: both entries of split_out name the interface the packet
 * came in by, and split_part() makes one copy the first fragment and the other the second.
 *
 * Only packets that are split are redirected to the interface they came in by. The kernel keeps one program
 * for all frames that one poll of an interface redirects to another one, so no other may be among them, and
 * the two entries cannot have programs of their own.
 */
#ifndef FAIRLEAD_SPLIT_H
#define FAIRLEAD_SPLIT_H

#include "encap.h"
#include "exit.h"

#define OFFSET_UNIT 8
/* A copy must fit a page of 4096 bytes with what lies ahead of it: 256 bytes of room in most drivers. */
#define SPLIT_MAX 3500
/* What the kernel lets a redirected frame have beyond the interface's MTU. */
#define LINK_MAX (sizeof(struct ethhdr) + TAG_SIZE)

/* Ahead of the packet from here to split_part(), as XDP metadata. */
struct split_note {
	__u32 turn; /* the same for the two copies of a packet, another for the next one's */
	__u32 entropy;
	__u16 backend; /* number */
	__u16 flags;   /* enum service_flag */
	__u16 first;   /* bytes of payload in the first fragment */
	__u16 l2_size;
};

/* Room for the widest outer header, tags and the note. */
#define SPLIT_ROOM                                                                                           \
	(sizeof(struct ipv6hdr) + sizeof(struct udphdr) + TAGS_MAX * TAG_SIZE + sizeof(struct split_note))

/*
 * Whether this packet may be sent as two of at most `room` IP bytes; if so it is ready to leave with
 * REASON_SPLIT. `backend` and `flags`: see the note.
 */
__noinline int split(struct xdp_md *ctx, __u32 room, __u32 backend, __u32 flags, __u32 entropy)
{
	void *end = (void *)(long)ctx->data_end;
	void *start = (void *)(long)ctx->data;
	__u64 size = bpf_xdp_get_buff_len(ctx);
	__u32 mtu = 0, key = 0, second = 1;
	__u16 l2_size;

	if (parse_link(start, end, &l2_size) != bpf_htons(ETH_P_IP))
		return false;
	struct iphdr *ip = start + l2_size;
	/* All in one buffer. With options, which are not for every fragment, it is too rare a packet. */
	if ((void *)(ip + 1) > end || size > SPLIT_MAX || start + size > end || ip->ihl != 5 ||
	    ip->frag_off & bpf_htons(IP_DF))
		return false;
	__u32 payload = bpf_ntohs(ip->tot_len) - sizeof(*ip);
	if (room < sizeof(*ip) + OFFSET_UNIT)
		return false;
	room -= sizeof(*ip);
	__u32 first = room & ~(OFFSET_UNIT - 1);
	if (payload <= first || payload - first > room)
		return false;

	/* Nothing may fail behind the redirect, where it could not be told any more. */
	bpf_check_mtu(ctx, 0, &mtu, 0, 0);
	struct split_turns *turns = bpf_map_lookup_elem(&split_turns, &key);
	if (!turns || size > mtu + LINK_MAX || !bpf_map_lookup_elem(&split_out, &second) ||
	    bpf_xdp_adjust_head(ctx, -(int)SPLIT_ROOM) || bpf_xdp_adjust_head(ctx, SPLIT_ROOM) ||
	    bpf_xdp_adjust_meta(ctx, -(int)sizeof(struct split_note)))
		return false;
	struct split_note *note = (void *)(long)ctx->data_meta;
	if ((void *)(note + 1) > (void *)(long)ctx->data)
		return false;
	*note = (struct split_note){.turn = ++turns->given,
				    .entropy = entropy,
				    .backend = backend,
				    .flags = flags,
				    .first = first,
				    .l2_size = l2_size};
	return true;
}

/* By the difference: a wrong checksum stays wrong. */
static __always_inline void part_header(struct iphdr *ip, __u32 size, __be16 fragment)
{
	ip->check = checksum_change(ip->check, ip->tot_len, bpf_htons(size));
	ip->check = checksum_change(ip->check, ip->frag_off, fragment);
	ip->tot_len = bpf_htons(size);
	ip->frag_off = fragment;
}

/* Makes the frame the packet's first fragment, or its second. */
static __always_inline bool cut(struct xdp_md *ctx, const struct split_note *note, struct packet *pkt,
				bool second)
{
	struct iphdr *ip = (void *)(long)ctx->data + (note->l2_size & 0x1f);
	struct iphdr header;

	if ((void *)(ip + 1) > (void *)(long)ctx->data_end)
		return false;
	header = *ip;
	__u32 offset = bpf_ntohs(header.frag_off);
	pkt->traffic_class = header.tos;
	pkt->to.protocol = header.protocol;
	if (second) {
		pkt->size = bpf_ntohs(header.tot_len) - note->first;
		part_header(&header, pkt->size, bpf_htons(offset + note->first / OFFSET_UNIT));
		if (bpf_xdp_adjust_head(ctx, note->first))
			return false;
	} else {
		pkt->size = sizeof(header) + note->first;
		part_header(&header, pkt->size, bpf_htons(offset | IP_MF));
		if (bpf_xdp_adjust_tail(ctx,
					(int)(note->l2_size + pkt->size) - (int)bpf_xdp_get_buff_len(ctx)))
			return false;
	}
	/* The Ethernet header and tags are written anew by encap(). */
	ip = (void *)(long)ctx->data + (note->l2_size & 0x1f);
	if ((void *)(ip + 1) > (void *)(long)ctx->data_end)
		return false;
	*ip = header;
	return true;
}

/* One copy of a packet that left with REASON_SPLIT, on its way out. */
static __always_inline bool part(struct xdp_md *ctx, const struct split_note *note)
{
	struct packet pkt = {.to.family = FAMILY_IPV4,
			     .l2_size = note->l2_size,
			     .l4_offset = sizeof(struct iphdr),
			     .fragment = true};
	__u32 key = 0, number = note->backend;
	struct split_turns *turns = bpf_map_lookup_elem(&split_turns, &key);
	const struct backend *to = bpf_map_lookup_elem(&backends, &number);

	if (!turns || !to)
		return false;
	bool second = turns->seen == note->turn;
	turns->seen = note->turn;
	return cut(ctx, note, &pkt, second) &&
	       encap(ctx, &pkt, to, note->flags & features, note->entropy) == REASON_FORWARDED;
}

#endif
