// SPDX-License-Identifier: Apache-2.0
// Child of a test, in a balancer's namespace: sends what a GUE datagram is to carry, and waits for what comes of it. Each message is a Parcel,
// answered with the payload of the datagram that came, as hex, or null when none did in its time.
import { createSocket } from 'node:dgram';
import { once } from 'node:events';

const GUE_PORT = 6080;

/** What is to be sent, and where something is to arrive. */
export interface Parcel {
  readonly payload: string; // hex
  readonly from: string; // outer addresses
  readonly to: string;
  readonly listen: { readonly address: string; readonly port: number };
  readonly timeoutMs: number;
}

process.on('disconnect', () => process.exit(0));
process.on('message', (parcel: Parcel) => {
  send(parcel).then((arrived) => process.send?.({ arrived }));
});
process.send?.('ready');

async function send({ payload, from, to, listen, timeoutMs }: Parcel): Promise<string | null> {
  const outer = createSocket('udp4');
  const inner = createSocket('udp4');
  try {
    inner.bind(listen.port, listen.address);
    outer.bind(0, from);
    await Promise.all([once(inner, 'listening'), once(outer, 'listening')]);
    outer.send(Buffer.from(payload, 'hex'), GUE_PORT, to);
    const [message] = (await once(inner, 'message', { signal: AbortSignal.timeout(timeoutMs) })) as [Buffer];
    return message.toString('hex');
  } catch {
    return null;
  } finally {
    outer.close();
    inner.close();
  }
}
