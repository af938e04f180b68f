// SPDX-License-Identifier: Apache-2.0
// The one file that knows etcd3: requests and streams, none of its retries, breakers and watchers (docs/decisions/0014-etcd.md).
import {
  Etcd3,
  type ICompare,
  type IOptions,
  type IRequestOp,
  type ITxnRequest,
  type IWatchRequest,
  type IWatchResponse,
} from 'etcd3';
import { nameless } from './errors.js';

/** Where an etcd cluster is, and as whom to speak to it. Files are read already. */
export interface EtcdAccess {
  readonly endpoints: readonly string[]; // http://HOST:PORT, or https:// all of them
  /** PEM. `ca` null: the system's; `cert` and `key` both or none. */
  readonly tls: { readonly ca: Buffer | null; readonly cert: Buffer | null; readonly key: Buffer | null };
  readonly auth: { readonly username: string; readonly password: string } | null;
}

/** A key as etcd has it; `revision` is that of its last change. */
export interface KeyValue {
  readonly key: string;
  readonly value: string;
  readonly revision: number;
  readonly size: number; // of the value, bytes
}

/** One change of a key; `value` null: deleted. */
export interface KeyEvent {
  readonly key: string;
  readonly value: string | null;
  readonly revision: number;
}

/** Keys from `from` to before `to`. */
export interface KeyRange {
  readonly from: string;
  readonly to: string;
}

/** What an answer says of the cluster when it was given. */
export interface Header {
  readonly clusterId: string;
  readonly revision: number;
}

/** A condition: the newest change of `key` has this revision (0: there is no such key), or all of a range are below `before`. */
export type Condition =
  | { readonly key: string; readonly revision: number }
  | { readonly range: KeyRange; readonly before: number };

/** `value` null deletes. `lease`: the key goes when the lease does. */
export interface Put {
  readonly key: string;
  readonly value: string | null;
  readonly lease?: string;
}

/** A message of a watch: events, or news about the watch itself. */
export interface WatchMessage extends Header {
  readonly kind: 'created' | 'progress' | 'events' | 'compacted' | 'canceled';
  readonly events: readonly KeyEvent[];
  readonly reason: string; // of 'canceled'
}

/** A watch on one stream of its own. Iterating ends with the stream: it throws 'unavailable' when that broke. */
export interface WatchStream extends AsyncIterable<WatchMessage> {
  /** Asks for a sign of life: etcd answers with 'progress'. */
  ask(): void;
  cancel(): void;
}

/**
 * Requests to etcd, each tried once on one endpoint, within REQUEST_MS or `withinMs`. They throw FairleadError: 'unavailable' (a write may have been done all the
 * same, unless `wasSent` says no), 'permission', 'full' (too large, or no space), 'busy', 'not-found' (that revision is not kept any more), 'native'.
 */
export interface EtcdClient {
  /** At `revision`, or the newest; `more`: there is more behind the last of `items`. */
  range(
    range: KeyRange | string,
    options?: { readonly revision?: number; readonly limit?: number },
  ): Promise<Header & { readonly items: readonly KeyValue[]; readonly more: boolean }>;
  /** Asks for nothing but the header: proves a quorum, and renews what the server has to know of us. */
  probe(range: KeyRange): Promise<Header>;
  /** Does `puts` if all conditions hold; if not, answers what `read` has, in that order. */
  commit(
    conditions: readonly Condition[],
    puts: readonly Put[],
    read?: readonly (string | { readonly newestOf: KeyRange })[],
    withinMs?: number,
  ): Promise<Header & { readonly done: boolean; readonly found: readonly (KeyValue | null)[] }>;
  watch(range: KeyRange, fromRevision: number): Promise<WatchStream>;
  /** A lease of `ttlSeconds`: answers its id. */
  grant(ttlSeconds: number): Promise<string>;
  /** Keeps it; false: it is gone. */
  keepAlive(lease: string): Promise<boolean>;
  revoke(lease: string): Promise<void>;
  /** Forgets tokens and connections: the next request begins anew. */
  renew(): void;
  close(): void;
}

