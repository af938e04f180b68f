// SPDX-License-Identifier: Apache-2.0
// A lab whose daemon the test starts, kills and starts again itself.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { agentKey } from '../../src/dataplane/program.js';
import { apiAt } from '../../src/lab/api.js';
import { type LabBase, openBase } from '../../src/lab/base.js';
import { startInside, stopChild } from '../../src/lab/children.js';
import { daemonConfig } from '../../src/lab/daemon.js';
import { startDriver } from '../../src/lab/drive.js';
import { namespacePath, run } from '../../src/lab/netns.js';
import { labServices, putObjects } from '../../src/lab/objects.js';
import { sum } from '../../src/lab/table.js';
import type { DriverReport } from '../../src/lab/traffic.js';
import { attachAgents, attachPass } from '../../src/lab/xdp.js';
import { ask, type Reply, type Serve, startServe, untilReady } from './serve.js';

export const never = new AbortController().signal;

/** The ring's key in these labs: with the addresses and ports of the lab fixed too, every run spreads the same way. */
const hashKey = '000102030405060708090a0b0c0d0e0f';

/** A lab with all its services applied. */
export interface ServedLab extends LabBase {
  readonly config: string; // path
  readonly socket: string;
  /** The daemon started last. */
  serve(): Serve;
  /** Starts the daemon and waits until it is ready; the one before has ended. */
  start(): Promise<void>;
  /** A request to the API that must succeed; its JSON. */
  api(method: string, path: string, body?: unknown): Promise<unknown>;
  ask(method: string, path: string, body?: unknown, headers?: Readonly<Record<string, string>>): Promise<Reply>;
  /** Runs a command in the client's namespace; its stdout. */
  inClient(...command: readonly string[]): Promise<string>;
}

/** `settings`: more lines of the daemon's configuration. */
export async function openServedLab(name: string, backends: number, settings = ''): Promise<ServedLab> {
  const base = await openBase({ name, backends }, never);
  const { directory, topology } = base;
  const config = `${directory}/config.yaml`;
  const socket = `${directory}/api.sock`;
  const api = apiAt(socket);
  let serve: Serve | null = null;
  const start = async () => {
    serve = startServe(topology.balancers[0].namespace, config);
    await untilReady(serve, socket);
  };
  try {
    for (const programs of [
      await attachPass(topology),
      await attachAgents(topology, agentKey(Buffer.from(hashKey, 'hex'))),
    ])
      base.onClose(() => programs.close());
    base.onClose(async () => void (await serve?.kill('SIGKILL')));
    writeFileSync(config, daemonConfig(topology.balancers[0], directory) + settings);
    writeFileSync(
      `${directory}/state.json`,
      JSON.stringify({ format: 1, revision: 0, hashKey, services: [], pools: [] }),
    );
    await start();
    await putObjects(api, topology);
  } catch (error) {
    await base.close();
    throw error;
  }
  return {
    ...base,
    config,
    socket,
    start,
    api,
    serve() {
      if (!serve) throw new Error('no daemon was started');
      return serve;
    },
    ask: (method, path, body, headers) => ask(socket, method, path, body, headers),
    inClient: (...command) => run('nsenter', [`--net=${namespacePath(topology.client)}`, ...command]),
  };
}

/** A stream of requests over all services of a lab. */
export interface Stream {
  begin(phase: string, rate: number): void;
  /** Resolves when `count` requests more have come to their end. */
  more(count: number): Promise<void>;
  /** Lets the requests under way come to their end; fails when any since the start of the lab has failed. */
  noneFailed(): Promise<void>;
}

/** Starts the lab's traffic driver; it ends with the lab. */
export async function openStream(lab: ServedLab): Promise<Stream> {
  const driver = await startDriver(lab.topology, labServices(lab.topology));
  lab.onClose(() => driver.stop());
  const ended = (report: DriverReport) => sum(Object.values(report.phases).map((phase) => phase.requests));
  return {
    begin: (phase, rate) => driver.command({ kind: 'run', phase, rate, count: null }),
    async more(count) {
      const goal = ended(driver.report()) + count;
      await driver.until((report) => ended(report) >= goal, 15_000, never);
    },
    async noneFailed() {
      driver.command({ kind: 'stop' });
      const { phases, errors } = await driver.until(({ idle }) => idle, 15_000, never);
      assert.deepEqual(errors, []);
      assert.equal(sum(Object.values(phases).map((phase) => phase.failed)), 0);
    },
  };
}

/** Datagrams of one UDP flow: `count` of `size` bytes, each sent when the one before was echoed. */
export interface Datagrams {
  readonly from: string;
  readonly fromPort: number;
  readonly to: string;
  readonly size: number;
  readonly count: number;
}

/** What the UDP client answers: the backends that echoed each flow. */
export type Echoes = { readonly backends: readonly string[][] } | { readonly error: string };

/** Sends flows from the client's namespace to the echo port, at once, and resolves with who echoed each of them. */
export type SendDatagrams = (flows: readonly Datagrams[]) => Promise<readonly string[][]>;

/** Starts the UDP client; it ends with the lab. Sending rejects when an echo is missing, late or wrong. One call at a time. */
export async function openSender(lab: ServedLab): Promise<SendDatagrams> {
  const { client, echoPort } = lab.topology;
  const child = await startInside(client, '../../test/support/udp-client.js', [`${echoPort}`]);
  lab.onClose(() => stopChild(child, 1_000));
  // A flow stays on one CPU, as with a NIC that hashes it to a queue: on veth it follows its sender.
  await run('taskset', ['-acp', '0', `${child.pid}`]);
  return async (flows) => {
    const answered = once(child, 'message');
    child.send(flows);
    const [answer] = (await answered) as [Echoes];
    if ('error' in answer) throw new Error(answer.error);
    return answer.backends;
  };
}
