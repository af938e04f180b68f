// SPDX-License-Identifier: Apache-2.0
// The API on a Unix socket of its own, over a store in memory and a node without a kernel.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { buildApi } from '../../src/api/app.js';
import { listenApi } from '../../src/api/listen.js';
import { openMemoryStore } from '../../src/controlplane/memory-store.js';
import type { Store } from '../../src/controlplane/store.js';
import type { EventLog } from '../../src/model/events.js';
import { openEventLog } from '../../src/observability/event-log.js';
import { type NodeDouble, nodeDouble } from '../unit/node-double.js';
import { ask, type Reply } from './serve.js';

export interface OpenApi {
  readonly socket: string;
  readonly store: Store;
  readonly node: NodeDouble;
  readonly events: EventLog;
  /** Ends it before the test does. */
  close(): Promise<void>;
  ask(method: string, path: string, body?: unknown, headers?: Readonly<Record<string, string>>): Promise<Reply>;
}

/** Closed when the test ends. */
export async function openApi(t: TestContext, events: EventLog = openEventLog()): Promise<OpenApi> {
  const directory = mkdtempSync(join(tmpdir(), 'fairlead-api-'));
  const socket = join(directory, 'api.sock');
  const store = openMemoryStore();
  const node = nodeDouble();
  const app = buildApi({ store, node, events });
  const close = () => app.close();
  t.after(async () => {
    await close();
    rmSync(directory, { recursive: true });
  });
  await listenApi(app, { socket, listen: null });
  return { socket, store, node, events, close, ask: (...args) => ask(socket, ...args) };
}
