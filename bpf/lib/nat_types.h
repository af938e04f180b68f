/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What tc_nat shares with user space, beside types.h and maps.h. */
#ifndef FAIRLEAD_NAT_TYPES_H
#define FAIRLEAD_NAT_TYPES_H

#include "maps.h"

/* As in types.h, for the tables of NAT. */
enum nat_abi { NAT_ABI_VERSION = 2 };

enum nat_limit {
	NAT_SLOTS = 16,	      /* of an index bucket: a cache line */
	NAT_AWAY = 15,	      /* the one that counts */
	NAT_POOLS = 256,      /* of addresses to translate sources to; 0: of connection ids, see nat_ring */
	NAT_POOL_SIZE = 16,   /* addresses of a pool */
	NAT_MSS_AUTO = 65535, /* as an MSS: what fits the ways to both ends; an MSS is at most 65495 */
};

/* Directions of a connection. */
enum nat_way { NAT_REQUEST, NAT_REPLY };

enum nat_state {
	NAT_FREE,	 /* no connection */
	NAT_NEW,	 /* requests only, TCP: SYNs */
	NAT_ESTABLISHED, /* answered; TCP: and that was acknowledged */
	NAT_CLOSING,	 /* TCP: FIN from one side */
	NAT_CLOSED,	 /* TCP: RST, or FIN from both */
	NAT_GONE,	 /* out of the index; free when no packet can be at it any more */
	NAT_STATES,
};

/*
 * Where a connection is, by the tag of its tuple in either direction. A tuple has three buckets, and in each
 * a slot where the search for it begins, by its hash. The first is one of few, which lie in the caches and
 * take nearly all there is when the table is far from full; the others are for what does not fit there. A
 * slot is connection << 1 | way, and above that as much of the tag as there is room for, so that it is
 * written and taken by compare-and-swap; 0: free. The last one counts the tuples that are in a later bucket
 * of theirs: at 0 the search is over.
 */
struct nat_bucket {
	__u32 slot[NAT_SLOTS];
};
_Static_assert(sizeof(struct nat_bucket) == 64, "one cache line");

/*
 * What each packet of a connection wants, in one cache line; the rest is in nat_details. Of an egress
 * connection, which has no service, `backend_*` is the remote end.
 */
struct nat_connection {
	__be16 client_port;
	__be16 vip_port;
	__be16 backend_port;
	__be16 source_port; /* what the client's port is to the backend */
	__be32 client4;	    /* where it is an IPv4 address, as the next two; all are in nat_details */
	__be32 backend4;
	__be32 source4;
	__u16 service; /* number; 0: egress */
	__u16 backend; /* number; 0: egress */
	__u8 protocol;
	__u8 client_family;
	__u8 backend_family;
	__u8 state;	  /* enum nat_state */
	__u32 seen;	  /* ticks, low half, of the last packet */
	__u64 bytes[2];	  /* IP bytes by enum nat_way, as they came */
	__u32 packets[2]; /* by enum nat_way, low halves */
	__u32 router; /* of `interface` and the MACs in nat_details: a digest, never 0 once they are there */
	__u32 id;
};
_Static_assert(sizeof(struct nat_connection) == 64, "one cache line");

/* By the connection's id. In its first cache line what replies want, and all packets of IPv6. */
struct nat_detail {
	__u32 interface;    /* where requests come from: replies leave there */
	__u8 router_mac[6]; /* of requests' sender */
	__u8 own_mac[6];
	__be64 client[2]; /* as in service_key */
	__be64 backend_address[2];
	__be64 source[2];      /* what the client's address is to the backend */
	__u32 begun;	       /* ticks, low half */
	__u32 handshake_us[2]; /* TCP: SYN to SYN-ACK, SYN-ACK to ACK; 0: not seen */
	__u16 packets_high[2];
	__u16 pool;	   /* that source and source_port are from, 0: they are the client's own */
	__u8 pool_address; /* which of its addresses */
	__u8 fins;	   /* 1 << enum nat_way */
	__u32 pad;
};
_Static_assert(sizeof(struct nat_detail) == 88, "no padding");

struct nat_service {
	__be64 address[2]; /* the VIP, as in service_key */
	__u16 pool;	   /* sources are translated to it; 0: they stay */
	__u16 mss;	   /* the most that SYNs may ask for; 0: what they like; or NAT_MSS_AUTO */
	__u16 pool_other;  /* the pool for backends of the other family; 0: IPv4 sources are embedded, see
			      nat_prefix */
	__u16 gone;	   /* 1: deleted; its connections end, see nat_forget */
} __attribute__((aligned(8)));

/*
 * A queue of u32 in nat_ring: `mask` + 1 entries from `start` on, a power of two. Taken by compare-and-swap
 * of `head`, put back by the sweep alone. Pool 0 holds ids of connections that have been used; others address
 * << 16 | port.
 */
struct nat_pool {
	__u64 head;
	__u64 tail;
	__u32 start;
	__u32 mask;
	__be64 address[NAT_POOL_SIZE][2]; /* as in service_key */
};

/* One entry. */
struct nat_counts {
	__u32 used;	/* connections from 0 on that have ever been one */
	__u32 swept;	/* where the sweep goes on */
	__u32 sweeping; /* 1: a sweep is at work */
	__u32 freed;	/* connections that have ended */
};

/* Private sources. The value: the number of their pool, and above its 16 bits an MSS as in nat_service. */
struct nat_prefix4 {
	__u32 prefix_size;
	__be32 address;
};

struct nat_prefix6 {
	__u32 prefix_size;
	__u8 address[16];
};

/* Which connection the fragments of a datagram belong to. */
struct nat_fragment {
	__u32 id;
	__u32 way; /* enum nat_way */
	__u32 ticks;
	__u32 pad;
};

/* NAT's own, beside enum reason; by service (0: egress), in nat_outcomes. */
enum nat_outcome {
	NAT_OUTCOME_FORWARDED,	/* to a backend, or to the remote end */
	NAT_OUTCOME_RETURNED,	/* a reply, to the client */
	NAT_OUTCOME_BEGUN,	/* connections; their first packets are forwarded, too */
	NAT_OUTCOME_FULL,	/* DROP: no room for another connection */
	NAT_OUTCOME_PORTS,	/* DROP: the pool has no port left */
	NAT_OUTCOME_BUDGET,	/* DROP: the service's new-flow budget is used up */
	NAT_OUTCOME_UNKNOWN,	/* DROP: to a VIP, of no connection, and begins none */
	NAT_OUTCOME_NO_BACKEND, /* DROP: no backend of the pool can take it */
	NAT_OUTCOME_TOO_BIG, /* DROP: would not fit its way; the sender was told what would, if it could be */
	NAT_OUTCOME_MALFORMED, /* DROP: to a VIP, with lengths that contradict each other */
	/* DROP: between families: options, fragments of UDP without a checksum, errors without a counterpart,
	 * or no pool for the source. */
	NAT_OUTCOME_UNTRANSLATABLE,
	NAT_OUTCOME_ERROR, /* an ICMP error about a connection, on its way */
	NAT_OUTCOME_COUNT,
};

#endif
