/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* To a backend: does it fit, how is it wrapped, which way does it leave, and who is it counted for. */
#ifndef FAIRLEAD_SEND_H
#define FAIRLEAD_SEND_H

#include "encap.h"
#include "exit.h"
#include "reply.h"
#include "split.h"

/* What the service wants of what this program has. */
static __always_inline __u32 flags_of(const struct service *service)
{
	return service->flags & features;
}

/* The backend with this number if it takes packets of the service. */
static __always_inline struct backend *backend_of(const struct service *service, __u32 number)
{
	struct backend *backend = bpf_map_lookup_elem(&backends, &number);

	if (!backend || !(backend->flags & BACKEND_VALID))
		return NULL;
	if (flags_of(service) & SERVICE_L2 && !(backend->flags & BACKEND_ON_LINK))
		return NULL;
	return backend;
}

static __always_inline void count_traffic(const struct service *service, const struct backend *to, __u32 size,
					  bool begins)
{
	/* A flow may outlive its backend's membership: slot 0 counts those, so nobody else is credited. */
	__u32 index = service->counters_start + (to->pool == service->pool ? to->slot : 0);
	struct counters *count = bpf_map_lookup_elem(&counters, &index);

	if (!count)
		return;
	count->packets++;
	count->bytes += size;
	count->connections += begins;
}

/* `number` is that of `to`; `entropy` is the same for all packets of a flow; `begins` counts a connection. */
static __always_inline int send(struct xdp_md *ctx, const struct packet *pkt, const struct service *service,
				const struct backend *to, __u32 number, __u32 entropy, bool begins)
{
	__u32 flags = flags_of(service);
	__u32 outer = outer_size(flags, to);
	__u32 limit = to->mtu;
	enum reason reason;

	if (!(flags & SERVICE_L2) && limit > tunnel_mtu)
		limit = tunnel_mtu;
	if (pkt->size + outer > limit) {
		if (pkt->to.family == FAMILY_IPV4 && to->interface == ctx->ingress_ifindex &&
		    split(ctx, limit - outer, number, flags, entropy)) {
			count_traffic(service, to, pkt->size, begins);
			return finish(REASON_SPLIT, service->number, 0);
		}
		return pkt->fragment_offset || is_icmp(pkt) ? finish(REASON_TOO_BIG, service->number, 0)
							    : too_big(ctx, service->number, limit - outer);
	}
	reason = encap(ctx, pkt, to, flags, entropy);
	if (reason != REASON_FORWARDED)
		return finish(reason, service->number, 0);
	count_traffic(service, to, pkt->size, begins);
	if (to->interface != ctx->ingress_ifindex)
		reason = REASON_REDIRECTED;
	return finish(reason, service->number, to->interface);
}

/* An unusual packet on its way: not on the stack, where a few functions deep is no room for it. */
struct errand {
	struct packet pkt;
	struct service service;
	__u32 number; /* the backend's */
	__u32 entropy;
	__u64 row; /* the backend is a guess from it, or 0 */
	bool begins;
};
_Static_assert(sizeof(struct errand) <= sizeof(struct scratch), "lies in it");

/* What a function says, beside actions, that leaves this packet's errand to its caller: the stack is not
 * deep. */
#define ERRAND_READY (-1)    /* to be sent */
#define ERRAND_BALANCE (-2)  /* to be given a backend */
#define ERRAND_UNCOMMON (-3) /* to be parsed again in full */

static __always_inline void *scratch(enum scratch_use what)
{
	__u32 use = what;

	return bpf_map_lookup_elem(&scratches, &use);
}

/* send() where its speed does not matter: one copy of it, verified once. */
__noinline int send_errand(struct xdp_md *ctx)
{
	struct errand *errand = scratch(SCRATCH_ERRAND);

	if (!errand)
		return finish(REASON_INTERNAL, 0, 0);

	struct backend *to = backend_of(&errand->service, errand->number);

	if (!to)
		return finish(REASON_NO_BACKEND, errand->service.number, 0);
	return send(ctx, &errand->pkt, &errand->service, to, errand->number, errand->entropy, errand->begins);
}

/* Of every way (RFC 8200, 5), and of those where an IPv6 header is to be longer. */
#define NAT_ALWAYS_FITS 1260

/*
 * To tc_nat, or back to its sender: here it is still the packet that came, and not one of several that GRO
 * has made one of.
 */
static __always_inline int leave_to_nat(struct xdp_md *ctx, const struct packet *pkt, __u32 service)
{
	struct service_options *options = bpf_map_lookup_elem(&service_options, &service);

	if (options && options->nat_mtu && pkt->size > options->nat_mtu && !pkt->fragment)
		return too_big(ctx, service, options->nat_mtu);
	return finish(REASON_NAT, service, 0);
}

#endif
