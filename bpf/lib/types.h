/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Every struct and enum shared with user space, and nothing else. src/dataplane/abi.gen.ts is
 * generated from the BTF of what is declared here, so a field moves in one place only.
 *
 * Conventions: __be fields are in network byte order, all others in host order. Numbers that name
 * a service, pool or backend are dense, given out by user space, and 0 means "none".
 */
#ifndef FAIRLEAD_TYPES_H
#define FAIRLEAD_TYPES_H

#include <linux/types.h>

/* In the path of the pins: incremented when an older daemon's maps can no longer be read with these structs.
 */
enum abi { ABI_VERSION = 1 };

/* Why a packet went where it went: each packet ends in exactly one. The action follows from it. */
enum reason {
	REASON_FORWARDED,   /* TX: encapsulated, out of the interface it came in by */
	REASON_REDIRECTED,  /* REDIRECT: encapsulated, out of another interface */
	REASON_NOT_IP,	    /* PASS: neither IPv4 nor IPv6 */
	REASON_RUNT,	    /* PASS: ends inside its IP header, so whose it is cannot be known */
	REASON_NOT_OURS,    /* PASS: no service has this address, port and protocol */
	REASON_MALFORMED,   /* DROP: to a VIP, with lengths that contradict each other */
	REASON_TRUNCATED,   /* DROP: to a VIP, and the frame ends before its headers say */
	REASON_FRAGMENT,    /* DROP: a fragment to a VIP */
	REASON_EXTENSION,   /* DROP: IPv6 extension header to a VIP */
	REASON_NO_BACKEND,  /* DROP: no backend of the pool can take it */
	REASON_TOO_BIG,	    /* DROP: would not fit the tunnel MTU once encapsulated */
	REASON_NO_HEADROOM, /* DROP: the driver left no room for the outer header */
	REASON_INTERNAL,    /* ABORTED: a table contradicts another one; never seen when all is well */
	REASON_COUNT,
};

/* In an entry of `services` also: never used, and no longer used. */
enum family { FAMILY_NONE = 0, FAMILY_LEFT = 1, FAMILY_IPV4 = 4, FAMILY_IPV6 = 6 };

/* IPv4 addresses lie in the first four bytes, the others are 0; `family` keeps the two apart. */
struct service_key {
	__be64 address[2];
	__be16 port;
	__u8 protocol; /* IPPROTO_TCP, IPPROTO_UDP; 0 with port 0: "this address is a VIP" */
	__u8 family;   /* enum family */
	__u32 pad;
};
_Static_assert(sizeof(struct service_key) == 24, "compared as three u64");

/* vip_filter: bit (xor of the address's 32-bit words x VIP_FILTER_FACTOR mod 2^32) >> VIP_FILTER_SHIFT. */
enum vip_filter_limit {
	VIP_FILTER_BITS = 4096,
	VIP_FILTER_SHIFT = 20,
	VIP_FILTER_FACTOR = 0x9e3779,
};

struct service {
	__u16 number;	      /* 0 only in the marker entry of a VIP */
	__u16 pool;	      /* index into pools */
	__u32 counters_start; /* index into counters of this service's slot 0 */
} __attribute__((aligned(8)));
_Static_assert(sizeof(struct service) == 8, "read with one load");

/*
 * Open addressing with linear probing: a key lies at most SERVICE_PROBES entries after the one its hash
 * names (service_slot in service.h), and a search ends at an entry that was never used.
 */
struct service_entry {
	struct service_key key;
	struct service value;
};
_Static_assert(sizeof(struct service_entry) == 32, "two in a cache line");

enum service_limit {
	SERVICE_SLOTS_LOG2 = 15,
	SERVICE_SLOTS = 1 << SERVICE_SLOTS_LOG2,
	SERVICE_PROBES = 16,
};

/* Where a pool's ring lies in ring_rows. Read as one u64, so a packet sees the old ring or the new one. */
struct ring_ref {
	__u32 start; /* first row */
	__u32 rows;  /* 0: no ring */
} __attribute__((aligned(8)));
_Static_assert(sizeof(struct ring_ref) == 8, "read with one load");

/* Backend numbers. previous[] is the row's history while it is in transition, newest first, 0 = none. */
struct ring_row {
	__u16 current;
	__u16 previous[3];
} __attribute__((aligned(8)));
_Static_assert(sizeof(struct ring_row) == 8, "read with one load");

