// SPDX-License-Identifier: Apache-2.0
// Sends exact datagrams and prints who echoed each flow, as JSON. Arguments: port, flows (see Datagrams in served-lab.ts).
import { createSocket, type Socket } from 'node:dgram';
import { once } from 'node:events';
import { isIPv6 } from 'node:net';
import type { Datagrams } from './served-lab.js';

const [port, flows = '[]'] = process.argv.slice(2);
const answers = await Promise.all((JSON.parse(flows) as Datagrams[]).map(flowOf));
process.stdout.write(JSON.stringify(answers));

async function flowOf({ from, fromPort, to, size, count }: Datagrams): Promise<string[]> {
  const socket = createSocket(isIPv6(to) ? 'udp6' : 'udp4');
  socket.bind(fromPort, from);
  await once(socket, 'listening');
  socket.connect(Number(port), to);
  await once(socket, 'connect');
  const backends = new Set<string>();
  for (let index = 0; index < count; index++) {
    const payload = Buffer.alloc(size, `${index}`);
    backends.add(await echoed(socket, payload));
  }
  socket.close();
  return [...backends];
}

/** Not sent again when lost: the caller counts packets. */
async function echoed(socket: Socket, payload: Buffer): Promise<string> {
  socket.send(payload);
  const [answer] = (await once(socket, 'message', { signal: AbortSignal.timeout(3_000) })) as [Buffer];
  const space = answer.indexOf(' ');
  if (Buffer.compare(answer.subarray(space + 1), payload) !== 0) throw new Error('the echo is not what was sent');
  return answer.subarray(0, space).toString();
}
