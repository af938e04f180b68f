// SPDX-License-Identifier: Apache-2.0
// Random writes to an API, one after the other, and what must hold after each.
import assert from 'node:assert/strict';
import { Agent, request } from 'node:http';
import { text } from 'node:stream/consumers';
import { isRecord, tokensOf } from '../../src/model/check.js';
import { messageOf } from '../../src/model/errors.js';
import { mergePatch } from '../../src/model/merge-patch.js';
import { assertAnswer, type Operation } from './api-client.js';
import { NAMES, type RandomBody, randomBody } from './random-bodies.js';
import type { Reply } from './serve.js';

/** Where a storm goes. `held` is all the API holds; of two alike texts nothing was changed between. */
export interface Target {
  readonly socket: string;
  readonly operations: ReadonlyMap<string, Operation>;
  held(): Promise<string>;
}

export interface Outcome {
  readonly accepted: number;
  readonly refused: number;
}

/** Sends bytes as they are. */
export function sendBytes(
  agent: Agent,
  socketPath: string,
  method: string,
  path: string,
  bytes: Buffer,
  headers: Readonly<Record<string, string>>,
): Promise<Reply> {
  return new Promise((resolve, reject) => {
    const signal = AbortSignal.timeout(15_000);
    const all = { ...headers, 'content-length': String(bytes.length) };
    const outgoing = request({ agent, socketPath, method, path, headers: all, signal }, (response) => {
      text(response)
        .then((answer) => {
          const { statusCode: status = 0, headers: got } = response;
          resolve({ status, etag: got.etag, body: answer === '' ? null : JSON.parse(answer) });
        })
        .catch(reject);
    });
    outgoing.on('error', reject).end(bytes);
  });
}

/** `count` random bodies, each to a random operation that takes one. Throws with the case that broke a rule. */
export async function storm(target: Target, random: () => number, count: number): Promise<Outcome> {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  const writing = [...target.operations.values()].filter(({ body }) => body !== null);
  const pick = <T>(list: readonly T[]): T => list[Math.floor(random() * list.length)] as T;
  let accepted = 0;
  let before = await target.held();
  for (let at = 0; at < count; at++) {
    const operation = pick(writing);
    const body = randomBody(random, operation.body ?? {});
    const isDry = random() < 0.15;
    const path = `${operation.path.replaceAll(/\{\w+\}/g, () => pick(NAMES))}${isDry ? '?dryRun=true' : ''}`;
    const type: Record<string, string> = body.type === '' ? {} : { 'content-type': body.type };
    const reply = await sendBytes(agent, target.socket, operation.method, path, body.bytes, type);
    const after = await target.held();
    try {
      assertAnswer(operation, reply);
      if (reply.status < 300) accepted++;
      if (reply.status < 300 && !isDry) assertDone(operation, path, body, reply, after);
      else assert.equal(after, before, 'nothing was changed');
      if (reply.status >= 300) assertExplained(operation, path, body, reply, before);
    } catch (error) {
      const sent = body.bytes.toString().slice(0, 2000);
      const got = JSON.stringify(reply.body)?.slice(0, 2000);
      throw new Error(
        `${messageOf(error)}\ncase ${at}: ${operation.method} ${path} ${body.type}\n${sent}\n${reply.status} ${got}`,
        {
          cause: error,
        },
      );
    }
    before = after;
  }
  agent.destroy();
  return { accepted, refused: count - accepted };
}

/** JSON as the API reads it; undefined for what is none. */
function parsed({ bytes }: RandomBody): unknown {
  try {
    return JSON.parse(bytes.toString());
  } catch {
    return undefined;
  }
}

/** What was asked for is there, and what is answered is what is there. */
function assertDone(operation: Operation, path: string, body: RandomBody, reply: Reply, after: string): void {
  const held = JSON.parse(after) as { services: { name: string }[]; pools: { name: string; backends: object[] }[] };
  const sent = parsed(body);
  if (operation.id === 'putConfiguration') {
    const { services = [], pools = [] } = sent as Partial<typeof held>;
    const names = (list: readonly { name: string }[]): string[] => list.map(({ name }) => name).sort();
    assert.deepEqual([names(held.services), names(held.pools)], [names(services), names(pools)]);
    return;
  }
  const { revision: _revision, status: _status, ...answered } = reply.body as Record<string, unknown>;
  const [, , , , owner, , backend] = path.split('/');
  const list: readonly object[] = path.includes('/backends/')
    ? (held.pools.find(({ name }) => name === owner)?.backends ?? [])
    : path.includes('/services')
      ? held.services
      : held.pools;
  assert.deepEqual(
    list.find((each) => 'name' in each && each.name === (backend ?? answered.name)),
    answered,
  );
  // Numbers, words and what is of them are stored as they were sent; addresses and lists have a form of their own.
  for (const [field, value] of Object.entries(isRecord(sent) && operation.id !== 'drainBackend' ? sent : {}))
    if (
      ['port', 'weight', 'protocol', 'pool', 'forwarding', 'affinity', 'holdSeconds', 'flowMemory'].includes(field) &&
      value !== null
    )
      assert.deepEqual(answered[field], value, field);
}

/** A refusal is no 5xx, and says what is wrong: each pointer leads into the body, its last step may be missing there. */
function assertExplained(operation: Operation, path: string, body: RandomBody, reply: Reply, before: string): void {
  assert.ok(reply.status >= 400 && reply.status < 500, 'no 5xx');
  const { detail, errors, type } = reply.body as { detail: string; errors?: { pointer: string }[]; type: string };
  assert.ok(detail.length > 0);
  if (type !== 'urn:fairlead:problem:invalid') return;
  assert.ok(errors !== undefined && errors.length > 0, 'there is a pointer');
  if (errors.every(({ pointer }) => pointer === '')) return; // the body as a whole, which may be nested too deeply for us too
  const sent = parsed(body);
  const whole = operation.method === 'PATCH' ? mergePatch(current(path, before), sent) : sent;
  for (const { pointer } of errors) {
    assert.match(pointer, /^(\/|$)/);
    let value: unknown = whole;
    for (const token of tokensOf(pointer).slice(0, -1)) {
      assert.ok(
        typeof value === 'object' && value !== null && token in value,
        `pointer "${pointer}" leads into the body`,
      );
      value = (value as Record<string, unknown>)[token];
    }
  }
}

function current(path: string, held: string): unknown {
  const [, , , kind, name, , backend] = (path.split('?')[0] ?? '').split('/');
  const all = JSON.parse(held) as Record<string, { name: string; backends?: { name: string }[] }[]>;
  const object = all[kind ?? '']?.find((each) => each.name === name);
  return backend === undefined ? object : object?.backends?.find((each) => each.name === backend);
}
