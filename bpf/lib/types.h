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
enum abi { ABI_VERSION = 3 };

/* Why a packet went where it went: each packet ends in exactly one. The action follows from it. */
enum reason {
	REASON_FORWARDED,	 /* TX: to a backend, out of the interface it came in by */
	REASON_REDIRECTED,	 /* REDIRECT: to a backend, out of another interface */
	REASON_SPLIT,		 /* REDIRECT: to a backend, as two IPv4 fragments */
	REASON_ECHO_ANSWERED,	 /* TX: an echo request to a VIP, turned into its reply */
	REASON_TOO_BIG_ANSWERED, /* TX: would not fit the tunnel, its sender is told what would */
	REASON_NOT_IP,		 /* PASS: neither IPv4 nor IPv6 */
	REASON_RUNT,		 /* PASS: ends inside its IP header, so whose it is cannot be known */
	REASON_NOT_OURS,	 /* PASS: no service has this address, port and protocol */
	REASON_MALFORMED,	 /* DROP: to a VIP, with lengths that contradict each other */
	REASON_TRUNCATED,	 /* DROP: to a VIP, and the frame ends before its headers say */
	REASON_FRAGMENT,	 /* DROP: a fragment whose datagram's backend cannot be known */
	REASON_EXTENSION, /* DROP: more IPv6 extension headers than are looked through, or a route to go on */
	REASON_NO_BACKEND,   /* DROP: no backend of the pool can take it */
	REASON_TOO_BIG,	     /* DROP: would not fit the tunnel, and this cannot be answered now */
	REASON_NO_HEADROOM,  /* DROP: the driver left no room for the outer header */
	REASON_ICMP_LIMITED, /* DROP: more ICMP than is answered or carried */
	REASON_ICMP_UNKNOWN, /* DROP: an ICMP error that quotes no flow of ours */
	REASON_DENIED,	     /* DROP: its source is on the service's deny list */
	REASON_NOT_ALLOWED,  /* DROP: the service has an allow list, and its source is not on it */
	REASON_RATE_LIMITED, /* DROP: its source sends more than the service allows */
	REASON_INTERNAL,     /* ABORTED: a table contradicts another one; never seen when all is well */
	REASON_NAT,	     /* PASS: to a service that tc_nat translates for, and let in by its guards */
	REASON_COUNT,
};

/* UDP port of GUE on the backends (IANA). */
enum gue { GUE_PORT = 6080 };

/* What happened to a packet beside its reason; by service, see `tallies`. A packet may have several or none.
 */
enum tally {
	TALLY_ICMP_ERROR,     /* an ICMP error about a flow of ours: for that flow's backend */
	TALLY_FRAGMENT,	      /* a fragment after the first, sent after it */
	TALLY_FRAGMENT_EARLY, /* one that came before the first: a backend was chosen without ports */
	TALLY_QUIC_ROUTED,    /* sent to the server its connection ID names */
	TALLY_QUIC_INITIAL,   /* Initial or 0-RTT: the connection ID is the client's, the flow decides */
	TALLY_QUIC_UNKNOWN,   /* a connection ID that names no server which can take it: the flow decides */
	TALLY_COUNT,
};

/* In an entry of `services` also: never used, and no longer used. */
enum family { FAMILY_NONE = 0, FAMILY_LEFT = 1, FAMILY_IPV4 = 4, FAMILY_IPV6 = 6 };

/* KEY_FRAGMENTS, with port 0: the one service a VIP has for this protocol, for fragments that come early. */
enum key_kind { KEY_SERVICE = 0, KEY_FRAGMENTS = 1 };

/* IPv4 addresses lie in the first four bytes, the others are 0; `family` keeps the two apart. */
struct service_key {
	__be64 address[2];
	__be16 port;   /* 0: every port without a service of its own */
	__u8 protocol; /* IPPROTO_TCP, IPPROTO_UDP; 0 with port 0: "this address is a VIP" */
	__u8 family;   /* enum family */
	__u32 kind;    /* enum key_kind */
};
_Static_assert(sizeof(struct service_key) == 24, "compared as three u64");

