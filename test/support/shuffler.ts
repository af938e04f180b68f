// SPDX-License-Identifier: Apache-2.0
// Child inside the client's namespace: sends UDP datagrams as raw frames with their fragments in any order, and counts the echoes. socat
// (UDP4-RECV to INTERFACE) puts on the wire what it gets. Argument: ShuffleJob as JSON. Answers how many were echoed whole.
import { createSocket } from 'node:dgram';
import { setTimeout as pause } from 'node:timers/promises';

export interface ShuffleJob {
  readonly relayPort: number;
  readonly family: 4 | 6;
  readonly localPorts: readonly number[];
  /** Hex: the frames of each datagram in the order they are to be sent. */
  readonly datagrams: readonly (readonly string[])[];
  /** Hex of each datagram's payload, no two alike. */
  readonly payloads: readonly string[];
}

process.once('message', (job: ShuffleJob) => void run(job));
process.on('disconnect', () => process.exit(0));
process.send?.('ready');

async function run({ relayPort, family, localPorts, datagrams, payloads }: ShuffleJob): Promise<void> {
  const wanted = new Set(payloads);
  const relay = createSocket('udp4');
  const sockets = localPorts.map(() => createSocket({ type: `udp${family}`, recvBufferSize: 4_000_000 }));
  // An echo is the backend's name, a space and the payload.
  for (const [at, socket] of sockets.entries()) {
    socket.on('message', (message) => void wanted.delete(message.subarray(message.indexOf(' ') + 1).toString('hex')));
    await new Promise<void>((resolve) => socket.bind(localPorts[at], resolve));
  }
  for (const frames of datagrams) {
    for (const frame of frames)
      await new Promise((resolve) => relay.send(Buffer.from(frame, 'hex'), relayPort, '127.0.0.1', resolve));
    await pause(2);
  }
  for (let left = 100; left > 0 && wanted.size > 0; left--) await pause(20);
  process.send?.({ answered: payloads.length - wanted.size });
  for (const socket of sockets) socket.close();
  relay.close();
}
