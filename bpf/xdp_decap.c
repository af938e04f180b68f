// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * For backends that have no agent and whose kernel lacks ipip, ip6tnl, sit or fou: takes the outer header off
 * whatever it comes from.
 */
#include <stdbool.h>
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "lib/types.h"
#include "lib/decap.h"

SEC("xdp.frags")
int xdp_decap(struct xdp_md *ctx)
{
	struct outer outer = find_outer((void *)(long)ctx->data, (void *)(long)ctx->data_end);

	return outer.size ? decap(ctx, &outer) : XDP_PASS;
}

char _license[] SEC("license") = "Dual BSD/GPL";
