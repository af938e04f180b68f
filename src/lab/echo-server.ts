// SPDX-License-Identifier: Apache-2.0
// Child of the lab, one per backend, inside the backend's namespace: HTTP and UDP echo on the VIPs, and on addresses of its own.
// Arguments: name, HTTP port, UDP port, then the VIPs; then, if at all, 'nat', a port for both, own addresses.
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { isIPv6 } from 'node:net';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';

const [name = '', httpPort, echoPort, ...places] = process.argv.slice(2);
const [vips, [, natPort, ...own]] = split(places.indexOf('nat'));
process.on('disconnect', () => process.exit(0)); // the lab has ended, or died
if (!process.connected) process.exit(0);

for (const vip of vips) await listen(vip, Number(httpPort), Number(echoPort));
for (const address of own) await listen(address, Number(natPort), Number(natPort));
process.send?.('ready');

function split(at: number): [readonly string[], readonly string[]] {
  return at < 0 ? [places, []] : [places.slice(0, at), places.slice(at)];
}

async function listen(host: string, http: number, udp: number): Promise<void> {
  const server = createServer((request, response) => {
    answer(request, response).catch(() => response.destroy()); // the client went away
  });
  server.listen({ host, port: http, backlog: 4096 });
  await once(server, 'listening');

  // An answer must come from the VIP, so the socket is bound to it and not to the wildcard address.
  const socket = createSocket(isIPv6(host) ? 'udp6' : 'udp4');
  socket.on('message', (payload, from) => {
    socket.send(Buffer.concat([Buffer.from(`${name} `), payload]), from.port, from.address);
  });
  socket.bind(udp, host);
  await once(socket, 'listening');
}

/** GET /bytes/N streams N bytes; anything else is answered with who answered, to whom, and how much came. */
async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
  response.setHeader('x-backend', name);
  const wanted = /^\/bytes\/(\d{1,12})$/.exec(request.url ?? '');
  if (request.method === 'GET' && wanted) {
    const count = Number(wanted[1]);
    response.writeHead(200, { 'content-type': 'application/octet-stream', 'content-length': count });
    await pipeline(Readable.from(pattern(count)), response);
    return;
  }
  let receivedBytes = 0;
  for await (const chunk of request) receivedBytes += (chunk as Buffer).length;
  const { remoteAddress: address, remotePort: port } = request.socket;
  response.setHeader('content-type', 'application/json');
  response.end(`${JSON.stringify({ backend: name, client: { address, port }, url: request.url, receivedBytes })}\n`);
}

/** `count` bytes, the one at offset i being i modulo 251: a prime, so that a lost or doubled block shows. */
function* pattern(count: number): Generator<Buffer> {
  const block = Buffer.from(Array.from({ length: 251 * 256 }, (_, index) => index % 251));
  for (let left = count; left > 0; left -= block.length) yield left < block.length ? block.subarray(0, left) : block;
}