const REQUEST_MS = 5000;

/** The range of every key that begins with `prefix`. */
export function prefixRange(prefix: string): KeyRange {
  const last = prefix.length - 1;
  return { from: prefix, to: prefix.slice(0, last) + String.fromCharCode(prefix.charCodeAt(last) + 1) };
}

// A retry of a write that was done answers "lost", and a breaker that one large request opened stops every other request: none of either.
const noPolicy = {
  execute: async <T>(step: (context: { signal: AbortSignal }) => T) => step({ signal: neverAborted }),
};
const neverAborted = new AbortController().signal;

type Interceptor = (
  options: object,
  next: (options: object) => { start(metadata: Metadata, listener: object): void },
) => object;
interface Metadata {
  set(name: string, value: string): void;
}

/** A member that has lost its leader refuses, and ends watches, instead of answering from what it has. */
const wantLeader: Interceptor = (options, next) => {
  const call = next(options);
  const start = call.start.bind(call);
  call.start = (metadata, listener) => {
    metadata.set('hasleader', 'true');
    start(metadata, listener);
  };
  return call;
};

function optionsOf({ endpoints, tls, auth }: EtcdAccess): IOptions {
  const isSecure = endpoints.some((endpoint) => endpoint.startsWith('https:'));
  const options = {
    hosts: [...endpoints],
    faultHandling: { host: () => noPolicy, global: noPolicy },
    defaultCallOptions: ({ isStream }: { isStream: boolean }) => ({
      interceptors: [wantLeader],
      ...(isStream ? {} : { deadline: Date.now() + REQUEST_MS }),
    }),
    grpcOptions: {
      'grpc.keepalive_time_ms': 10_000,
      'grpc.keepalive_timeout_ms': 5000,
      'grpc.max_receive_message_length': -1, // pages and events are sized by us and by etcd
      'grpc.max_send_message_length': -1, // etcd has its own limit, and says so
      'grpc.initial_reconnect_backoff_ms': 100,
      'grpc.max_reconnect_backoff_ms': 2000,
      'grpc.enable_retries': 0,
      'grpc.enable_http_proxy': 0,
      'grpc.service_config_disable_resolution': 1,
      'grpc.use_local_subchannel_pool': 1,
    },
    ...(auth === null ? {} : { auth: { username: auth.username, password: auth.password } }),
    ...(isSecure && {
      credentials: {
        ...(tls.ca && { rootCertificate: tls.ca }),
        ...(tls.key && { privateKey: tls.key }),
        ...(tls.cert && { certChain: tls.cert }),
      },
    }),
  };
  return options as unknown as IOptions; // its types ask for all of cockatiel's policy, its code for `execute`
}

const bytes = (text: string): Buffer => Buffer.from(text);

const rangeOf = (range: KeyRange | string): { key: Buffer; range_end?: Buffer } =>
  typeof range === 'string' ? { key: bytes(range) } : { key: bytes(range.from), range_end: bytes(range.to) };

const headerOf = ({ cluster_id, revision }: { cluster_id: string; revision: string }): Header => ({
  clusterId: cluster_id,
  revision: Number(revision),
});

interface RawKey {
  readonly key: Buffer;
  readonly value: Buffer;
  readonly mod_revision: string;
}

const keyValueOf = ({ key, value, mod_revision }: RawKey): KeyValue => ({
  key: key.toString(),
  value: value.toString(),
  revision: Number(mod_revision),
  size: value.length,
});

function compareOf(condition: Condition): ICompare {
  if ('range' in condition)
    return { result: 'Less', target: 'Mod', mod_revision: condition.before, ...rangeOf(condition.range) };
  return { result: 'Equal', target: 'Mod', mod_revision: condition.revision, key: bytes(condition.key) };
}

function putOf({ key, value, lease }: Put): IRequestOp {
  if (value === null) return { request_delete_range: { key: bytes(key) } };
  return { request_put: { key: bytes(key), value: bytes(value), ...(lease !== undefined && { lease }) } };
}

