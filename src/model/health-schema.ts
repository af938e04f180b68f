// SPDX-License-Identifier: Apache-2.0
import { type Draft, Type } from './check.js';
import type { FieldError } from './errors.js';
import type { HealthCheck } from './objects.js';

const closed = { additionalProperties: false };
const seconds = (minimum: number, maximum: number, description: string, preset?: number) =>
  Type.Number({ minimum, maximum, description, ...(preset !== undefined && { default: preset }) });
const count = (description: string, preset: number) =>
  Type.Integer({ minimum: 1, maximum: 100, description, default: preset });
const bytes = (description: string) =>
  Type.String({ pattern: '^(hex:([0-9a-fA-F]{2})*|(?!hex:)[^]{0,1024})$', description, maxLength: 2052 });

/** `healthCheck` of a pool. */
export const HealthCheckBody = Type.Object(
  {
    type: Type.Enum(['tcp', 'http', 'https', 'udp', 'grpc']),
    port: Type.Optional(
      Type.Integer({
        minimum: 1,
        maximum: 65535,
        description: "the backend's port, else that of a service of the pool, when left out",
      }),
    ),
    interval: Type.Optional(seconds(0.1, 3600, 'seconds between two checks of a backend', 2)),
    timeout: Type.Optional(seconds(0.05, 60, 'seconds a check may take; half the interval, at most 1, when left out')),
    rise: Type.Optional(count('checks in a row that bring a backend back', 2)),
    fall: Type.Optional(count('checks in a row that take a backend out', 3)),
    via: Type.Optional(
      Type.Enum(['direct', 'tunnel'], {
        default: 'direct',
        description: "direct: to the backend's own address; tunnel: to a service's, the way its packets take",
      }),
    ),
    slowStart: Type.Optional(
      seconds(0, 3600, 'seconds until a backend that came back has its full weight; 0: at once', 10),
    ),
    path: Type.Optional(
      Type.String({
        pattern: '^/[\\x21-\\x7e]{0,1023}$',
        description: 'a path such as /healthz: printable ASCII, / first; / when left out',
      }),
    ),
    host: Type.Optional(
      Type.String({
        pattern: '^[A-Za-z0-9._:[\\]-]{1,255}$',
        description: 'a host name, with a port if wanted: sent as Host, and as server name',
      }),
    ),
    expect: Type.Optional(
      Type.Array(Type.Integer({ minimum: 100, maximum: 599 }), {
        minItems: 1,
        maxItems: 100,
        description: 'status codes that are well; 200 to 399 when left out',
      }),
    ),
    verify: Type.Optional(Type.Boolean({ description: 'whether the certificate has to be good for host' })),
    send: Type.Optional(bytes('what is sent: text, or hex: and digits in pairs')),
    receive: Type.Optional(bytes('what the answer has to begin with: text, or hex: and digits in pairs')),
    service: Type.Optional(Type.String({ maxLength: 255, description: 'the service that is asked for' })),
  },
  { ...closed, description: 'how the backends are looked after' },
);

/** Fields that only some types have. */
const OWN: Readonly<Record<string, readonly string[]>> = {
  path: ['http', 'https'],
  host: ['http', 'https', 'grpc'],
  expect: ['http', 'https'],
  verify: ['https'],
  send: ['udp'],
  receive: ['udp'],
  service: ['grpc'],
};

/** Seconds a check may take. */
export const timeoutOf = ({ timeout, interval }: { readonly timeout?: number; readonly interval: number }): number =>
  timeout ?? Math.min(1, interval / 2);

/** What of a health check does not go together; pointers are into the pool. */
export function healthCheckProblems(draft: Draft<HealthCheck>): FieldError[] {
  const { type, interval, timeout } = draft;
  const found: FieldError[] = [];
  for (const [field, types] of Object.entries(OWN)) {
    if (type === undefined || !(field in draft) || types.includes(type)) continue;
    found.push({ pointer: `/healthCheck/${field}`, detail: `is for type ${types.join(' or ')}, this is "${type}"` });
  }
  if (timeout !== undefined && interval !== undefined && timeout > interval)
    found.push({ pointer: '/healthCheck/timeout', detail: `${timeout} is longer than the interval, ${interval}` });
  return found;
}