/* vip_filter: bit (xor of the address's 32-bit words x VIP_FILTER_FACTOR mod 2^32) >> VIP_FILTER_SHIFT. */
enum vip_filter_limit {
	VIP_FILTER_BITS = 4096,
	VIP_FILTER_SHIFT = 20,
	VIP_FILTER_FACTOR = 0x9e3779,
};

/*
 * What a service wants beyond IP in IP of a flow's packets. `features` in config.h has the same bits: what no
 * service of the node wants is not in the loaded program.
 */
enum service_flag {
	SERVICE_GUE = 1,	/* outer header: UDP (GUE variant 1) */
	SERVICE_L2 = 2,		/* no outer header: the backend's MAC */
	SERVICE_SOURCE = 4,	/* the ring goes by the client's prefix */
	SERVICE_QUIC = 8,	/* QUIC connection IDs that name a server decide */
	SERVICE_STATELESS = 16, /* no flow memory: the ring alone */
	SERVICE_ALLOW = 32,	/* only sources on its allow list */
	SERVICE_DENY = 64,	/* no sources on its deny list */
	SERVICE_RATE = 128,	/* packets per source are limited */
	SERVICE_NAT = 256,	/* not forwarded by XDP: tc_nat translates addresses */
};

struct service {
	__u16 number;	      /* 0 only in the marker entry of a VIP */
	__u16 pool;	      /* index into pools */
	__u16 counters_start; /* index into counters of this service's slot 0 */
	__u16 flags;	      /* enum service_flag */
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

/*
 * Where a pool's ring lies in ring_rows. Place and size are read as one u64, so a packet sees the old ring or
 * the new one. The rest is for people and other nodes.
 */
struct ring_ref {
	__u32 start;	  /* first row */
	__u32 rows;	  /* 0: no ring */
	__u32 generation; /* of the pool's members that these rows come from */
	__u32 pad;
} __attribute__((aligned(8)));
_Static_assert(sizeof(struct ring_ref) == 16, "an array of u64 pairs");

/* Backend numbers, read as one u64. previous[]: the row's owners before, newest first, 0 = none; it is in
 * transition while there is one. */
struct ring_row {
	__u16 current;
	__u16 previous[3];
} __attribute__((aligned(8)));
_Static_assert(sizeof(struct ring_row) == 8, "read with one load");

enum backend_flag {
	BACKEND_VALID = 1,   /* takes packets: of its flows, and of its rows */
	BACKEND_IPV6 = 2,    /* outer header is IPv6 */
	BACKEND_ON_LINK = 4, /* the next hop is the backend itself: L2 forwarding can reach it */
	BACKEND_DOWN = 8,    /* by its checks: what begins goes elsewhere, connections in their middle stay */
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
	__u16 mtu;	 /* of the way to the next hop: IP bytes */
	__u16 tag_count; /* VLAN tags the frame leaves with, at most 2 */
	__be32 tag[2];	 /* outer one first: type and TCI as on the wire */
	__be16 port;	 /* SERVICE_NAT: instead of the service's; 0: the same */
	__u16 pad;
	__u64 pad2;
};
_Static_assert(sizeof(struct backend) == 64, "one cache line");

enum flow_limit {
	FLOW_WAYS = 4,	       /* flows a bucket holds: one cache line */
	FLOW_SEEN_SHIFT = 7,   /* `seen` counts 2^7 ticks: half a second at HZ=250; wraps after 9 hours */
	FLOW_STATE_SHIFT = 27, /* packets_state: packets below, two bits of flow_state, FLOW_CARRIED above */
	FLOW_CARRIED =
		1 << 29, /* the cold record holds packets and bytes too; readers need not look otherwise */
	FLOW_UNSURE = 1 << 30,	     /* the backend is a guess: flow_cold.row says who else it may be */
	FLOW_BYTES_CARRY = 1U << 31, /* hot bytes from here on are carried into the cold record */
	FLOW_RECENT = 120, /* seen less than this many units ago (a minute): a new flow does not evict it */
};

enum budget_limit { BUDGET_WINDOW_SHIFT = 5 }; /* budgets are per 2^5 ticks: at HZ=250 128 ms */

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
	__u64 row;	    /* FLOW_UNSURE: struct ring_row as it was found */
};
_Static_assert(sizeof(struct flow_cold) == 64, "one cache line");