function messageOfWatch(response: IWatchResponse): WatchMessage {
  const { created, canceled, compact_revision, cancel_reason, events, header } = response;
  const compacted = canceled && compact_revision !== '0';
  const kind = compacted
    ? 'compacted'
    : canceled
      ? 'canceled'
      : created
        ? 'created'
        : events.length
          ? 'events'
          : 'progress';
  return {
    ...headerOf(header),
    kind,
    reason: cancel_reason,
    events: events.map(({ type, kv }) => ({
      key: kv.key.toString(),
      value: String(type).toUpperCase() === 'DELETE' ? null : kv.value.toString(),
      revision: Number(kv.mod_revision),
    })),
  };
}

/** Connects when it is first asked something. */
export function openEtcdClient(access: EtcdAccess): EtcdClient {
  let client = new Etcd3(optionsOf(access));
  const named = async <T>(what: string, call: (etcd: Etcd3) => Promise<T>): Promise<T> => {
    try {
      return await call(client);
    } catch (error) {
      throw nameless(error, what);
    }
  };
  return {
    range: (range, { revision, limit } = {}) =>
      named('read', async ({ kv }) => {
        const { header, kvs, more } = await kv.range({
          ...rangeOf(range),
          ...(revision !== undefined && { revision }),
          ...(limit !== undefined && { limit }),
        });
        return { ...headerOf(header), items: kvs.map(keyValueOf), more };
      }),
    probe: (range) =>
      named('ask', async ({ kv }) => headerOf((await kv.range({ ...rangeOf(range), count_only: true })).header)),
    commit: (conditions, puts, read = [], withinMs = REQUEST_MS) =>
      named('write', async ({ kv }) => {
        const request: ITxnRequest = {
          compare: conditions.map(compareOf),
          success: puts.map(putOf),
          failure: read.map((what) => ({
            request_range:
              typeof what === 'string'
                ? rangeOf(what)
                : { ...rangeOf(what.newestOf), sort_order: 'Descend', sort_target: 'Mod', limit: 1, keys_only: true },
          })),
        };
        const { header, succeeded, responses } = await kv.txn(request, { deadline: Date.now() + withinMs });
        const found = succeeded
          ? []
          : responses.map(({ response_range: { kvs } }) => (kvs[0] ? keyValueOf(kvs[0]) : null));
        return { ...headerOf(header), done: succeeded, found };
      }),
    watch: (range, fromRevision) =>
      named('watch', async ({ watchClient }) => {
        const stream = await watchClient.watch();
        stream.on('error', () => undefined); // whoever iterates has it; after that nobody does
        const write = (request: IWatchRequest): void => void stream.write(request);
        write({ create_request: { ...rangeOf(range), start_revision: fromRevision, progress_notify: true } });
        return {
          ask: () => write({ progress_request: {} }),
          cancel: () => stream.cancel(),
          async *[Symbol.asyncIterator]() {
            try {
              for await (const response of stream as unknown as AsyncIterable<IWatchResponse>)
                yield messageOfWatch(response);
            } catch (error) {
              throw nameless(error, 'watch');
            } finally {
              stream.cancel();
            }
          },
        };
      }),
    grant: (ttlSeconds) =>
      named('lease', async ({ leaseClient }) => (await leaseClient.leaseGrant({ TTL: ttlSeconds })).ID),
    keepAlive: (lease) =>
      named('keep the lease', async ({ leaseClient }) => {
        const stream = await leaseClient.leaseKeepAlive({ deadline: Date.now() + REQUEST_MS });
        try {
          return await new Promise<boolean>((resolve, reject) => {
            stream.on('data', ({ TTL }) => resolve(TTL !== '0'));
            stream.on('error', reject);
            stream.on('end', () => reject(new Error('the stream ended')));
            stream.write({ ID: lease });
          });
        } finally {
          stream.end();
        }
      }),
    revoke: (lease) =>
      named('revoke the lease', async ({ leaseClient }) => void (await leaseClient.leaseRevoke({ ID: lease }))),
    renew() {
      client.close();
      client = new Etcd3(optionsOf(access));
    },
    close: () => client.close(),
  };
}
