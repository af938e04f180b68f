/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The maps that only tc_nat has. The defaults of max_entries are set anew before load. */
#ifndef FAIRLEAD_NAT_MAPS_H
#define FAIRLEAD_NAT_MAPS_H

#include "nat_types.h"

/* Buckets. Written when a connection begins and ends; read per packet. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct nat_bucket);
	__uint(max_entries, 1);
} nat_index SEC(".maps");

/* Connections by id. Written per packet of theirs; read by user space through mmap. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct nat_connection);
	__uint(max_entries, 1);
} nat_connections SEC(".maps");

/* By the connection's id. Written when it begins, and where what is in it changes; read per reply, and by
 * user space through mmap. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct nat_detail);
	__uint(max_entries, 1);
} nat_details SEC(".maps");

/* By service number. Written by the reconciler (mmap) before the service; read per reply and when a
 * connection begins. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct nat_service);
	__uint(max_entries, 4096);
} nat_services SEC(".maps");

/* Address pools, and in 0 the ids of ended connections. Written by the reconciler (mmap) and when ports are
 * taken and put back. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct nat_pool);
	__uint(max_entries, NAT_POOLS);
} nat_pools SEC(".maps");

/* What the pools have left; see struct nat_pool. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, __u32);
	__uint(max_entries, 1);
} nat_ring SEC(".maps");

/* Ticks without a packet after which a connection ends, by state; TCP, then all others. Written by user space
 * (mmap). */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, __u32);
	__uint(max_entries, 2 * NAT_STATES);
} nat_timeouts SEC(".maps");

/* One entry. Written when connections begin and end. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct nat_counts);
	__uint(max_entries, 1);
} nat_counts SEC(".maps");

/* By service number, 0: egress, and enum nat_outcome. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, __u64[NAT_OUTCOME_COUNT]);
	__uint(max_entries, 4096);
} nat_outcomes SEC(".maps");

/* Datagrams in fragments, all CPUs'; the oldest makes room. Written by the first fragment, read by the
 * others. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, struct fragment_key);
	__type(value, struct nat_fragment);
	__uint(max_entries, 1 << 14);
} nat_fragments SEC(".maps");

/* Sources that are translated on their way out. Written at the start; read when a connection begins. */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct nat_prefix4);
	__type(value, __u32);
	__uint(max_entries, 4096);
} nat_egress4 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct nat_prefix6);
	__type(value, __u32);
	__uint(max_entries, 4096);
} nat_egress6 SEC(".maps");

struct nat_timer {
	struct bpf_timer timer;
};

/* One entry: the sweep's timer, which runs as long as the pin is there, with or without a daemon. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct nat_timer);
	__uint(max_entries, 1);
} nat_timers SEC(".maps");

#endif
