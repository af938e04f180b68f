// SPDX-License-Identifier: Apache-2.0
import { parseAddress, whyNotUnicast } from './address.js';
import { type Draft, defineFormat, type Reading, reader, Type } from './check.js';
import type { FieldError } from './errors.js';
import { HealthCheckBody } from './health-schema.js';
import { type Backend, HOLD_SECONDS, MSS_MAX, MSS_MIN, type Pool, type RateLimit, type Service } from './objects.js';
import { canonicalPrefixes } from './prefix.js';

defineFormat('unicast-address', whyNotUnicast);
defineFormat('utc-time', (text) =>
  /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,3})?Z$/.test(text) && !Number.isNaN(Date.parse(text))
    ? null
    : `"${text.slice(0, 40)}" is not a time in UTC such as 2026-11-29T08:00:00Z (RFC 3339)`,
);

// Not strict about what follows: only what works today is here, anything else is refused as unknown.
const closed = { additionalProperties: false };

/** What a name looks like: a label that is safe in a path, a metric label and a file name. */
export const Name = Type.String({
  pattern: '^[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?$',
  description: 'a name: 1 to 63 of a-z 0-9 . _ -, a letter or digit first and last',
});

const AddressText = Type.String({ format: 'unicast-address', description: 'an IPv4 or IPv6 unicast address' });

const RATE_MAX = 10_000_000;
/** Addresses of one pool (NAT_POOL_SIZE). */
const SNAT_MAX = 16;

const PREFIXES_MAX = 100_000;
/** Nobody reads more. */
const PROBLEMS_MAX = 200;

// What each of them says is checked by readService, which needs it in numbers anyway.
const prefixes = (description: string) =>
  Type.Array(Type.String({ description: 'an address, or a prefix such as 10.0.0.0/8' }), {
    maxItems: PREFIXES_MAX,
    description,
  });

const Time = Type.String({ format: 'utc-time', description: 'a time such as 2026-11-29T08:00:00Z' });

/** Body of the drain verb. */
export const DrainBody = Type.Object(
  {
    deadlineSeconds: Type.Optional(
      Type.Integer({
        minimum: 1,
        maximum: 604800,
        description: 'after so long the flows that are left are cut off; without it they may take their time',
      }),
    ),
  },
  closed,
);

/** Body of a backend. `name` may be left out where the path says it. */
export const BackendBody = Type.Object(
  {
    name: Name,
    address: AddressText,
    port: Type.Optional(
      Type.Integer({
        minimum: 1,
        maximum: 65535,
        description: "with forwarding nat: where it listens; the service's port when left out",
      }),
    ),
    weight: Type.Optional(Type.Integer({ minimum: 0, maximum: 256, default: 100, description: '0 takes no new flow' })),
    state: Type.Optional(Type.Enum(['active', 'drain', 'disabled'], { default: 'active' })),
    drain: Type.Optional(
      Type.Object(
        { since: Time, deadline: Type.Optional(Time) },
        { ...closed, description: 'while the state is drain: since when, and when its last flows are cut off' },
      ),
    ),
    serverIds: Type.Optional(
      Type.Array(
        Type.Object(
          {
            config: Type.Integer({ minimum: 0, maximum: 6, description: 'config rotation codepoint' }),
            id: Type.String({
              pattern: '^([0-9a-f]{2}){1,15}$',
              description: 'a server ID: 1 to 15 bytes in lower-case hex',
            }),
          },
          closed,
        ),
        { maxItems: 7, description: 'QUIC-LB server IDs, one for each config in use' },
      ),
    ),
  },
  closed,
);

/** Body of a pool. `ring.size` 0 means chosen from the number of backends; else a prime. */
export const PoolBody = Type.Object(
  {
    name: Name,
    backends: Type.Optional(Type.Array(BackendBody, { default: [] })),
    ring: Type.Optional(
      Type.Object(
        { size: Type.Optional(Type.Integer({ minimum: 0, maximum: 131071, default: 0 })) },
        { ...closed, default: {} },
      ),
    ),
    holdSeconds: Type.Optional(
      Type.Integer({
        minimum: 0,
        maximum: 86400,
        description: `how long rows keep the owner they were taken from; ${HOLD_SECONDS} when left out`,
      }),
    ),
    healthCheck: Type.Optional(HealthCheckBody),
    whenAllDown: Type.Optional(
      Type.Enum(['open', 'closed'], {
        description:
          'when more than half of the backends are down: open keeps all in force, closed takes them out; open when left out',
      }),
    ),
  },
  closed,
);