enum backend_flag {
	BACKEND_VALID = 1, /* takes packets: of its flows, and of its rows */
	BACKEND_IPV6 = 2,  /* outer header is IPv6 */
};

/* One cache line. The first MAC and the flags share a u64, so that a new next hop is never half seen. */
struct backend {
	__be64 address[2]; /* as in service_key */
	__u8 next_hop_mac[6];
	__u16 flags; /* enum backend_flag */
	__u8 source_mac[6];
	__u16 slot;	 /* place among the members of its pool, from 1 */
	__u32 interface; /* ifindex towards the next hop */
	__u32 pool;	 /* index into pools */
	__u64 pad[3];
};
_Static_assert(sizeof(struct backend) == 64, "one cache line");

enum flow_limit {
	FLOW_WAYS = 4,	       /* flows a bucket holds: one cache line */
	FLOW_SEEN_SHIFT = 7,   /* `seen` counts 2^7 ticks: half a second at HZ=250; wraps after 9 hours */
	FLOW_STATE_SHIFT = 27, /* packets_state: packets below, two bits of flow_state, FLOW_CARRIED above */
	FLOW_CARRIED =
		1 << 29, /* the cold record holds packets and bytes too; readers need not look otherwise */
	FLOW_BUDGET_WINDOW_SHIFT = 5, /* the new-flow budget is per 2^5 ticks: at HZ=250 128 ms */
	FLOW_BYTES_CARRY = 1U << 31,  /* hot bytes from here on are carried into the cold record */
	FLOW_RECENT = 120, /* seen less than this many units ago (a minute): a new flow does not evict it */
};

enum flow_state {
	FLOW_NEW, /* one packet, or only SYNs */
	FLOW_ESTABLISHED,
	FLOW_CLOSING, /* client's FIN seen */
	FLOW_CLOSED,  /* client's RST seen */
};

/* All that a packet of a known flow touches. */
struct flow_hot {
	__u32 tag; /* of the flow's hash; 0: free */
	__u16 backend;
	__u16 seen;	     /* coarse time of the last packet, see FLOW_SEEN_SHIFT */
	__u32 packets_state; /* packets since the last carry; see FLOW_STATE_SHIFT */
	__u32 bytes;	     /* IP bytes since the last carry */
};
_Static_assert(sizeof(struct flow_hot) == 16, "four in a cache line");

struct flow_bucket {
	struct flow_hot way[FLOW_WAYS];
};
_Static_assert(sizeof(struct flow_bucket) == 64, "one cache line");

/* The rest of a flow: written when it begins, on SYN, FIN, RST, at the end of the handshake, and on a carry.
 */
struct flow_cold {
	__be64 client[2]; /* as in service_key */
	__be16 client_port;
	__be16 vip_port;
	__u16 service; /* number */
	__u8 protocol;
	__u8 family;
	__u64 packets; /* carried from the hot record; a reader adds both */
	__u64 bytes;
	__u64 first_ns;	    /* CLOCK_MONOTONIC of the first packet */
	__u64 handshake_ns; /* TCP: from the SYN to the client's next packet; 0 not yet, ~0 not measured */
	__u64 pad;
};
_Static_assert(sizeof(struct flow_cold) == 64, "one cache line");

/* Traffic of one service to one of its pool's members; per CPU. */
struct counters {
	__u64 packets;
	__u64 bytes;	   /* IP bytes before encapsulation */
	__u64 connections; /* flows begun: TCP by SYN, UDP by first packet */
	__u64 pad;
};

/* New flows of one service on one CPU in the running window; see budget in flow.h. */
struct flow_budget {
	__u32 window;
	__u32 inserted;
};

/* What the flow table did; per CPU. */
struct flow_stats {
	__u64 misses; /* lookups that found nothing */
	__u64 inserts;
	__u64 evictions;   /* inserts that threw out a flow */
	__u64 over_budget; /* not inserted: the service's new-flow budget was used up */
	__u64 bucket_full; /* not inserted: all four ways held recent established flows */
};

/* Nobody reads this: it brings the enums above into the object's BTF. */
struct abi_anchor {
	enum abi *abi;
	enum reason *reason;
	enum family *family;
	enum backend_flag *backend_flag;
	enum vip_filter_limit *vip_filter_limit;
	enum service_limit *service_limit;
	enum flow_limit *flow_limit;
	enum flow_state *flow_state;
};

#endif
