// SPDX-License-Identifier: Apache-2.0
// Every example of README.md, docs/ and --help, executed against a real daemon.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import type { Command } from 'commander';
import { processIo } from '../../src/cli/io.js';
import { buildProgram } from '../../src/cli/program.js';
import { loadConfig } from '../../src/controlplane/config.js';
import { cli, type Ended, noParts } from '../support/cli.js';
import { tracesOf } from '../support/lab.js';
import { openServedLab, type ServedLab } from '../support/served-lab.js';

const name = 're-ex';
const root = fileURLToPath(new URL('../../../', import.meta.url));
let lab: ServedLab;

const files: Readonly<Record<string, object>> = {
  'web.yaml': { name: 'web', backends: [{ name: 'b1', address: '10.0.0.1' }] },
  'service.yaml': { name: 'web', address: '192.0.2.10', port: 80, protocol: 'tcp', pool: 'web' },
  'fairlead.yaml': { pools: [{ name: 'web' }], services: [] },
};

before(async () => {
  lab = await openServedLab(name, 2);
  for (const [file, content] of Object.entries(files))
    writeFileSync(`${lab.directory}/${file}`, JSON.stringify(content));
  process.chdir(lab.directory);
});
after(async () => {
  process.chdir(root);
  await lab.close();
  assert.deepEqual(tracesOf(name), []);
});

/** Makes the objects that examples are about; whatever is there besides goes. */
async function reset(): Promise<void> {
  const backends = ['b1', 'b2', 'b3'].map((each, at) => ({ name: each, address: `10.0.0.${at + 1}` }));
  const pools = [
    { name: 'web', backends },
    { name: 'web4', backends: backends.map((each) => ({ ...each, name: each.name.replace('b', 'be') })) },
    { name: 'app' },
    { name: 'dns' },
  ];
  const services = [{ name: 'web', address: '192.0.2.200', port: 80, protocol: 'tcp', pool: 'web4' }];
  await lab.api('PUT', '/api/v1/configuration?wait=applied', { pools, services });
}

const state = { name: 'fairlead', pid: 1, namespaces: [], processes: 0, socket: null };
const migrated = { from: 'file', to: 'etcd', revision: 1, services: 0, pools: 0, written: 0, notes: [] };
/** What runs on the machine instead of asking the daemon; each has tests of its own. */
const parts = {
  serve: async () => 0,
  agent: async () => 0,
  doctor: async () => [],
  token: { list: async () => [], create: async () => 'token', remove: async () => undefined },
  detach: async () => [],
  migrate: async () => migrated,
  lab: { up: async () => state, down: async () => true, run: async () => 0, status: async () => state },
};

/** Runs a command line as it is written; quotes are none in examples. */
function execute(line: string): Promise<Ended> {
  const here = line
    .replace('nodes get edge-1', `nodes get ${lab.topology.balancers[0].namespace}`)
    .replace(/--url https:\S+ --ca \S+ --token-file \S+ /, ''); // test/unit/cli-access.test.ts has a server for these
  const words = here.split(' > ')[0]?.trim().split(/\s+/) ?? [];
  // One picture of what is watched.
  return cli(words.slice(1), { env: { FAIRLEAD_SOCKET: lab.socket }, stop: AbortSignal.abort(), parts });
}

/** The lines of a Markdown text that are code, comments taken off. */
function codeOf(file: string): string[] {
  return readFileSync(`${root}${file}`, 'utf8')
    .split('\n')
    .filter((line) => line.startsWith('    '))
    .map((line) => line.trim().replace(/\s+#.*$/, ''));
}

const commandIn = (line: string): string | null => /^(?:sudo )?(?:\.\/bin\/)?(fairlead .+)$/.exec(line)?.[1] ?? null;

for (const file of [
  'README.md',
  ...readdirSync(`${root}docs`)
    .filter((each) => each.endsWith('.md'))
    .map((each) => `docs/${each}`),
]) {
  const commands = codeOf(file).flatMap((line) => commandIn(line) ?? []);
  if (commands.length > 0)
    test(`examples: every command of ${file} does what it is to do`, async () => {
      await reset();
      for (const command of commands) {
        const { code, err } = await execute(command);
        assert.equal(code, 0, `${command}: ${err}`);
      }
    });
}

test('examples: every other line to type in README.md is one that is known, and works', () => {
  const scripts = Object.keys(JSON.parse(readFileSync(`${root}package.json`, 'utf8')).scripts);
  const code = codeOf('README.md');
  const typed = code.filter(
    (line) => /^(sudo|npm|export|\.\/|fairlead|curl|\w+ +curl)\b/.test(line) && !commandIn(line),
  );
  assert.ok(typed.length > 5);
  for (const line of typed) {
    const script = /^sudo npm (?:run )?(\w+)$/.exec(line)?.[1];
    const curl = /curl (.*)$/.exec(line)?.[1];
    if (script !== undefined)
      assert.ok(scripts.includes(script), line); // test/netns/start.test.ts runs it
    else if (curl !== undefined) {
      const words = curl.replace('/run/fairlead-lab-fairlead/api.sock', lab.socket).split(' ');
      assert.ok(execFileSync('curl', ['-sSf', ...words], { encoding: 'utf8' }).length > 0, line);
    } else assert.equal(line, 'export FAIRLEAD_SOCKET=/run/fairlead-lab-fairlead/api.sock');
  }
});

test('examples: the configuration of README.md is one', () => {
  const lines = readFileSync(`${root}README.md`, 'utf8').split('\n');
  const from = lines.indexOf('    interfaces:');
  const length = lines.slice(from).indexOf('');
  const path = `${lab.directory}/readme.yaml`;
  writeFileSync(
    path,
    lines
      .slice(from, from + length)
      .map((line) => line.slice(4))
      .join('\n'),
  );
  assert.equal(loadConfig({ path, env: {}, flags: {} }).tunnel.source, '192.0.2.1');
});

test('examples: the file of docs/cli.md is one that can be applied', async () => {
  await reset();
  const lines = readFileSync(`${root}docs/cli.md`, 'utf8').split('\n');
  const from = lines.indexOf('    kind: Pool');
  const text = lines.slice(from, from + lines.slice(from).indexOf('')).map((line) => line.slice(4));
  writeFileSync('docs.yaml', text.join('\n'));
  const { code, err } = await execute('fairlead apply -f docs.yaml --wait');
  assert.deepEqual([code, err], [0, '']);
});

/** The examples of a command and of those below it. */
async function examplesOf(command: Command, path: readonly string[] = []): Promise<string[]> {
  const { out } = await cli([...path, '--help']);
  const own =
    out
      .split(/\nExamples?:\n/)[1]
      ?.trimEnd()
      .split('\n') ?? [];
  const below = await Promise.all(command.commands.map((verb) => examplesOf(verb, [...path, verb.name()])));
  return [...own.map((line) => line.trim()), ...below.flat()];
}

test('examples: every example of --help does what it is to do', async () => {
  const examples = [...new Set(await examplesOf(buildProgram(processIo(), noParts, () => {})))];
  assert.ok(examples.length > 30);
  for (const example of examples) {
    await reset();
    const isService = example.startsWith('fairlead services');
    const { code, err } = await execute(isService ? example.replace('web.yaml', 'service.yaml') : example);
    assert.equal(code, 0, `${example}: ${err}`);
  }
});
