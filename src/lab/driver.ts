// SPDX-License-Identifier: Apache-2.0
// Child of the lab, inside the client's namespace: sends requests, each from a fresh connection or socket.
// Argument: the targets as JSON.
import { createSocket } from 'node:dgram';
import { request } from 'node:http';
import { isIPv6 } from 'node:net';
import { messageOf } from '../model/errors.js';
import type { DriverCommand, DriverReport, PhaseCount, Target } from './traffic.js';

const timeoutMs = 5_000;
const targets = JSON.parse(process.argv[2] ?? '[]') as Target[];
const phases: Record<string, PhaseCount> = {};
const errors: string[] = [];
let phase = '';
let rate = 0; // requests a second
let left = 0; // to send in this run
let credit = 0; // requests that are due
let creditedAt = 0;
let next = 0; // over all runs; chooses target and source port
let underWay = 0;

process.on('disconnect', () => process.exit(0)); // the lab has ended, or died
if (!process.connected) process.exit(0);
process.on('message', (command: DriverCommand) => {
  if (command.kind === 'stop') {
    left = 0;
    return;
  }
  phase = command.phase;
  rate = command.rate;
  left = command.count ?? Number.POSITIVE_INFINITY;
  credit = 0;
  creditedAt = Date.now();
});
setInterval(report, 250);
setInterval(() => {
  const now = Date.now();
  // After a stall at most a tenth of a second's worth is made up for: never a flood.
  credit = Math.min(credit + (rate * (now - creditedAt)) / 1000, Math.max(1, rate / 10));
  creditedAt = now;
  for (; credit >= 1 && left > 0; credit--, left--) send();
}, 10);
process.send?.('ready');

function send(): void {
  const target = targets[next % targets.length];
  if (!target) return;
  // A source port is not used again soon, so each request is a flow the balancer has not seen.
  const localPort = 10_000 + (Math.floor(next / targets.length) % 50_000);
  next++;
  underWay++;
  const count: PhaseCount = phases[phase] ?? { requests: 0, failed: 0, backends: {} };
  phases[phase] = count; // a request counts in the phase it began in
  (target.protocol === 'http' ? sendHttp : sendUdp)(target, localPort)
    .then((backend) => {
      const backends = count.backends[target.service] ?? {};
      count.backends[target.service] = backends;
      backends[backend] = (backends[backend] ?? 0) + 1;
    })
    .catch((error: unknown) => {
      count.failed++;
      if (errors.length < 5) errors.push(`${target.service} from port ${localPort}: ${messageOf(error)}`);
    })
    .finally(() => {
      count.requests++;
      underWay--;
      if (idle()) report();
    });
}

/** GET / on a connection of its own; resolves with the backend that answered. */
function sendHttp(target: Target, localPort: number): Promise<string> {
  return new Promise((resolve, reject) => {
    const outgoing = request(
      { host: target.address, port: target.port, localPort, agent: false, signal: AbortSignal.timeout(timeoutMs) },
      (response) => {
        const backend = response.headers['x-backend'];
        response.on('error', reject).on('end', () => {
          if (response.statusCode === 200 && typeof backend === 'string') resolve(backend);
          else reject(new Error(`got status ${response.statusCode}, want 200 with x-backend`));
        });
        response.resume();
      },
    );
    outgoing.on('error', reject).end();
  });
}

/** One datagram from a socket of its own; resolves with the backend that echoed it. */
function sendUdp(target: Target, localPort: number): Promise<string> {
  return new Promise<string>((resolve, reject) => {
    const six = isIPv6(target.address);
    const socket = createSocket({ type: six ? 'udp6' : 'udp4', ipv6Only: six });
    const payload = `request ${next}`;
    const timer = setTimeout(() => end(() => reject(new Error(`no answer in ${timeoutMs} ms`))), timeoutMs);
    const end = (settle: () => void) => {
      clearTimeout(timer);
      socket.close();
      settle();
    };
    socket.on('error', (error) => end(() => reject(error)));
    socket.on('message', (answer) => {
      const [, backend, echoed] = /^(\S+) (.*)$/s.exec(answer.toString()) ?? [];
      if (backend && echoed === payload) end(() => resolve(backend));
      else end(() => reject(new Error(`got answer "${answer}", want "BACKEND ${payload}"`)));
    });
    socket.bind(localPort, () => {
      socket.connect(target.port, target.address, () => socket.send(payload));
    });
  });
}

function idle(): boolean {
  return left === 0 && underWay === 0;
}

function report(): void {
  const message: DriverReport = { phases, errors, idle: idle() };
  process.send?.(message);
}