/* Traffic of one service to one of its pool's members; per CPU. */
struct counters {
	__u64 packets;
	__u64 bytes;	   /* IP bytes before encapsulation */
	__u64 connections; /* flows begun: TCP by SYN, UDP by first packet */
	__u64 pad;
};

/* What was done on one CPU in the running window of 2^BUDGET_WINDOW_SHIFT ticks; see budget.h. */
struct budget {
	__u32 window;
	__u32 used;
};

/* ICMP that is answered or carried, each with a budget of its own. */
enum icmp_kind { ICMP_ECHO_ANSWER, ICMP_ERROR, ICMP_TOO_BIG, ICMP_KINDS };

/* Rarely wanted settings of a service, by its number. */
struct service_options {
	__be64 source_mask[2];	/* SERVICE_SOURCE: the client's bits that count; as in service_key */
	__u64 rate_interval_ns; /* SERVICE_RATE: one packet per this time and source */
	__u64 rate_burst_ns;	/* SERVICE_RATE: so much of it may be saved up */
	__u32 nat_mtu;		/* SERVICE_NAT: IP bytes that fit the ways to all its backends */
	__u32 pad;
};

/* A source prefix on a service's list. The list's 32 bits come first and always count in prefix_size. */
struct source4_key {
	__u32 prefix_size; /* 32 + bits of the prefix */
	__u32 list;	   /* service number x 2, + 1: its deny list */
	__be32 address;
};

struct source6_key {
	__u32 prefix_size;
	__u32 list;
	__u8 address[16];
};

/* A source of a service with a rate limit. The value is the time, CLOCK_MONOTONIC ns, its saved packets are
 * used up to. */
struct rate_key {
	__be64 from[2]; /* as in service_key */
	__u32 service;	/* number */
	__u32 pad;
};

enum quic_limit { QUIC_CONFIGS = 7, QUIC_ID_MAX = 15 };

/* Server IDs of a pool (draft-ietf-quic-load-balancers): their length by config rotation codepoint, 0: not
 * used. */
struct quic_lengths {
	__u8 length[8];
} __attribute__((aligned(8)));

struct quic_key {
	__u16 pool;
	__u8 config;
	__u8 length;
	__u32 pad;
	__u8 id[16]; /* zeros after `length` */
};

enum fragment_kind {
	FRAGMENT_DATAGRAM, /* where the fragments of one datagram go */
	FRAGMENT_PAIR,	   /* where those of the last datagram between these addresses went */
};

struct fragment_key {
	__be64 from[2]; /* as in service_key */
	__be64 to[2];
	__u32 id; /* as on the wire; 0 with FRAGMENT_PAIR */
	__u8 protocol;
	__u8 family;
	__u8 kind; /* enum fragment_kind */
	__u8 pad;
};

enum fragment_limit { FRAGMENT_LIFE_TICKS_SHIFT = 9 }; /* at HZ=250: 2 s */

/* What one packet needs and the stack has no room for. */
enum scratch_use { SCRATCH_SUM, SCRATCH_ERRAND, SCRATCH_QUOTED, SCRATCH_USES };

struct scratch {
	__u8 bytes[512];
} __attribute__((aligned(8)));

struct fragment {
	struct service service;
	__u16 backend; /* number */
	__u16 early;   /* 1: chosen without the first fragment, which is to follow */
	__u32 ticks;   /* low half of the time it was written */
};

/* Packets split on one CPU: numbers that tell their copies apart. */
struct split_turns {
	__u32 given; /* to the last packet that was split */
	__u32 seen;  /* on the last copy: the next one with the same is the second */
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
	enum tally *tally;
	enum key_kind *key_kind;
	enum service_flag *service_flag;
	enum icmp_kind *icmp_kind;
	enum quic_limit *quic_limit;
	enum fragment_kind *fragment_kind;
	enum fragment_limit *fragment_limit;
	enum budget_limit *budget_limit;
	enum family *family;
	enum backend_flag *backend_flag;
	enum vip_filter_limit *vip_filter_limit;
	enum service_limit *service_limit;
	enum flow_limit *flow_limit;
	enum flow_state *flow_state;
};

#endif
