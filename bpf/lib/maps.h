/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * All maps of the packet path. User space may set max_entries before load; the figures here are the
 * defaults. Values that user space stores through mmap are written with aligned stores of 8 bytes.
 */
#ifndef FAIRLEAD_MAPS_H
#define FAIRLEAD_MAPS_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "types.h"

/*
 * Services and markers of VIPs, found by service_find. Written by the reconciler (mmap); read once per
 * packet. Not a BPF hash: that costs a call and a general hash of 20 bytes (docs/decisions/0007).
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct service_entry);
	__uint(max_entries, SERVICE_SLOTS);
} services SEC(".maps");

/*
 * One bit per hash of an address: 0 means no service has it, which most packets of a node learn here.
 * Written by user space (mmap) before a service is; read once per packet. See service.h.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, __u64);
	__uint(max_entries, VIP_FILTER_BITS / 64);
} vip_filter SEC(".maps");

/* A pool's ring. Written by the reconciler (mmap, one store); read on a flow-table miss. Bounded by pools. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct ring_ref);
	__uint(max_entries, 4096);
} pools SEC(".maps");

/* Rows of all rings, each ring in one piece. Written by the reconciler (mmap) where no packet looks yet. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct ring_row);
	__uint(max_entries, 1 << 21);
} ring_rows SEC(".maps");

/* Backends by number. Written by the reconciler (mmap); read once per packet. Bounded by u16 numbers. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct backend);
	__uint(max_entries, 1 << 16);
} backends SEC(".maps");

/* Flow table, hot half: CPU x buckets per CPU + bucket. Written per packet; read by user space through mmap.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct flow_bucket);
	__uint(max_entries, 1);
} flows_hot SEC(".maps");

/* Flow table, cold half: bucket x FLOW_WAYS + way. Written when a flow changes state; read through mmap. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct flow_cold);
	__uint(max_entries, FLOW_WAYS);
} flows_cold SEC(".maps");

/* Traffic by service and member: counters_start + slot. Written per forwarded packet; read and zeroed by user
 * space. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct counters);
	__uint(max_entries, 1 << 16);
} counters SEC(".maps");

/* What `counters` held when a service's range moved. Written and read by user space only. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct counters);
	__uint(max_entries, 1 << 16);
} counters_base SEC(".maps");

/* Packets by interface slot and reason: each packet once. Bounded by interfaces x REASON_COUNT. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, __u64);
	__uint(max_entries, 16 * REASON_COUNT);
} outcomes SEC(".maps");

/*
 * Packets to a VIP that were not forwarded, by service number (0: service not known) and reason. One entry
 * for all reasons: the kernel allocates each entry on its own, a microsecond apiece when the node starts.
 */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, __u64[REASON_COUNT]);
	__uint(max_entries, 4096);
} service_outcomes SEC(".maps");

/* New-flow budget by service number. Written on a miss; read by nobody else. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct budget);
	__uint(max_entries, 4096);
} flow_budgets SEC(".maps");

/* One entry. Written on a miss; read by the metrics. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct flow_stats);
	__uint(max_entries, 1);
} flow_table_stats SEC(".maps");

/* ICMP by enum icmp_kind. Written per answer and carried error; read by nobody else. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct budget);
	__uint(max_entries, ICMP_KINDS);
} icmp_budgets SEC(".maps");

/* By service number and enum tally. Written where it happens; read by the metrics. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, __u64[TALLY_COUNT]);
	__uint(max_entries, 4096);
} tallies SEC(".maps");

/* By service number. Written by the reconciler (mmap) before the service; read where a flag of the service
 * asks. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct service_options);
	__uint(max_entries, 4096);
} service_options SEC(".maps");

/* Allow and deny lists. Written by the reconciler before the service; read per packet of services that have
 * one. */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct source4_key);
	__type(value, __u32);
	__uint(max_entries, 1 << 20);
} sources4 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct source6_key);
	__type(value, __u32);
	__uint(max_entries, 1 << 20);
} sources6 SEC(".maps");

/* Sources of services with a rate limit; the longest silent one makes room. Written and read per packet of
 * such. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, struct rate_key);
	__type(value, __u64);
	__uint(max_entries, 1 << 16);
} rates SEC(".maps");

/* By pool. Written by the reconciler (mmap, one store); read per packet of services with SERVICE_QUIC. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct quic_lengths);
	__uint(max_entries, 4096);
} quic_lengths SEC(".maps");

/* Backend number by server ID. Written by the reconciler; read per packet with a connection ID of ours. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct quic_key);
	__type(value, __u32);
	__uint(max_entries, 1 << 17);
} quic_servers SEC(".maps");

/* By enum scratch_use. Written and read within one packet. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct scratch);
	__uint(max_entries, SCRATCH_USES);
} scratches SEC(".maps");

/* Datagrams in fragments, all CPUs'; the oldest makes room. Written by the first fragment, read by the
 * others. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, struct fragment_key);
	__type(value, struct fragment);
	__uint(max_entries, 1 << 14);
} fragments SEC(".maps");

/* Which copies of packets that are split belong together. One entry. Written and read by split.h. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct split_turns);
	__uint(max_entries, 1);
} split_turns SEC(".maps");

/*
 * Twice the program's own interface, with split_part. One for each program, not pinned. Written at the start,
 * where the driver can copy frames; read per packet that does not fit.
 */
struct {
	__uint(type, BPF_MAP_TYPE_DEVMAP);
	__type(key, __u32);
	__type(value, struct bpf_devmap_val);
	__uint(max_entries, 2);
} split_out SEC(".maps");

#endif
