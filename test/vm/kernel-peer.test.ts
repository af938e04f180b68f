// SPDX-License-Identifier: Apache-2.0
// Linux as a backend has it, of Debian's kernel, takes out of the tunnel what we put in.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { openPacketPath, type PacketPath } from '../support/packet-path.js';
import { bootMachine, MISSING } from './machine.js';
import { byXdp, corrupt, ROWS, type Row, rowName, SHAPES, type Shape } from './rows.js';

const FILLER = 0x5a;
/** A port of the client's for each packet, by which its answer is known. */
const portOf = (row: Row, shape: number): number => 40_000 + ROWS.indexOf(row) * 100 + shape;
const CORRUPT = 99;

/** The line the kernel's answer makes. */
function answerLine(row: Row, shape: Shape, port: number): string {
  if (shape.protocol === 'tcp') return `synack ${port} ${row.inner === 4 ? '192.0.2.10' : '2001:db8::10'}`;
  return `udp ${port} ${shape.payload(row)} ${shape.payload(row) * FILLER}`;
}

let path: PacketPath;
let lines: string[] = [];
let sentCorrupt = 0;

/** What a batch's lines say of one kind. */
const of = (batch: string, kind: string): string[] =>
  lines.flatMap((line) => (line.startsWith(`${batch} ${kind}`) ? [line.slice(batch.length + 1)] : []));
const answersOf = (batch: string): string[] => [...of(batch, 'udp'), ...of(batch, 'synack')];

before(async () => {
  if (MISSING) return;
  path = await openPacketPath();
  const send = (row: Row, whole: Buffer): Buffer => byXdp(path, row, whole);
  const good = ROWS.flatMap((row) => SHAPES.map((shape, at) => send(row, shape.packet(row, portOf(row, at)))));
  const bad = ROWS.flatMap((row) => corrupt(row, (whole) => send(row, whole), portOf(row, CORRUPT)));
  sentCorrupt = bad.length;
  // Behind the corrupt ones, in the same queues, a good one of each row: when those are through, so are the others.
  const behind = ROWS.map((row) => good[ROWS.indexOf(row) * SHAPES.length] ?? assert.fail());
  lines = await bootMachine(
    [
      { name: 'good', frames: good, answers: good.length },
      { name: 'corrupt', frames: [...bad, ...behind], answers: behind.length },
    ],
    [
      { name: 'xdp_lb', variables: { features: 0xffff } },
      { name: 'xdp_lb', variables: { features: 0 } },
      { name: 'xdp_decap', variables: {} },
      { name: 'agent', variables: {} },
      {
        name: 'tc_nat',
        variables: { features: 0xffff, nat_room: 1024, flow_budget_per_window: 9 },
      },
    ],
  );
});
after(() => path?.close());

for (const row of ROWS)
  test(`kernel: takes ${rowName(row)} from xdp_lb`, { skip: MISSING }, (t) => {
    const ports = new Set(SHAPES.map((_, at) => String(portOf(row, at))));
    const got = answersOf('good').filter((line) => ports.has(line.split(' ')[1] ?? ''));
    const wanted = SHAPES.map((shape, at) => answerLine(row, shape, portOf(row, at)));
    t.diagnostic(`${got.length} of ${wanted.length} delivered or answered`);
    assert.deepEqual(got.sort(), wanted.sort());
  });

test('kernel: each device had its packets, and nothing had a wrong checksum', { skip: MISSING }, () => {
  const counts = of('good', 'count').join('\n');
  const received = (device: string): number =>
    Number(new RegExp(`${device}: +\\d+ +(\\d+)`).exec(counts)?.[1] ?? Number.NaN);
  const perDevice = (device: string, takes: (row: Row) => boolean): void =>
    assert.equal(received(device), ROWS.filter(takes).length * SHAPES.length, `${device}\n${counts}`);
  perDevice('tunl0', (row) => row.inner === 4 && row.outer === 4);
  perDevice('sit0', (row) => row.inner === 6 && row.outer === 4);
  perDevice('tunnel6', (row) => row.outer === 6);
  assert.deepEqual([checksumErrors('good'), errors('good')], [0, 0], counts);
});

/** The sum over both families of a column of UDP's counters. */
const udpCount = (batch: string, name: string): number => {
  const counts = of(batch, 'count');
  const [names = '', values = ''] = counts.filter((line) => line.includes('Udp: '));
  const v4 = values.split(' ')[names.split(' ').indexOf(name)];
  const v6 = counts.map((line) => new RegExp(`Udp6${name}\\s+(\\d+)`).exec(line)?.[1]).find(Boolean);
  return Number(v4) + Number(v6);
};
const checksumErrors = (batch: string): number => udpCount(batch, 'InCsumErrors');
const errors = (batch: string): number => udpCount(batch, 'InErrors');

test('kernel: takes no packet with a wrong inner checksum, nor GUE over IPv6 with a wrong outer one', {
  skip: MISSING,
}, () => {
  const [first] = SHAPES;
  assert.ok(first);
  const wanted = ROWS.map((row) => answerLine(row, first, portOf(row, 0)));
  assert.deepEqual(answersOf('corrupt').sort(), wanted.sort());
  assert.equal(checksumErrors('corrupt'), sentCorrupt, of('corrupt', 'count').join('\n'));
});

test('kernel: loads our objects', { skip: MISSING }, (t) => {
  const loads = lines.filter((line) => line.startsWith('load '));
  for (const line of loads) t.diagnostic(`${line}${/\d$/.test(line) ? ' instructions verified' : ''}`);
  assert.deepEqual(
    loads.filter((line) => line.endsWith(' done')),
    ['load xdp_lb done', 'load xdp_lb done', 'load xdp_decap done', 'load agent done', 'load tc_nat done'],
  );
});
