// SPDX-License-Identifier: Apache-2.0
import { type Argument, type Command, type HelpConfiguration, InvalidArgumentError, Option } from 'commander';

/** Ends the help of a command with examples, one a line, written without the program's name. */
export function withExamples(command: Command, ...examples: readonly string[]): Command {
  const title = examples.length === 1 ? 'Example:' : 'Examples:';
  const lines = examples.map((each) => `  fairlead ${each}`);
  return command
    .showHelpAfterError(`see "${fullName(command)} --help"`)
    .addHelpText('after', `\n${title}\n${lines.join('\n')}`);
}

/** How help is laid out: no word more than a reader needs. */
export function helpLayout(program: Command): HelpConfiguration {
  return {
    showGlobalOptions: true,
    visibleGlobalOptions: (command) => program.options.filter((option) => concerns(option, command)),
    subcommandTerm: (command) => [command.name(), ...command.registeredArguments.map(argumentTerm)].join(' '),
    optionDescription: ({ description, argChoices, defaultValue }) =>
      described(description, argChoices, typeof defaultValue === 'boolean' ? undefined : defaultValue),
    argumentDescription: ({ description, argChoices }) => described(description, argChoices, undefined),
  };
}

// Of the program's options, those that do something for this command; most commands heed all but the first.
function concerns(option: Option, command: Command): boolean {
  const [, verb = '', below = ''] = fullName(command).split(' ');
  const name = option.attributeName();
  return (heeded.get(`${verb} ${below}`) ?? heeded.get(verb))?.includes(name) ?? name !== 'version';
}

const heeded: ReadonlyMap<string, readonly string[]> = new Map([
  ['', []], // the program lists them as its own
  ['serve', ['socket']],
  ['agent', []],
  ['doctor', ['output']],
  ['agent key', ['output', 'socket']],
  ['lab', ['output']],
  ['token', ['output']],
  ['completion', []],
]);

function described(text: string, choices: readonly string[] | undefined, value: unknown): string {
  const list = choices === undefined ? '' : `: ${choices.slice(0, -1).join(', ')} or ${choices.at(-1)}`;
  return `${text}${list}${value === undefined ? '' : ` (default: ${value})`}`;
}

function argumentTerm(argument: Argument): string {
  return argument.required ? `<${argument.name()}>` : `[${argument.name()}]`;
}

function fullName(command: Command): string {
  return command.parent === null ? command.name() : `${fullName(command.parent)} ${command.name()}`;
}

/** An option that takes a whole number in this range. */
export function integerOption(flags: string, description: string, min: number, max: number): Option {
  return new Option(flags, description).argParser((text: string) => integerOf(text, min, max));
}

/** Reads a whole number in this range. Throws InvalidArgumentError. */
export function integerOf(text: string, min: number, max: number): number {
  const value = /^\d{1,15}$/.test(text) ? Number(text) : Number.NaN;
  if (!(value >= min && value <= max)) throw new InvalidArgumentError(`Wanted a whole number from ${min} to ${max}.`);
  return value;
}

/** Ends a command because of how it was called: exit code 2. */
export function misused(command: Command, message: string): never {
  return command.error(`error: ${message}`, { exitCode: 2, code: 'fairlead.usage' });
}
