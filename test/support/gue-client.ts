// SPDX-License-Identifier: Apache-2.0
// Child of a test, in a balancer's namespace: sends IP packets in GUE variant 1 (without a header of its own) and waits for the echo of a UDP
// datagram in one. Each message is a Parcel, answered with the name of who echoed it, or null when nobody did in its time.
import { createSocket } from 'node:dgram';
import { once } from 'node:events';

const GUE_PORT = 6080;

/** What is to be sent. */
export interface Parcel {
  readonly packet: string; // hex
  readonly from: string; // outer addresses
  readonly to: string;
  readonly client: { readonly address: string; readonly port: number }; // of the packet inside
  readonly timeoutMs: number;
}

process.on('disconnect', () => process.exit(0));
process.on('message', (parcel: Parcel) => {
  send(parcel).then((answer) => process.send?.({ answer }));
});
process.send?.('ready');

async function send({ packet, from, to, client, timeoutMs }: Parcel): Promise<string | null> {
  const outer = createSocket('udp4');
  const inner = createSocket('udp4');
  try {
    inner.bind(client.port, client.address);
    outer.bind(0, from);
    await Promise.all([once(inner, 'listening'), once(outer, 'listening')]);
    outer.send(Buffer.from(packet, 'hex'), GUE_PORT, to);
    const [echo] = (await once(inner, 'message', { signal: AbortSignal.timeout(timeoutMs) })) as [Buffer];
    return echo.toString().split(' ')[0] ?? '';
  } catch {
    return null;
  } finally {
    outer.close();
    inner.close();
  }
}
