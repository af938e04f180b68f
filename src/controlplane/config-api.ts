// SPDX-License-Identifier: Apache-2.0
// The section `api` of the configuration: where the API is, and who may do what there.
import { isIPv4, isIPv6 } from 'node:net';
import { type Scope, scopes } from '../model/scope.js';
import {
  absolute,
  isLoopback,
  oneOf,
  optionalPath,
  type Rule,
  range,
  scalar,
  show,
  textOf,
  type ValuesOf,
} from './config-rules.js';

/** A client certificate by its common name or by one of its alternative names, as openssl prints it: `DNS:ci.example`. */
export type ClientRule = ({ readonly cn: string } | { readonly san: string }) & { readonly scope: Scope };

export interface ApiConfig {
  readonly socket: string;
  readonly socketGroup: string | null; // name or number; null: that of the process
  readonly listen: string | null; // 127.0.0.1:7080, [::1]:7080; with tls any address
  readonly tls: { readonly cert: string; readonly key: string; readonly clientCa: string | null } | null;
  readonly clients: readonly ClientRule[]; // the first that fits
  readonly tokens: string | null;
  readonly open: 'probes' | 'metrics' | 'none'; // what of /livez, /readyz, /metrics asks for no token
  readonly requestsPerSecond: number; // of each client over TCP
  readonly audit: string | null;
}

const clientList: Rule<readonly ClientRule[]> = {
  read(value, refuse) {
    if (!Array.isArray(value)) {
      refuse(`got ${show(value)}, wanted a list of { cn: NAME, scope } or { san: "DNS:NAME", scope }`);
      return undefined;
    }
    return value.flatMap((item: unknown, i): ClientRule[] => {
      const { cn, san, scope, ...others }: Record<string, unknown> = Object(item);
      for (const other of Object.keys(others)) refuse('unknown key; known: cn, san, scope', [i, other], 'key');
      const goodScope = scopes.find((each) => each === scope);
      if (goodScope === undefined) refuse(`got ${show(scope)}, wanted ${scopes.join(', ')}`, [i, 'scope']);
      if ((cn === undefined) === (san === undefined))
        refuse(`got ${show(item)}, wanted either cn or san, and scope`, [i]);
      const name = textOf(cn, /^[^\0]{1,256}$/);
      const other = textOf(san, /^(DNS|URI|email|IP Address):[^\s,"]{1,1024}$/);
      if (cn !== undefined && name === undefined) refuse(`got ${show(cn)}, wanted a common name`, [i, 'cn']);
      if (san !== undefined && other === undefined)
        refuse(`got ${show(san)}, wanted DNS:, URI:, email: or "IP Address:", and the name`, [i, 'san']);
      if (goodScope === undefined) return [];
      if (name !== undefined) return [{ cn: name, scope: goodScope }];
      return other === undefined ? [] : [{ san: other, scope: goodScope }];
    });
  },
  fromText: (text) =>
    text.split(',').map((each) => {
      const [, kind = '', name, scope] = /^(cn|san)=(.*)=(\w+)$/.exec(each) ?? [];
      return kind === '' ? each : { [kind]: name, scope };
    }),
  fallback: () => [],
};

/** The keys of the section by their paths. */
export const apiKeys = {
  'api.socket': scalar(
    'an absolute path of at most 107 bytes',
    (value) => (Buffer.byteLength(String(value)) <= 107 ? absolute(value) : undefined), // sun_path, unix(7)
    () => '/run/fairlead/api.sock',
  ),
  'api.socketGroup': scalar<string | null>(
    'the name or number of a group',
    (value) => textOf(typeof value === 'number' ? String(value) : value, /^([a-z_][a-z0-9_.-]{0,31}|\d{1,9})$/i),
    () => null,
  ),
  'api.listen': scalar<string | null>(
    'ADDRESS:PORT, as 127.0.0.1:7080 or "[::1]:7080"',
    (value) => (isEndpoint(value) ? value : undefined),
    () => null,
  ),
  'api.tls.cert': optionalPath(),
  'api.tls.key': optionalPath(),
  'api.tls.clientCa': optionalPath(),
  'api.clients': clientList,
  'api.tokens': optionalPath(),
  'api.open': oneOf('probes', 'metrics', 'none'),
  'api.requestsPerSecond': range(1, 1_000_000, 1000),
  'api.audit': optionalPath(),
};

function isEndpoint(value: unknown): value is string {
  const [, host = '', port = ''] = /^(.*):(\d{1,5})$/.exec(String(value)) ?? [];
  const inner = /^\[(.*)\]$/.exec(host)?.[1];
  const isHost = inner === undefined ? isIPv4(host) : isIPv6(inner) && !inner.includes('%');
  return typeof value === 'string' && isHost && Number(port) <= 65_535;
}

/** What does not go together in the section, as `KEY: DETAIL`. */
export function* apiProblems(given: ReadonlyMap<string, unknown>): Generator<string> {
  const has = (key: string) => given.has(`api.${key}`);
  const listen = given.get('api.listen');
  const clients = given.get('api.clients');
  const anyClient = Array.isArray(clients) && clients.length > 0;
  if (has('tls.cert') !== has('tls.key')) {
    const [one, other] = has('tls.cert') ? ['cert', 'key'] : ['key', 'cert'];
    yield `api.tls.${other}: missing; api.tls.${one} needs it`;
  }
  if (has('tls.clientCa') && !has('tls.cert')) yield 'api.tls.cert: missing; api.tls.clientCa needs it';
  if (has('tls.clientCa') && !anyClient)
    yield 'api.clients: missing; wanted who may come in with a certificate of api.tls.clientCa, as in "clients: [{ cn: ops, scope: operate }]"';
  if (anyClient && !has('tls.clientCa')) yield 'api.tls.clientCa: missing; api.clients needs it';
  if (listen === undefined || isLoopback(listen)) return;
  const beyond = `api.listen: "${listen}" is not loopback, and needs`;
  if (!has('tls.cert') && !has('tls.key')) yield `${beyond} api.tls.cert and api.tls.key`;
  if (!has('tokens') && !has('tls.clientCa')) yield `${beyond} api.tokens, or api.tls.clientCa with api.clients`;
}

/** The section as one value. */
export function apiConfig(values: ValuesOf<typeof apiKeys>): ApiConfig {
  const { 'api.tls.cert': cert, 'api.tls.key': key, 'api.tls.clientCa': clientCa } = values;
  return {
    socket: values['api.socket'],
    socketGroup: values['api.socketGroup'],
    listen: values['api.listen'],
    tls: cert === null || key === null ? null : { cert, key, clientCa },
    clients: values['api.clients'],
    tokens: values['api.tokens'],
    open: values['api.open'],
    requestsPerSecond: values['api.requestsPerSecond'],
    audit: values['api.audit'],
  };
}
