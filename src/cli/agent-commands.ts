// SPDX-License-Identifier: Apache-2.0
import type { Command } from 'commander';
import { withExamples } from './help.js';
import type { Io } from './io.js';
import { openSession } from './session.js';

/** The part of Fairlead that runs on a backend. */
export interface AgentPart {
  /** `configPath` null: the default. Ends with a number as the exit code. */
  agent(configPath: string | null): Promise<number>;
}

/** `fairlead agent`, and `agent key`, which is asked for on a balancer. */
export function agentCommands(program: Command, io: Io, { agent }: AgentPart, exit: (code: number) => void): void {
  const group = program
    .command('agent')
    .description('run on a backend: take off the tunnels of the balancers, send on what another backend owns')
    .usage('[options] [key]')
    .option('--config <file>', 'the configuration (default: /etc/fairlead/agent.yaml)');
  withExamples(group.helpCommand(false), 'agent --config agent.yaml', 'agent key').action(
    async ({ config }: { config?: string }) => exit(await agent(config ?? null)),
  );
  withExamples(
    group.command('key').description('on a balancer: print the key that the agents of its backends are to have'),
    'agent key > /etc/fairlead/agent.key',
  ).action(async (_options: object, command: Command) => {
    const session = await openSession(io, command);
    const { key } = (await session.call('GET', '/agent-key')).body as { readonly key: string };
    session.show({ key }, () => [key]);
  });
}
