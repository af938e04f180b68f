// SPDX-License-Identifier: Apache-2.0
// As much of the WebSocket protocol (RFC 6455) as a held connection needs: the handshake, short text frames, ping and pong.
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { type IncomingMessage, request } from 'node:http';
import { isIPv6 } from 'node:net';
import type { Duplex } from 'node:stream';

const GUID = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11';
export const OPCODE = { text: 1, ping: 9, pong: 10 } as const;

/** The answer to a client's key (section 1.3). */
export const acceptOf = (key: string): string => createHash('sha1').update(`${key}${GUID}`).digest('base64');

/** One whole frame of up to 125 bytes; `masked`: as clients must. */
export function frameOf(opcode: number, text: string, masked: boolean): Buffer {
  const payload = Buffer.from(text);
  const mask = masked ? randomBytes(4) : Buffer.alloc(0);
  if (masked) for (const [at, byte] of payload.entries()) payload[at] = byte ^ (mask[at % 4] ?? 0);
  return Buffer.concat([Buffer.of(0x80 | opcode, payload.length | (masked ? 0x80 : 0)), mask, payload]);
}

/** Calls `take` with every frame that comes in on the connection. */
export function readFrames(socket: Duplex, take: (opcode: number, text: string) => void): void {
  let rest: Buffer = Buffer.alloc(0);
  socket.on('data', (bytes: Buffer) => {
    rest = Buffer.concat([rest, bytes]);
    for (;;) {
      const mask = (rest[1] ?? 0) & 0x80 ? 4 : 0;
      const size = 2 + mask + ((rest[1] ?? 0) & 0x7f);
      if (rest.length < 2 || rest.length < size) return;
      const payload = Buffer.from(rest.subarray(2 + mask, size));
      for (const [at, byte] of payload.entries()) payload[at] = byte ^ (mask ? (rest[2 + (at % 4)] ?? 0) : 0);
      take((rest[0] ?? 0) & 15, payload.toString());
      rest = rest.subarray(size);
    }
  });
}

/** A server's side of the handshake; it answers pings, and a text with `NAME TEXT`. */
export function serveWebSocket(name: string, { headers }: IncomingMessage, socket: Duplex): void {
  const accept = acceptOf(headers['sec-websocket-key'] ?? '');
  const lines = ['HTTP/1.1 101 Switching Protocols', 'upgrade: websocket', 'connection: Upgrade'];
  socket.write([...lines, `sec-websocket-accept: ${accept}`, '', ''].join('\r\n'));
  socket.on('error', () => socket.destroy());
  readFrames(socket, (opcode, text) => {
    if (opcode === OPCODE.ping) socket.write(frameOf(OPCODE.pong, text, false));
    if (opcode === OPCODE.text) socket.write(frameOf(OPCODE.text, `${name} ${text}`, false));
  });
}

export interface WebSocketClient {
  /** Sends a ping or a text; resolves with what came back, null: nothing within `ms`. */
  ask(opcode: 1 | 9, text: string, ms: number): Promise<string | null>;
  close(): void;
}

/** Throws when the other end is no WebSocket server. */
export async function openWebSocket(host: string, port: number): Promise<WebSocketClient> {
  const key = randomBytes(16).toString('base64');
  const headers = {
    connection: 'Upgrade',
    upgrade: 'websocket',
    'sec-websocket-key': key,
    'sec-websocket-version': '13',
  };
  // The default agent would keep the connection alive by TCP.
  const outgoing = request({ host, port, headers, agent: false, family: isIPv6(host) ? 6 : 4 }).end();
  const [answer, socket] = (await once(outgoing, 'upgrade', { signal: AbortSignal.timeout(10_000) })) as [
    IncomingMessage,
    Duplex,
  ];
  if (answer.headers['sec-websocket-accept'] !== acceptOf(key)) throw new Error('the handshake is wrong');
  let told = (_: string): void => {};
  socket.on('error', () => {});
  readFrames(socket, (_, text) => told(text));
  return {
    ask: (opcode, text, ms) =>
      new Promise((resolve) => {
        const timer = setTimeout(() => resolve(null), ms);
        told = (answered) => {
          clearTimeout(timer);
          resolve(answered);
        };
        socket.write(frameOf(opcode, text, true));
      }),
    close: () => void socket.destroy(),
  };
}
