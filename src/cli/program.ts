// SPDX-License-Identifier: Apache-2.0
import { Argument, Command, InvalidArgumentError, Option } from 'commander';
import { defaultSocket, urlOf } from './access.js';
import { agentCommands } from './agent-commands.js';
import { backendCommands } from './backend-commands.js';
import { completionScript, type Shell, shells } from './completion.js';
import { declarativeCommands } from './declarative-commands.js';
import { eventCommands } from './event-commands.js';
import { helpLayout, withExamples } from './help.js';
import type { Io } from './io.js';
import { type LocalParts, localCommands } from './local-commands.js';
import { lookCommands } from './look-commands.js';
import { objectCommands } from './object-commands.js';
import { tokenCommands } from './token-commands.js';
import { version } from './version.js';

/**
 * The command line as a tree of commands. It never ends the process: parsing throws CommanderError instead, after its text is
 * written to `io`. `exit` is told the exit code of the commands that decide it themselves.
 */
export function buildProgram(io: Io, parts: LocalParts, exit: (code: number) => void): Command {
  const program = new Command('fairlead')
    .description('Fairlead, a layer-4 load balancer: XDP forwarding with direct return, every flow counted.')
    .version(version, '-V, --version', 'show the version')
    .helpOption('-h, --help', 'show the help')
    .configureOutput({
      writeOut: io.out,
      writeErr: io.err,
      outputError: (text, write) => write(text.replace(/^error: /, 'fairlead: ')),
      getOutHelpWidth: () => Math.min(io.screen()?.columns ?? 100, 100),
      getErrHelpWidth: () => Math.min(io.screen()?.columns ?? 100, 100),
    })
    .exitOverride()
    .addOption(
      new Option('-o, --output <format>', 'how to print results')
        .choices(['table', 'wide', 'name', 'json', 'yaml'])
        .default('table'),
    )
    .addOption(
      new Option('--socket <path>', `the daemon's socket (default: $FAIRLEAD_SOCKET or ${defaultSocket})`).conflicts(
        'url',
      ),
    )
    .option('--url <url>', 'the daemon over TCP instead, as https://lb1.example:7443 (default: $FAIRLEAD_URL)', readUrl)
    .option('--token-file <file>', 'a file with the token to send (default: $FAIRLEAD_TOKEN_FILE)')
    .option('--ca <file>', "who signed the daemon's certificate, PEM (default: $FAIRLEAD_CA or the system's)")
    .option('--cert <file>', 'a client certificate, PEM, with --key (default: $FAIRLEAD_CERT)')
    .option('--key <file>', 'its key, PEM (default: $FAIRLEAD_KEY)')
    .option('--no-headers', 'print tables without titles');
  program.configureHelp(helpLayout(program)).usage('[options] <command>');
  withExamples(program, 'services ls', 'lab run');

  program.commandsGroup('Run:');
  localCommands(program, io, parts, exit);
  agentCommands(program, io, parts, exit);
  program.commandsGroup('Manage:');
  objectCommands(program, io);
  backendCommands(program, io);
  declarativeCommands(program, io, exit);
  program.commandsGroup('Look:');
  lookCommands(program, io);
  eventCommands(program, io);
  program.commandsGroup('Other:');
  tokenCommands(program, io, parts.token);
  completionCommand(program, io);
  program.helpCommand('help [command]', 'show the help of a command');
  return program;
}

function readUrl(text: string): URL {
  const url = urlOf(text);
  if (url !== null) return url;
  throw new InvalidArgumentError('Wanted a URL such as http://127.0.0.1:7080.');
}

function completionCommand(program: Command, io: Io): void {
  const completion = program
    .command('completion')
    .description('print the completion script of a shell')
    .addArgument(new Argument('<shell>', 'the shell').choices(shells));
  withExamples(completion, 'completion bash > /etc/bash_completion.d/fairlead').action((shell: Shell) =>
    io.out(completionScript(program, shell)),
  );
}
