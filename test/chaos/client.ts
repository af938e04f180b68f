// SPDX-License-Identifier: Apache-2.0
// Child of the checker, in the client's namespace: keeps connections, on which every byte is accounted for. Arguments: port, VIPs.
import { connect, type Socket } from 'node:net';
import { type CheckerCommand, type CheckerReport, payloadOf, STALL_MS, type Violation } from './records.js';

const [port, ...vips] = process.argv.slice(2);
const LONG_PACE_MS = 200;
const SHORT_PACE_MS = 15;
const SHORT_RECORDS = 20;

interface Connection {
  readonly id: number;
  readonly short: boolean;
  readonly socket: Socket;
  readonly begun: number;
  tuple: string;
  backend: string | null;
  sequence: number; // sent
  answered: number;
  bytes: number;
  waitingSince: number; // ms; 0: not waiting
  over: boolean;
}

const open = new Set<Connection>();
const violations: Violation[] = [];
const leaving = new Set<string>();
let wanted = { long: 0, short: 0 };
let connections = 0;
let records = 0;

process.on('disconnect', () => process.exit(0));
process.on('message', (command: CheckerCommand) => {
  if (command.kind === 'keep') wanted = command;
  else {
    leaving.clear();
    for (const backend of command.backends) leaving.add(backend);
  }
});
setInterval(keep, 20);
setInterval(watch, 100);
setInterval(report, 200);
process.send?.('ready');

function keep(): void {
  const has = { long: 0, short: 0 };
  for (const { short } of open) has[short ? 'short' : 'long']++;
  // A few at a time: a client that opens hundreds at once measures itself.
  for (let some = 0; some < 8 && has.long < wanted.long; some++, has.long++) begin(false);
  for (let some = 0; some < 4 && has.short < wanted.short; some++, has.short++) begin(true);
}

function begin(short: boolean): void {
  const id = ++connections;
  const host = vips[id % vips.length] ?? '';
  const socket = connect({ host, port: Number(port) })
    .setNoDelay(true)
    .setEncoding('latin1');
  const connection: Connection = {
    ...{ id, short, socket, begun: Date.now(), tuple: `${host}:${port}, number ${id}`, backend: null },
    ...{ sequence: 0, answered: 0, bytes: 0, waitingSince: Date.now(), over: false },
  };
  open.add(connection);
  let rest = '';
  socket.on('connect', () => {
    connection.tuple = `${socket.localAddress}:${socket.localPort} > ${connection.tuple}`;
    send(connection);
  });
  socket.on('data', (text: unknown) => {
    const lines = (rest + String(text)).split('\n');
    rest = lines.pop() ?? '';
    for (const line of lines) answer(connection, line);
  });
  socket.on('error', (error: NodeJS.ErrnoException) =>
    violate(connection, error.code === 'ECONNREFUSED' ? 'refused' : 'reset', error.code ?? error.message),
  );
  socket.on('close', () => violate(connection, 'reset', 'closed by the other end'));
}

function send(connection: Connection): void {
  if (connection.over) return;
  const { id, sequence } = connection;
  const line = `${id} ${sequence} ${payloadOf(id, sequence)}\n`;
  connection.sequence++;
  connection.bytes += line.length;
  connection.waitingSince = Date.now();
  connection.socket.write(line, 'latin1');
}

function answer(connection: Connection, line: string): void {
  if (connection.over) return;
  const [backend = '', ...counts] = line.split(' ');
  const { id, answered, bytes, short } = connection;
  const wanted = `${id} ${answered} ${bytes}`;
  if (connection.backend !== null && connection.backend !== backend) {
    violate(connection, 'two backends', `answered by ${backend}`);
  } else if (counts.join(' ') !== wanted) {
    violate(connection, 'gap', `got "${line}", wanted "${backend} ${wanted}"`);
  } else {
    connection.backend = backend;
    connection.answered++;
    connection.waitingSince = 0;
    records++;
    if (leaving.has(backend) || (short && connection.answered === SHORT_RECORDS)) end(connection);
    else setTimeout(send, short ? SHORT_PACE_MS : LONG_PACE_MS * (0.5 + Math.random()), connection);
  }
}

function end(connection: Connection): void {
  connection.over = true;
  open.delete(connection);
  connection.socket.end();
}

function violate(connection: Connection, kind: Violation['kind'], detail: string): void {
  if (connection.over) return;
  const { tuple, backend, begun, answered } = connection;
  connection.over = true;
  open.delete(connection);
  connection.socket.destroy();
  if (backend !== null && leaving.has(backend)) return;
  if (violations.length < 1000)
    violations.push({ kind, connection: tuple, backend, begun, at: Date.now(), records: answered, detail });
}

function watch(): void {
  const now = Date.now();
  for (const connection of open)
    if (connection.waitingSince > 0 && now - connection.waitingSince > STALL_MS)
      violate(connection, 'stalled', `no answer to record ${connection.sequence - 1} for ${STALL_MS} ms`);
}

function report(): void {
  const byBackend: Record<string, number> = {};
  for (const { backend } of open) byBackend[backend ?? '?'] = (byBackend[backend ?? '?'] ?? 0) + 1;
  const message: CheckerReport = { connections, open: open.size, byBackend, records, violations };
  process.send?.(message);
}
