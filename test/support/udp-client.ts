// SPDX-License-Identifier: Apache-2.0
// Child of a test, in the client's namespace: sends the flows of each message (see Datagrams in served-lab.ts) and answers
// with who echoed them, or why not. Argument: the port to send to.
import { createSocket, type Socket } from 'node:dgram';
import { once } from 'node:events';
import { isIPv6 } from 'node:net';
import { messageOf } from '../../src/model/errors.js';
import type { Datagrams, Echoes } from './served-lab.js';

const port = Number(process.argv[2]);
const tell = (message: Echoes | 'ready') => void process.send?.(message);

process.on('disconnect', () => process.exit(0));
process.on('message', (flows: readonly Datagrams[]) => {
  Promise.all(flows.map(flowOf)).then(
    (backends) => tell({ backends }),
    (error) => tell({ error: messageOf(error) }),
  );
});
tell('ready');

async function flowOf({ from, fromPort, to, size, count }: Datagrams): Promise<string[]> {
  const socket = createSocket(isIPv6(to) ? 'udp6' : 'udp4');
  try {
    socket.bind(fromPort, from);
    await once(socket, 'listening');
    socket.connect(port, to);
    await once(socket, 'connect');
    const backends = new Set<string>();
    for (let index = 0; index < count; index++) backends.add(await echoed(socket, Buffer.alloc(size, `${index}`)));
    return [...backends];
  } finally {
    socket.close();
  }
}

/** Not sent again when lost: the test counts packets. */
async function echoed(socket: Socket, payload: Buffer): Promise<string> {
  socket.send(payload);
  const [answer] = (await once(socket, 'message', { signal: AbortSignal.timeout(3_000) }).catch((error) => {
    throw error.name === 'AbortError' ? new Error('no echo within 3 s') : error;
  })) as [Buffer];
  const space = answer.indexOf(' ');
  if (Buffer.compare(answer.subarray(space + 1), payload) !== 0) throw new Error('the echo is not what was sent');
  return answer.subarray(0, space).toString();
}
