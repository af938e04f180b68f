// SPDX-License-Identifier: Apache-2.0
import type { ShownNode, ShownStatus } from './shapes.js';
import { type Column, formatTable, paint, printable, type TableStyle } from './table.js';
import { formatDuration, formatShare } from './units.js';

type Interface = ShownStatus['interfaces'][number];

/** The node's status for people: what it is and how it does, its interfaces, its flow table. `now` in Unix milliseconds. */
export function statusLines(status: ShownStatus, style: TableStyle, now: number): readonly string[] {
  const { store, flowTable: table } = status;
  const tint = (text: string, isBad: boolean) => (style.colours && isBad ? paint(text, 'red') : text);
  const node = [
    ['Node', status.node],
    ['Version', status.version],
    ['Up', formatDuration(now - Date.parse(status.startedAt))],
    ['Ready', tint(status.ready ? 'yes' : 'no', !status.ready)],
    ...status.notReady.map((reason) => ['', reason]),
    ['Store', `${store.kind}, revision ${store.revision}${store.connected ? '' : tint(', not connected', true)}`],
    ['Applied', tint(`revision ${status.appliedRevision}`, status.appliedRevision < store.revision)],
    ...(status.lastError === null ? [] : [['Error', tint(printable(status.lastError), true)]]),
    ...(status.warnings ?? []).map((warning, i) => [i === 0 ? 'Warnings' : '', printable(warning)]),
  ];
  const flows = [
    ['Entries', `${table.entries} of ${table.capacity} (${formatShare(table.entries / Math.max(1, table.capacity))})`],
    ['Inserts', `${table.inserts}`],
    ['Misses', `${table.misses}`],
    ['Evictions', `${table.evictions}`],
    ['Not kept', `${table.bucketFull} (bucket full), ${table.overBudget} (over the budget of new flows)`],
  ];
  const nat = status.nat && [
    [
      'Connections',
      `${status.nat.entries} of ${status.nat.capacity} (${formatShare(status.nat.entries / status.nat.capacity)})`,
    ],
    ...status.nat.programs.map(({ interface: name, program, mode, tag }) => [
      'Program',
      `${program} ${tag} on ${name} (${mode})`,
    ]),
  ];
  const vips = status.announce?.vips.map(({ address, announced, detail }) => [
    address,
    announced ? 'announced' : tint(`not announced: ${detail ?? 'not yet'}`, true),
  ]);
  const interfaces =
    status.interfaces.length === 0
      ? ['  none']
      : indent(formatTable(interfaceColumns(status.interfaces), status.interfaces, narrowed(style)));
  return [
    ...pairs(node),
    '',
    'Interfaces',
    ...interfaces,
    '',
    'Flow table',
    ...indent(pairs(flows)),
    ...(nat ? ['', 'NAT', ...indent(pairs(nat))] : []),
    ...(vips
      ? ['', `VIPs, table ${status.announce?.table}`, ...(vips.length > 0 ? indent(pairs(vips)) : ['  none'])]
      : []),
  ];
}

/** A node for people: what it says of itself, and its rings. */
export function nodeLines(node: ShownNode, style: TableStyle): readonly string[] {
  const { name, state, detail, host, version, startedAt, revision, appliedRevision, ready, notReady } = node;
  const rings = Object.entries(node.rings).map(([pool, ring]) => ({ pool, ...ring }));
  const facts = [
    ['Node', name],
    ['State', detail === null ? state : `${state}: ${printable(detail)}`],
    ['Ready', ready ? 'yes' : 'no'],
    ...notReady.map((reason) => ['', printable(reason)]),
    ['Host', printable(host ?? '-')],
    ['Version', printable(version ?? '-')],
    ['Since', printable(startedAt ?? '-')],
    ['Applied', `revision ${appliedRevision ?? '-'} of ${revision ?? '-'}`],
    ['VIPs', node.announcing === null ? 'not announced by this node' : `${node.announcing} announced`],
  ];
  const columns: readonly Column<(typeof rings)[number]>[] = [
    { title: 'POOL', text: ({ pool }) => pool },
    { title: 'DIGEST', text: ({ digest }) => digest },
    { title: 'GENERATION', kind: 'number', text: ({ generation }) => `${generation}` },
    { title: 'AS WANTED', text: ({ asWanted }) => (asWanted ? 'yes' : 'no') },
    { title: 'WITHOUT', text: ({ without }) => without.join(' ') },
  ];
  return [
    ...pairs(facts),
    '',
    'Rings',
    ...(rings.length > 0 ? indent(formatTable(columns, rings, narrowed(style))) : ['  none']),
  ];
}

function interfaceColumns(interfaces: readonly Interface[]): readonly Column<Interface>[] {
  const actions = [...new Set(interfaces.flatMap(({ packets }) => Object.keys(packets)))];
  return [
    { title: 'NAME', text: ({ name }) => name },
    { title: 'XDP', text: ({ mode }) => mode, colour: ({ mode }) => (mode === 'generic' ? 'yellow' : null) },
    { title: 'PROGRAM', text: ({ program }) => program },
    { title: 'TAG', text: ({ tag }) => tag },
    ...actions.map(
      (action): Column<Interface> => ({
        title: action.toUpperCase(),
        kind: 'number',
        text: ({ packets }) => `${packets[action] ?? 0}`,
      }),
    ),
  ];
}

function pairs(entries: readonly (readonly string[])[]): string[] {
  const width = Math.max(...entries.map(([name = '']) => name.length));
  return entries.map(([name = '', value = '']) => `${name.padEnd(width)}  ${value}`);
}

function indent(lines: readonly string[]): string[] {
  return lines.map((line) => `  ${line}`);
}

function narrowed(style: TableStyle): TableStyle {
  return { ...style, width: style.width === null ? null : style.width - 2 };
}
