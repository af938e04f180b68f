// SPDX-License-Identifier: Apache-2.0
// Child of the checker, one per backend, in its namespace: answers each record with BACKEND ID SEQUENCE BYTES, where BYTES is all that came
// on this connection so far. A record that does not follow the one before is answered with what was wanted. Arguments: name, port, addresses.
import { once } from 'node:events';
import { createServer, type Socket } from 'node:net';

const [name = '', port, ...addresses] = process.argv.slice(2);
process.on('disconnect', () => process.exit(0));

function serve(socket: Socket): void {
  let bytes = 0;
  let next = 0;
  let rest = '';
  socket.setNoDelay(true).setEncoding('latin1');
  socket.on('data', (text: string) => {
    bytes += text.length;
    const lines = (rest + text).split('\n');
    rest = lines.pop() ?? '';
    const before = rest.length; // of `bytes`, not yet a record
    let left = lines.reduce((sum, line) => sum + line.length + 1, 0);
    for (const line of lines) {
      left -= line.length + 1;
      const [id, sequence] = line.split(' ');
      if (Number(sequence) !== next) socket.write(`${name} wanted ${next} got ${line.slice(0, 20)}\n`);
      else socket.write(`${name} ${id} ${sequence} ${bytes - before - left}\n`);
      next++;
    }
  });
  socket.on('error', () => socket.destroy());
}

for (const host of addresses) {
  const server = createServer(serve);
  server.listen({ host, port: Number(port), backlog: 1024 });
  await once(server, 'listening');
}
process.send?.('ready');
