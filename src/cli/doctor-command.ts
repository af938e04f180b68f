// SPDX-License-Identifier: Apache-2.0
import type { Command } from 'commander';
import { withExamples } from './help.js';
import type { Io } from './io.js';
import { openSession } from './session.js';
import { type Column, formatTable } from './table.js';

/** One thing that was looked at; `failed` keeps the daemon from its work, `warning` does not. */
export interface Finding {
  readonly check: string;
  readonly status: 'ok' | 'warning' | 'failed';
  readonly detail: string;
}

const colours = { ok: 'green', warning: 'yellow', failed: 'red' } as const;

const columns: readonly Column<Finding>[] = [
  { title: 'CHECK', text: ({ check }) => check },
  { title: 'STATUS', text: ({ status }) => status, colour: ({ status }) => colours[status] },
  { title: 'DETAIL', text: ({ detail }) => detail },
];

/** The command `doctor`: exit code 1 when something failed. `examine` looks at this machine as the configuration says. */
export function doctorCommand(
  program: Command,
  io: Io,
  examine: (configPath: string | null) => Promise<readonly Finding[]>,
  exit: (code: number) => void,
): void {
  const doctor = program
    .command('doctor')
    .description('check this machine: kernel, BTF, capabilities, bpffs, JIT, XDP and MTU of the interfaces, etcd')
    .option('--config <file>', 'the configuration (default: /etc/fairlead/fairlead.yaml)');
  withExamples(doctor, 'doctor --config fairlead.yaml', 'doctor -o json').action(
    async ({ config }: { config?: string }, command: Command) => {
      const items = await examine(config ?? null);
      const isOk = items.every(({ status }) => status !== 'failed');
      const session = await openSession(io, command);
      // A sentence that is cut helps nobody.
      session.show({ ok: isOk, items }, () => formatTable(columns, items, { ...session.style, width: null }));
      if (!isOk) exit(1);
    },
  );
}
