// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Runs a program under BPF_PROG_TEST_RUN with repeat > 1 as if each run saw a new packet. The kernel
 * does not restore the frame between repeats, so this does: it writes the headers from a template,
 * varies the client over `flow_mask` + 1 flows, tail-calls the program under test from a subprogram
 * (so control comes back here), and moves the head back. Every program pays the same for it; its own
 * cost is what it takes above min_tx.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#define TEMPLATE_SIZE 80

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} under_test SEC(".maps");

struct bench_state {
	__u64 template[TEMPLATE_SIZE / 8];
	__u64 counter;
	__u64 actions[8];
	__u64 size_sum; /* bytes of the frames after the run */
	__u64 restore_failures;
	__u32 frame_size;
	__u32 flow_mask; /* flows - 1; 0: always the same one */
	__u32 ipv6;
	__u32 pad;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct bench_state);
} bench SEC(".maps");

/* The template, with a client of its own for each of the flows in turn. TEMPLATE_SIZE bytes must be there. */
static __attribute__((always_inline)) inline void write_frame(struct bench_state *state, void *data)
{
	for (int word = 0; word < TEMPLATE_SIZE / 8; word++)
		((__u64 *)data)[word] = state->template[word];
	if (state->flow_mask) {
		__u32 flow = (__u32)state->counter++ & state->flow_mask;
		__u32 scattered = flow * 2654435761u;
		__u16 port = 0x80 | scattered >> 25 | (scattered >> 8 & 0xff00);
		__u8 *address = data + (state->ipv6 ? 35 : 27);

		address[0] = flow >> 16;
		address[1] = flow >> 8;
		address[2] = flow;
		*(__u16 *)(data + (state->ipv6 ? 54 : 34)) = port;
	}
}

static __attribute__((noinline)) int run_under_test(struct xdp_md *ctx)
{
	int action = XDP_ABORTED;

	/* Keep the compiler from deciding what a tail call that never returns here would do. */
	asm volatile("" : "+r"(action));
	bpf_tail_call(ctx, &under_test, 0);
	asm volatile("" : "+r"(action));
	return action;
}

SEC("xdp.frags")
int wrapper(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct bench_state *state = bpf_map_lookup_elem(&bench, &(__u32){0});

	if (!state || data + TEMPLATE_SIZE > end)
		return XDP_ABORTED;
	write_frame(state, data);

	int action = run_under_test(ctx);
	__u32 size = ctx->data_end - ctx->data;
	int grown = (int)size - (int)state->frame_size;

	state->size_sum += size;
	if (grown && bpf_xdp_adjust_head(ctx, grown))
		state->restore_failures++;
	state->actions[action & 7]++;
	return action;
}

/*
 * Run with live frames, whose pages come back as they were left: each is written anew. XDP_TX sends it out
 * of the interface the run names.
 */
SEC("xdp.frags")
int generate(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct bench_state *state = bpf_map_lookup_elem(&bench, &(__u32){0});

	if (!state || data + TEMPLATE_SIZE > end)
		return XDP_ABORTED;
	write_frame(state, data);
	return XDP_TX;
}

/* Where they end. */
SEC("xdp.frags")
int sink(struct xdp_md *ctx)
{
	struct bench_state *state = bpf_map_lookup_elem(&bench, &(__u32){0});

	if (state) {
		state->size_sum += ctx->data_end - ctx->data;
		state->actions[XDP_DROP]++;
	}
	return XDP_DROP;
}

char _license[] SEC("license") = "GPL";