/** Body of a service. */
export const ServiceBody = Type.Object(
  {
    name: Name,
    address: AddressText,
    port: Type.Integer({ minimum: 0, maximum: 65535, description: '0: every port without a service of its own' }),
    protocol: Type.Enum(['tcp', 'udp']),
    pool: Name,
    forwarding: Type.Optional(Type.Enum(['ipip', 'gue', 'l2', 'nat'], { default: 'ipip' })),
    affinity: Type.Optional(Type.Enum(['flow', 'source', 'quic-cid'], { default: 'flow' })),
    affinityPrefix: Type.Optional(
      Type.Object(
        {
          ipv4: Type.Optional(Type.Integer({ minimum: 1, maximum: 32, default: 32 })),
          ipv6: Type.Optional(Type.Integer({ minimum: 1, maximum: 128, default: 128 })),
        },
        { ...closed, description: "with affinity source: bits of the client's address that count" },
      ),
    ),
    flowMemory: Type.Optional(
      Type.Boolean({ description: 'true when left out; false: no flow is remembered, the ring alone decides' }),
    ),
    allow: Type.Optional(prefixes('the only sources that may send')),
    deny: Type.Optional(prefixes('sources that may not send')),
    rateLimit: Type.Optional(
      Type.Object(
        {
          packetsPerSecond: Type.Integer({ minimum: 1, maximum: RATE_MAX }),
          burst: Type.Optional(
            Type.Integer({ minimum: 1, maximum: RATE_MAX, description: 'packetsPerSecond when left out' }),
          ),
        },
        { ...closed, description: 'per source address' },
      ),
    ),
    snat: Type.Optional(
      Type.Union([Type.Enum(['none', 'auto']), Type.Array(AddressText, { minItems: 1, maxItems: SNAT_MAX })], {
        description: `"none", "auto" or 1 to ${SNAT_MAX} addresses`,
      }),
    ),
    mss: Type.Optional(
      Type.Union([Type.Enum(['auto']), Type.Integer({ minimum: MSS_MIN, maximum: MSS_MAX })], {
        description: `"auto" or ${MSS_MIN} to ${MSS_MAX} bytes`,
      }),
    ),
  },
  closed,
);

const checkService = reader<Service>(ServiceBody);
const checkPool = reader<Pool>(PoolBody);
const checkBackend = reader<Backend>(BackendBody);

/** Reads a service document: defaults filled in, address canonical, every wrong field named. */
export function readService(input: unknown): Reading<Service> {
  const { draft, fields } = checkService(input);
  const { rateLimit, allow, deny, snat, ...rest } = canonical(draft);
  const wrong: FieldError[] = [];
  const prefixesOf = (field: string, list: readonly (string | undefined)[]) =>
    canonicalPrefixes(list, (at, detail) => wrong.push({ pointer: `/${field}/${at}`, detail }) < PROBLEMS_MAX);
  return {
    draft: {
      ...rest,
      ...(allow && { allow: prefixesOf('allow', allow) }),
      ...(deny && { deny: prefixesOf('deny', deny) }),
      ...(rateLimit && { rateLimit: withBurst(rateLimit) }),
      ...(snat && {
        snat: typeof snat === 'string' ? snat : snat.flatMap((each) => (each ? parseAddress(each).text : [])),
      }),
    },
    fields: [...fields, ...wrong],
  };
}

/** Reads a pool document; the backends stay in the order of the document, so that pointers stay true. */
export function readPool(input: unknown): Reading<Pool> {
  const { draft, fields } = checkPool(input);
  const backends = draft.backends?.map((each) => each && canonical(each));
  return { draft: backends === undefined ? draft : { ...draft, backends }, fields };
}

/** Reads the body of the drain verb. */
export const readDrain = reader<{ readonly deadlineSeconds?: number }>(DrainBody);

/** Reads a backend document. */
export function readBackend(input: unknown): Reading<Backend> {
  const { draft, fields } = checkBackend(input);
  return { draft: canonical(draft), fields };
}

function withBurst({ packetsPerSecond, burst = packetsPerSecond }: Draft<RateLimit>): Draft<RateLimit> {
  return { ...(packetsPerSecond && { packetsPerSecond }), ...(burst && { burst }) };
}

function canonical<T extends Draft<Service> | Draft<Backend>>(draft: T): T {
  return draft.address === undefined ? draft : { ...draft, address: parseAddress(draft.address).text };
}
