/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Set by user space before load; the verifier sees constants and drops what they switch off. */
#ifndef FAIRLEAD_CONFIG_H
#define FAIRLEAD_CONFIG_H

#include "types.h"

/* This program's place among the node's interfaces: rows of `outcomes`. */
const volatile __u32 interface_slot = 0;
/* Buckets per CPU - 1; a power of two - 1. */
const volatile __u32 flow_bucket_mask = 0;
/* enum service_flag: what some service of the node wants. The rest is not in the program. */
const volatile __u32 features = 0;
/* New flows per CPU, service and window of 2^BUDGET_WINDOW_SHIFT ticks. */
const volatile __u32 flow_budget_per_window = 0;
/* ICMP per CPU, kind (enum icmp_kind) and window. */
const volatile __u32 icmp_budget_per_window = 0;
/* CPUs that may have a part of the flow table. */
const volatile __u32 cpu_count = 1;
/* Key of the flow table's index: derived from the ring's, so that a table outlives the program. */
const volatile __u64 index_key[2] = {};
/* Key of the ring hash (SipHash): the cluster's, so that every node agrees. */
const volatile __u64 ring_key[2] = {};
/* What agents on the backends know a list of owners by: derived from the ring's key. */
const volatile __u64 agent_key[2] = {};
/* Outer source addresses, as in service_key. */
const volatile __be32 tunnel_source = 0;
const volatile __be64 tunnel_source6[2] = {};
/* Largest packet, outer header included, that fits on the way to the backends; IP bytes. */
const volatile __u32 tunnel_mtu = 1500;

#endif
