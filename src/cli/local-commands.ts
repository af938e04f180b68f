// SPDX-License-Identifier: Apache-2.0
import { type Command, InvalidArgumentError } from 'commander';
import { FairleadError } from '../model/errors.js';
import type { AgentPart } from './agent-commands.js';
import type { Answer } from './client.js';
import { doctorCommand, type Finding } from './doctor-command.js';
import { integerOption, withExamples } from './help.js';
import type { Io } from './io.js';
import { type Globals, openSession } from './session.js';
import type { TokenPart } from './token-commands.js';
import { version } from './version.js';

/** Which lab, by the prefix of its namespaces, and how large. */
export interface LabOptions {
  readonly name: string;
  readonly backends: number;
  readonly balancers: number;
}

/** What there is of a lab; `pid` null: no process runs it. */
export interface LabState {
  readonly name: string;
  readonly pid: number | null;
  readonly namespaces: readonly string[];
  readonly processes: number; // inside the namespaces
  readonly socket: string | null; // of the daemon's API
}

/** From where to where: `file`, `file:PATH` or `etcd`. */
export interface MigrateOptions {
  readonly from: string;
  readonly to: string;
  readonly dryRun: boolean;
}

/** What was migrated, or would be; `notes` are sentences. */
export interface Migrated {
  readonly from: string;
  readonly to: string;
  readonly revision: number;
  readonly services: number;
  readonly pools: number;
  readonly written: number;
  readonly notes: readonly string[];
}

/** The parts of Fairlead that run here instead of being asked over the API. Functions that answer a number end with it as the exit code. */
export interface LocalParts extends AgentPart {
  /** `flags` are configuration keys and their values as text, as loadConfig takes them; `configPath` null: the default. */
  serve(configPath: string | null, flags: Readonly<Record<string, string>>): Promise<number>;
  /** Copies all from one store to another; `configPath` names both. */
  migrate(configPath: string | null, options: MigrateOptions): Promise<Migrated>;
  /** Looks at this machine as the configuration says; `configPath` null: the default. */
  doctor(configPath: string | null): Promise<readonly Finding[]>;
  /** Takes everything of Fairlead below this bpffs off the machine; answers what it removed, one phrase each. */
  detach(bpffs: string): Promise<readonly string[]>;
  readonly token: TokenPart;
  readonly lab: {
    up(options: LabOptions): Promise<LabState>;
    /** False when there was nothing to take down. */
    down(name: string): Promise<boolean>;
    run(options: LabOptions & { readonly once: boolean }): Promise<number>;
    status(name: string): Promise<LabState>;
  };
}

/** The commands that run on this machine: `serve`, `detach`, `lab`, `version`. `exit` is told the exit code of those that have one. */
export function localCommands(program: Command, io: Io, parts: LocalParts, exit: (code: number) => void): void {
  const serve = program
    .command('serve')
    .description('run the node: load and attach the programs, keep the kernel as the store says, answer the API')
    .option('--config <file>', 'the configuration (default: /etc/fairlead/fairlead.yaml)')
    .option('--node <name>', 'same as --set node=NAME')
    .option('--interface <name[:xdp]>', 'an interface, with auto, native or generic; once for each', appended)
    .option('--set <key=value>', 'any key of the configuration, over file and environment; repeatable', setting);
  withExamples(serve, 'serve --config fairlead.yaml --set flows.perCpu=65536').action(
    async (options: { config?: string; node?: string; interface?: string[]; set?: Record<string, string> }) => {
      const { socket } = program.opts<Globals>();
      const flags = {
        ...options.set,
        ...(options.node === undefined ? {} : { node: options.node }),
        ...(options.interface === undefined ? {} : { interfaces: options.interface.join(',') }),
        ...(socket === undefined ? {} : { 'api.socket': socket }),
      };
      exit(await parts.serve(options.config ?? null, flags));
    },
  );

  const migrate = program
    .command('migrate')
    .description('copy everything from one store to another, which has to be empty; no flow moves by it')
    .requiredOption('--from <store>', 'file or etcd, as the configuration has them, or file:PATH')
    .requiredOption('--to <store>', 'the same')
    .option('--dry-run', 'read, check and count only', false)
    .option('--config <file>', 'the configuration (default: /etc/fairlead/fairlead.yaml)');
  withExamples(migrate, 'migrate --from file --to etcd --dry-run').action(
    async ({ config, ...options }: MigrateOptions & { config?: string }, command: Command) => {
      const { from, to, dryRun } = options;
      const migrated = await parts.migrate(config ?? null, { from, to, dryRun });
      const session = await openSession(io, command);
      session.show({ ...migrated, dryRun }, () => migratedLines(migrated, dryRun));
    },
  );

  const detach = program
    .command('detach')
    .description('take every program, link and pinned table of Fairlead off this machine; balancing stops')
    .option('--bpffs <path>', 'where the daemon pins them, as in its configuration', '/sys/fs/bpf');
  withExamples(detach, 'detach').action(async ({ bpffs }: { bpffs: string }) => {
    const removed = await parts.detach(bpffs);
    io.out(removed.length === 0 ? 'nothing of Fairlead was attached\n' : `${removed.join('\n')}\n`);
  });

  doctorCommand(program, io, parts.doctor, exit);

  labCommands(program, io, parts.lab, exit);

  withExamples(
    program.command('version').description('show the version of this program and of the daemon'),
    'version',
  ).action(async (_options: object, command: Command) => {
    const session = await openSession(io, command);
    const daemon = await session.call('GET', '/version').then(versionIn, absent);
    session.show({ client: version, daemon }, () => [`fairlead  ${version}`, `daemon    ${daemon ?? 'not reachable'}`]);
  });
}

