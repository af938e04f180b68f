// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import { NetworkChange, native } from '../../src/dataplane/native.js';
import { deleteNamespace, failure } from './fixture.js';

const name = `fwat${process.pid}`;
const child = fileURLToPath(new URL('watch-child.js', import.meta.url));
const addon = new URL('../../src/dataplane/native.js', import.meta.url).href;
const wrong = (value: unknown): never => value as never;
const ip = (...args: string[]): string => execFileSync('ip', args, { encoding: 'utf8' });

before(() => {
  ip('netns', 'add', name);
  ip('-n', name, 'link', 'add', 'fwat0', 'type', 'veth', 'peer', 'name', 'fwat1');
  for (const link of ['fwat0', 'fwat1']) ip('-n', name, 'link', 'set', link, 'up');
});
after(() => deleteNamespace(name));

/** What a scenario of the child says. Fails when the child dies. */
function inside(scenario: string): unknown {
  const args = [`--net=/run/netns/${name}`, process.execPath, '--enable-source-maps', child, scenario];
  return JSON.parse(execFileSync('nsenter', args, { encoding: 'utf8', timeout: 30_000 }));
}

test('links, addresses, routes, rules and next hops of both families are told as what they are', () => {
  const { LINK, ADDRESS, ROUTE } = NetworkChange;
  assert.deepEqual(inside('kinds'), {
    link: LINK,
    address: ADDRESS,
    address6: ADDRESS,
    route: ROUTE,
    route6: ROUTE,
    rule: ROUTE,
    nextHop: ROUTE,
    down: LINK,
  });
  ip('-n', name, 'link', 'set', 'fwat1', 'up');
});

test('a neighbour comes with interface, state, address and MAC, and goes with state 0', () => {
  const [{ ifindex }] = JSON.parse(ip('-n', name, '-j', 'link', 'show', 'fwat0'));
  const u32 = Buffer.alloc(4);
  u32.writeUInt32LE(ifindex);
  const event = (state: string, family: string, address: string, mac: string | null): string =>
    `${u32.toString('hex')}${state}${family}${mac ? '06' : '00'}${address.padEnd(32, '0')}${mac ?? '000000000000'}0000`;
  const life = (family: string, address: string): string[] => [
    event('8000', family, address, '0200000000aa'),
    event('0400', family, address, '0200000000aa'),
    event('2000', family, address, null), // failed, then deleted
    event('0000', family, address, null),
  ];
  assert.deepEqual(inside('neighbour'), [...life('02', 'c00002c8'), ...life('0a', '20010db8000000000000000000000200')]);
});

test('a burst while JavaScript is busy ends in one overrun, and nothing after it is lost', () => {
  const { changed, calls, grown, next } = inside('busy') as Record<string, number> & { next: string[] };
  assert.equal((changed ?? 0) & NetworkChange.OVERRUN, NetworkChange.OVERRUN);
  assert.ok(calls && calls <= 64, `${calls} calls`);
  assert.ok(grown !== undefined && grown < 64 << 20, `${grown} bytes more`);
  assert.equal(next.length, 1);
  assert.match(next[0] ?? '', /c00002c9/);
});

test('a burst of 5,000 neighbours is delivered in pieces, between which the event loop turns', () => {
  const { events, calls, changed, longest, took } = inside('idle') as Record<string, number>;
  console.log(`# 5,000 events in ${calls} calls over ${took?.toFixed(0)} ms, longest turn ${longest?.toFixed(1)} ms`);
  if (((changed ?? 0) & NetworkChange.OVERRUN) === 0) assert.equal(events, 5_000);
  assert.ok(calls && calls >= 5_000 / 512);
});

test('a closed watch is silent, also when it is closed twice', () => {
  assert.equal(inside('close'), 0);
});

test('what a listener throws is an uncaught exception', () => {
  assert.equal(inside('throws'), 'thrown by the listener');
});

test('a worker thread ends with its watch open', async () => {
  for (let round = 0; round < 5; round++) {
    const worker = new Worker(
      `import(${JSON.stringify(addon)}).then(({ native }) => {
         native.watchNetwork(() => {});
         require('node:worker_threads').parentPort.postMessage('open');
         setInterval(() => {}, 1000);
       });`,
      { eval: true },
    );
    await once(worker, 'message');
    await worker.terminate();
  }
});

test('a listener that is none is refused', () => {
  assert.throws(() => native.watchNetwork(wrong(1)), failure('ARGUMENT', /listener is a number/));
});
