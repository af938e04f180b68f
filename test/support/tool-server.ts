// SPDX-License-Identifier: Apache-2.0
// Child of a test, one per backend, in its namespace: HTTP with a WebSocket on port 8090, DNS on port 53. Arguments: name, own addresses.
import { createHash } from 'node:crypto';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { isIPv6 } from 'node:net';
import { serveWebSocket } from './web-socket.js';

const [name = '', ...addresses] = process.argv.slice(2);
process.on('disconnect', () => process.exit(0));

/** Answers a query for a name (RFC 1035) with one TXT record, who answers: long enough to tell a cut from a whole one. */
function answerTo(query: Buffer): Buffer {
  let at = 12;
  while (query.readUInt8(at) !== 0) at += 1 + query.readUInt8(at);
  const question = query.subarray(12, at + 5);
  const text = Buffer.from(`${name} ${'x'.repeat(200)}`);
  const header = Buffer.from(query.subarray(0, 12));
  header.writeUInt16BE(0x8580, 2); // an authoritative answer without an error
  header.writeUInt16BE(1, 6);
  header.writeUInt32BE(0, 8);
  const record = Buffer.from('c00c00100001000000000000', 'hex');
  record.writeUInt16BE(text.length + 1, 10);
  return Buffer.concat([header, question, record, Buffer.of(text.length), text]);
}

for (const host of addresses) {
  // The request's body comes back, with its digest in a header.
  const server = createServer(async (request, response) => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const body = Buffer.concat(chunks);
    response.writeHead(200, { 'x-backend': name, 'x-digest': createHash('sha256').update(body).digest('hex') });
    response.end(body);
  });
  server.on('upgrade', (request, socket) => serveWebSocket(name, request, socket));
  server.listen({ host, port: 8090 });
  await once(server, 'listening');
  const dns = createSocket(isIPv6(host) ? 'udp6' : 'udp4');
  dns.on('message', (query, from) => dns.send(answerTo(query), from.port, from.address));
  dns.bind(53, host);
  await once(dns, 'listening');
}
process.send?.('ready');