function migratedLines({ from, to, revision, services, pools, written, notes }: Migrated, dryRun: boolean): string[] {
  return [
    `from   ${from}, revision ${revision}`,
    `to     ${to}`,
    `holds  ${services} services, ${pools} pools`,
    ...notes.map((note) => `note   ${note}`),
    dryRun ? 'dry run: nothing was written' : `done: ${written} documents written`,
  ];
}

function labCommands(program: Command, io: Io, lab: LocalParts['lab'], exit: (code: number) => void): void {
  const group = program
    .command('lab')
    .description('a lab of network namespaces on this machine: client, router, balancer, backends');
  withExamples(group.helpCommand(false).usage('<command>'), 'lab run', 'lab down');
  const verb = (name: string, description: string) =>
    group
      .command(name)
      .description(description)
      .option('--name <prefix>', 'which lab: the prefix of its namespaces', 'fairlead');
  const sized = (command: Command) =>
    command
      .addOption(integerOption('--backends <n>', 'how many backends', 1, 64).default(3))
      .addOption(integerOption('--balancers <n>', 'how many balancers, behind ECMP', 1, 2).default(1));
  const show = async (command: Command, state: LabState) => {
    const session = await openSession(io, command);
    session.show(state, () => stateLines(state));
  };

  withExamples(sized(verb('up', 'bring the lab up and leave it standing')), 'lab up --backends 4 --balancers 2').action(
    async (options: LabOptions, command: Command) => show(command, await lab.up(options)),
  );
  withExamples(verb('down', 'take the lab down, whatever is left of it'), 'lab down').action(
    async ({ name }: LabOptions) => {
      io.out((await lab.down(name)) ? `lab "${name}" is down\n` : `there is no lab "${name}"\n`);
    },
  );
  const run = sized(verb('run', 'bring the lab up, send traffic and show it until Ctrl-C, take the lab down'));
  run.option('--once', 'run the scenario once, print its table; exit code 1 when a connection failed');
  withExamples(run, 'lab run --once').action(async ({ once = false, ...options }: LabOptions & { once?: boolean }) => {
    exit(await lab.run({ ...options, once }));
  });
  withExamples(verb('status', 'show what there is of the lab'), 'lab status').action(
    async ({ name }: LabOptions, command: Command) => show(command, await lab.status(name)),
  );
}

/** A lab may have 67 of them: too many for a line. */
function rangeOf(namespaces: readonly string[]): string {
  if (namespaces.length > 1) return `${namespaces.length}, from ${namespaces[0]} to ${namespaces.at(-1)}`;
  return namespaces[0] ?? 'none';
}

function stateLines({ name, pid, namespaces, processes, socket }: LabState): readonly string[] {
  if (pid === null && namespaces.length === 0) return [`there is no lab "${name}"`];
  return [
    `lab         ${name}`,
    `process     ${pid ?? 'none; "fairlead lab down" removes what is left'}`,
    `namespaces  ${rangeOf(namespaces)}`,
    `inside      ${processes} processes`,
    `socket      ${socket ?? 'none'}`,
  ];
}

function appended(text: string, before: readonly string[] = []): readonly string[] {
  return [...before, text];
}

function setting(text: string, before: Readonly<Record<string, string>> = {}): Readonly<Record<string, string>> {
  const [key, value] = text.split(/=(.*)/s);
  if (!key || value === undefined) throw new InvalidArgumentError('Wanted KEY=VALUE, as flows.perCpu=65536.');
  return { ...before, [key]: value };
}

function versionIn({ body }: Answer): string {
  return (body as { readonly version: string }).version;
}

function absent(error: unknown): null {
  if (error instanceof FairleadError && error.code === 'unavailable') return null;
  throw error;
}
