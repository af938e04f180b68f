/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* To a backend: does it fit, how is it wrapped, which way does it leave, and who is it counted for. */
#ifndef FAIRLEAD_SEND_H
#define FAIRLEAD_SEND_H

#include "encap.h"
#include "exit.h"
#include "reply.h"

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

/* RFC 1122, 3.2.2: errors are not answered with errors. */
static __always_inline bool is_icmp(const struct packet *pkt)
{
	return pkt->to.protocol == IPPROTO_ICMP || pkt->to.protocol == IPPROTO_ICMPV6;
}

/* `entropy` is the same for all packets of a flow; `begins` counts a connection. */
static __always_inline int send(struct xdp_md *ctx, const struct packet *pkt, const struct service *service,
				const struct backend *to, __u32 entropy, bool begins)
{
	__u32 flags = flags_of(service);
	__u32 outer = outer_size(flags, to);
	__u32 limit = to->mtu;
	enum reason reason;

	if (!(flags & SERVICE_L2) && limit > tunnel_mtu)
		limit = tunnel_mtu;
	if (pkt->size + outer > limit)
		return pkt->fragment_offset || is_icmp(pkt) ? finish(REASON_TOO_BIG, service->number, 0) :
							      too_big(ctx, service->number, limit - outer);
	reason = encap(ctx, pkt, to, flags, entropy);
	if (reason != REASON_FORWARDED)
		return finish(reason, service->number, 0);
	count_traffic(service, to, pkt->size, begins);
	if (to->interface != ctx->ingress_ifindex)
		reason = REASON_REDIRECTED;
	return finish(reason, service->number, to->interface);
}

/* The same for packets that are not worth a copy of it all. */
struct errand {
	struct packet pkt;
	struct service service;
	const struct backend *to;
	__u32 entropy;
	bool begins;
};

__attribute__((unused)) static __noinline int send_unusual(struct xdp_md *ctx, struct errand *errand)
{
	return send(ctx, &errand->pkt, &errand->service, errand->to, errand->entropy, errand->begins);
}

#endif
