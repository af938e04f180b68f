// SPDX-License-Identifier: Apache-2.0
// Child of a test, in the router's namespace: a datagram of each of COUNT clients (240.0.0.0/8), out of the router's port to a balancer, again
// for each message. Answers when they are sent. Arguments: port, the balancer's MAC, VIP, VIP's port, COUNT (a power of two).
import { setTimeout as pause } from 'node:timers/promises';
import { benchObject, FRAME_SIZE } from '../../bench/micro.js';
import { BenchState } from '../../bench/wrapper.gen.js';
import { native } from '../../src/dataplane/native.js';
import { packet } from './packets.js';

/** At a time: a run takes about a millisecond to begin. */
const BURST = 8_192;

const [port = '', mac = '', to = '', toPort = '', count = ''] = process.argv.slice(2);
const wrapper = native.openObject(benchObject('wrapper'));
await wrapper.load();
const [generate, state] = [wrapper.program('generate'), wrapper.map('bench')];
const template = packet({
  ...{ from: '240.0.0.1', to, fromPort: 1024, toPort: Number(toPort), protocol: 'udp', unsummed: true },
  payload: FRAME_SIZE - 42,
});
template.set(Buffer.from(mac.replaceAll(':', ''), 'hex'), 0);
const shape = { frameSize: FRAME_SIZE, flowMask: Number(count) - 1, ipv6: 0 };
const zero = { counter: 0n, actions: new Uint8Array(64), sizeSum: 0n, restoreFailures: 0n };
const context = new Uint8Array(Uint32Array.of(0, FRAME_SIZE, 0, native.interfaceIndex(port), 0, 0).buffer);

process.on('disconnect', () => process.exit(0));
process.on('message', async () => {
  state.set(new Uint8Array(4), BenchState.encode({ ...zero, ...shape, template }), 0);
  for (let sent = 0; sent < Number(count); sent += BURST) {
    await generate.runMany(template, context, BURST, true);
    await pause(1);
  }
  process.send?.('sent');
});
process.send?.('ready');
