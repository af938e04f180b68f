// SPDX-License-Identifier: Apache-2.0
import type { Command, Option } from 'commander';

export const shells = ['bash', 'zsh', 'fish'] as const;
export type Shell = (typeof shells)[number];

/** A place in the command line: the words of the command so far, and what may come next. */
interface Place {
  readonly path: string; // 'services put', '' for the program
  readonly verbs: readonly Command[];
  readonly choices: readonly string[];
  readonly options: readonly Option[];
}

/** The completion script of a shell for this program, made from its commands and options. */
export function completionScript(program: Command, shell: Shell): string {
  const places = placesOf(program, '');
  if (shell === 'bash') return bashScript(places);
  return shell === 'zsh' ? zshScript(places) : fishScript(places);
}

function placesOf(command: Command, path: string): Place[] {
  const help = command.createHelp();
  const verbs = command.commands;
  const place: Place = {
    path,
    verbs,
    choices: command.registeredArguments.flatMap(({ argChoices }) => argChoices ?? []),
    options: [...help.visibleOptions(command), ...help.visibleGlobalOptions(command)],
  };
  return [place, ...verbs.flatMap((verb) => placesOf(verb, `${path} ${verb.name()}`.trim()))];
}

function flagsOf({ short, long }: Option): string[] {
  return [short, long].filter((flag) => flag !== undefined);
}

// Options whose value is a choice or a file; the value of any other option is not completed.
function valuesOf(places: readonly Place[]): { files: string[]; choices: Map<string, string> } {
  const files = new Set<string>();
  const choices = new Map<string, string>();
  for (const option of places.flatMap(({ options }) => options)) {
    for (const flag of flagsOf(option)) {
      if (option.argChoices) choices.set(flag, option.argChoices.join(' '));
      else if (/<(file|path)>/i.test(option.flags)) files.add(flag);
    }
  }
  return { files: [...files], choices };
}

function wordsOf({ verbs, choices, options }: Place): string {
  return [...verbs.map((verb) => verb.name()), ...choices, ...options.flatMap(flagsOf)].join(' ');
}

// The words so far make the path: those that lead from one place to the next; options and arguments do not.
function walk(places: readonly Place[]): string {
  const steps = places.filter(({ path }) => path !== '').map(({ path }) => `'${path}'`);
  return `    case "\${place:+$place }$word" in
      ${steps.join('|')}) place="\${place:+$place }$word" ;;
    esac`;
}

function bashScript(places: readonly Place[]): string {
  const { files, choices } = valuesOf(places);
  return `# bash completion for fairlead: source <(fairlead completion bash)
_fairlead() {
  local cur=\${COMP_WORDS[COMP_CWORD]} prev=\${COMP_WORDS[COMP_CWORD-1]} place= word words=
  for word in "\${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
${walk(places)}
  done
  case $prev in
    ${files.join('|')}) COMPREPLY=($(compgen -f -- "$cur")); return ;;
${[...choices].map(([flag, values]) => `    ${flag}) COMPREPLY=($(compgen -W '${values}' -- "$cur")); return ;;`).join('\n')}
  esac
  case $place in
${places.map((place) => `    '${place.path}') words='${wordsOf(place)}' ;;`).join('\n')}
  esac
  COMPREPLY=($(compgen -W "$words" -- "$cur"))
}
complete -o filenames -F _fairlead fairlead
`;
}

function zshScript(places: readonly Place[]): string {
  const { files, choices } = valuesOf(places);
  const described = ({ verbs, choices, options }: Place) =>
    [
      ...verbs.map((verb) => `${verb.name()}:${verb.description()}`),
      ...options.flatMap((option) => flagsOf(option).map((flag) => `${flag}:${option.description}`)),
      ...choices,
    ]
      .map(quoted)
      .join(' ');
  return `#compdef fairlead
# zsh completion for fairlead: fairlead completion zsh > "\${fpath[1]}/_fairlead"
_fairlead() {
  local place= word
  local -a entries
  for word in "\${(@)words[2,CURRENT-1]}"; do
${walk(places)}
  done
  case $words[CURRENT-1] in
    ${files.join('|')}) _files; return ;;
${[...choices].map(([flag, values]) => `    ${flag}) compadd ${values}; return ;;`).join('\n')}
  esac
  case $place in
${places.map((place) => `    '${place.path}') entries=(${described(place)}) ;;`).join('\n')}
  esac
  _describe 'fairlead' entries
}
if [ "$funcstack[1]" = _fairlead ]; then _fairlead "$@"; else compdef _fairlead fairlead; fi
`;
}

function fishScript(places: readonly Place[]): string {
  const steps = places.filter(({ path }) => path !== '').map(({ path }) => `'${path}'`);
  const lines = places.flatMap(({ path, verbs, choices, options }) => {
    const when = `complete -c fairlead -n "__fairlead_at '${path}'"`;
    return [
      ...verbs.map((verb) => `${when} -a ${verb.name()} -d ${quoted(verb.description())}`),
      ...choices.map((choice) => `${when} -a ${choice}`),
      ...options.map((option) => `${when} ${fishOption(option)} -d ${quoted(option.description)}`),
    ];
  });
  return `# fish completion for fairlead: fairlead completion fish | source
function __fairlead_at
  set -l place ''
  for word in (commandline -opc)[2..-1]
    set -l next (string trim "$place $word")
    contains -- $next ${steps.join(' ')}; and set place $next
  end
  test "$place" = "$argv[1]"
end
complete -c fairlead -f
${lines.join('\n')}
`;
}

function fishOption(option: Option): string {
  const names = [option.short && `-s ${option.short.slice(1)}`, option.long && `-l ${option.long.slice(2)}`];
  const isFile = /<(file|path)>/i.test(option.flags);
  const value = option.argChoices
    ? `-x -a ${quoted(option.argChoices.join(' '))}`
    : isFile
      ? '-r -F'
      : option.required
        ? '-x'
        : '';
  return [...names.filter((name) => name !== undefined), value].filter((part) => part !== '').join(' ');
}

function quoted(text: string): string {
  return `'${text.replaceAll("'", '’')}'`;
}
