// SPDX-License-Identifier: Apache-2.0
import type { ShownStatus } from './shapes.js';
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
