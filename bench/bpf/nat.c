// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * For the bench of NAT: what wrapper.c is for XDP, at TC, and the two ends of a chain over veth: a generator
 * of live frames, whose checksums are right (conntrack looks at them), and a sink that looks at what the
 * addresses have become.
 */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define FRAME_SIZE 64
#define IP_CHECK 24
#define IP_SOURCE 26
#define IP_DESTINATION 30
#define L4_SOURCE 34

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} nat_under_test SEC(".maps");

struct nat_bench {
	__u8 template[FRAME_SIZE];
	__u64 actions[8];
	__u64 mistakes;	    /* frames at the sink whose addresses are not translated as they should be */
	__u32 flow;	    /* the next one */
	__u32 stride;	    /* from one flow to the next: without common factors with `flows` */
	__u32 flows;	    /* as many as are visited in turn */
	__u32 check;	    /* offset of the transport's checksum */
	__be32 source;	    /* of translated packets: this /28 */
	__be32 destination; /* the same */
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct nat_bench);
} nat_bench SEC(".maps");

/* RFC 1624: the checksum when words that sum up to `more` are added to what it covers. */
static __attribute__((always_inline)) inline void add_to_check(__u16 *check, __u32 more)
{
	__u32 sum = (__u16) ~*check + more;

	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	*check = ~sum;
}

/*
 * The template, from a client of its own for each flow in turn: 256 addresses, 4096 ports each, then the next
 * 256. In the template these bits are 0.
 */
static __attribute__((always_inline)) inline void write_frame(struct nat_bench *state, void *data)
{
	__u32 flow = state->flow, next = flow + state->stride;
	__u16 host = bpf_htons((flow & 0xff) | (flow >> 20 & 0xff) << 8), port = bpf_htons(flow >> 8 & 0xfff);

	state->flow = next >= state->flows ? next - state->flows : next;
	for (int word = 0; word < FRAME_SIZE / 8; word++)
		((__u64 *)data)[word] = ((__u64 *)state->template)[word];
	*(__u16 *)(data + IP_SOURCE + 2) |= host;
	*(__u16 *)(data + L4_SOURCE) |= port;
	add_to_check(data + IP_CHECK, host);
	if (state->check == 40)
		add_to_check(data + 40, (__u32)host + port);
	else
		add_to_check(data + 50, (__u32)host + port);
}

static __attribute__((noinline)) int run_under_test(struct __sk_buff *skb)
{
	int action = TC_ACT_SHOT;

	/* As in wrapper.c. */
	asm volatile("" : "+r"(action));
	bpf_tail_call(skb, &nat_under_test, 0);
	asm volatile("" : "+r"(action));
	return action;
}

SEC("tc")
int nat_wrapper(struct __sk_buff *skb)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	struct nat_bench *state = bpf_map_lookup_elem(&nat_bench, &(__u32){0});

	if (!state || data + FRAME_SIZE > end)
		return TC_ACT_UNSPEC;
	write_frame(state, data);
	int action = run_under_test(skb);

	state->actions[action & 7]++;
	return action;
}

/* The floor: what a program at TC costs that only redirects. */
SEC("tc")
int nat_floor(struct __sk_buff *skb)
{
	return bpf_redirect(skb->ifindex, 0);
}

SEC("xdp")
int nat_generate(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct nat_bench *state = bpf_map_lookup_elem(&nat_bench, &(__u32){0});

	if (!state || data + FRAME_SIZE > end)
		return XDP_ABORTED;
	write_frame(state, data);
	return XDP_TX;
}

SEC("xdp")
int nat_sink(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct nat_bench *state = bpf_map_lookup_elem(&nat_bench, &(__u32){0});

	if (!state || data + FRAME_SIZE > end)
		return XDP_DROP;
	__u32 source = *(__be32 *)(data + IP_SOURCE) ^ state->source;
	__u32 destination = *(__be32 *)(data + IP_DESTINATION) ^ state->destination;

	state->actions[XDP_DROP]++;
	state->mistakes += ((source | destination) & bpf_htonl(0xfffffff0)) != 0;
	return XDP_DROP;
}

char _license[] SEC("license") = "GPL";
