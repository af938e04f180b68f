// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Column, formatTable } from '../../src/cli/table.js';
import { formatBytes, formatDuration, formatShare } from '../../src/cli/units.js';

interface Row {
  readonly name: string;
  readonly where: string;
  readonly count: number;
}

const columns: readonly Column<Row>[] = [
  { title: 'NAME', text: ({ name }) => name },
  {
    title: 'COUNT',
    kind: 'number',
    text: ({ count }) => `${count}`,
    colour: ({ count }) => (count > 9 ? 'red' : null),
  },
  { title: 'WHERE', text: ({ where }) => where },
];
const rows: readonly Row[] = [
  { name: 'a', where: 'somewhere far away', count: 7 },
  { name: 'longer-name', where: 'here', count: 1234567 },
];
const plain = { width: null, headers: true, colours: false };

test('cli table: text to the left, numbers to the right, two spaces between, none at the end', () => {
  assert.deepEqual(formatTable(columns, rows, plain), [
    'NAME           COUNT  WHERE',
    'a                  7  somewhere far away',
    'longer-name  1234567  here',
  ]);
  assert.deepEqual(
    formatTable(columns, rows, { ...plain, headers: false })[0],
    'a                  7  somewhere far away',
  );
});

test('cli table: the widest text is cut until the table fits; numbers and titles never are', () => {
  assert.deepEqual(formatTable(columns, rows, { ...plain, width: 30 }), [
    'NAME         COUNT  WHERE',
    'a                7  somewhere…',
    'longer-n…  1234567  here',
  ]);
  for (let width = 1; width <= 45; width++) {
    const lines = formatTable(columns, rows, { ...plain, width });
    const longest = Math.max(...lines.map((line) => [...line].length));
    assert.ok(longest <= Math.max(width, 4 + 2 + 7 + 2 + 5), `${width}: ${longest}`);
    assert.ok(lines[2]?.includes('1234567'));
  }
});

test('cli table: a column to spare goes before anything is cut', () => {
  const [name, count, where] = columns as [Column<Row>, Column<Row>, Column<Row>];
  const some = [name, { ...where, spare: true }, count];
  assert.match(formatTable(some, rows, { ...plain, width: 40 })[0] ?? '', /^NAME +WHERE +COUNT$/);
  assert.deepEqual(formatTable(some, rows, { ...plain, width: 39 }), [
    'NAME           COUNT',
    'a                  7',
    'longer-name  1234567',
  ]);
});

test('cli table: a colour changes nothing but the colour', () => {
  const coloured = formatTable(columns, rows, { ...plain, colours: true });
  assert.equal(coloured[2], 'longer-name  \x1b[31m1234567\x1b[39m  here');
  assert.deepEqual(
    coloured.map((line) => line.replaceAll('\x1b[31m', '').replaceAll('\x1b[39m', '')),
    formatTable(columns, rows, plain),
  );
});

test('cli table: nothing in a cell reaches the terminal as a command', () => {
  const row = { name: '\x1b[2Jx\n\u009b', where: '', count: 0 };
  assert.deepEqual(formatTable(columns, [row], { ...plain, headers: false }), ['?[2Jx??  0']);
});

test('cli units: bytes have three digits and an IEC unit', () => {
  const cases: [number, string][] = [
    [0, '0 B'],
    [999, '999 B'],
    [1000, '0.98 KiB'],
    [1536, '1.50 KiB'],
    [10_240, '10.0 KiB'],
    [1_048_576, '1.00 MiB'],
    [46_500_000, '44.3 MiB'],
    [Number.MAX_SAFE_INTEGER, '8.00 PiB'],
  ];
  for (const [bytes, text] of cases) assert.equal(formatBytes(bytes), text);
});

test('cli units: spans show their two largest units, shares one decimal', () => {
  const cases: [number, string][] = [
    [-5, '0s'],
    [999, '0s'],
    [59_999, '59s'],
    [192_000, '3m12s'],
    [3_600_000, '1h'],
    [3_601_000, '1h'],
    [187_200_000, '2d4h'],
  ];
  for (const [ms, text] of cases) assert.equal(formatDuration(ms), text);
  assert.equal(formatShare(1 / 3), '33.3%');
});
