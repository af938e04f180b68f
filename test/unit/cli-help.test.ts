// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import type { Command } from 'commander';
import { processIo } from '../../src/cli/io.js';
import { buildProgram } from '../../src/cli/program.js';
import { cli, noParts } from '../support/cli.js';

const program = buildProgram(processIo(), noParts, () => {});

/** The words of every command, `[]` for the program. */
function paths(command: Command, path: readonly string[] = []): (readonly string[])[] {
  return [path, ...command.commands.flatMap((verb) => paths(verb, [...path, verb.name()]))];
}

async function script(shell: string): Promise<string> {
  return (await cli(['completion', shell])).out;
}

/** What bash offers for a command line; the last word is the one being typed. */
async function offered(...words: readonly string[]): Promise<string[]> {
  const typed = ['fairlead', ...words].map((word) => `'${word}'`).join(' ');
  const ask = `COMP_WORDS=(${typed}); COMP_CWORD=${words.length}; _fairlead; printf '%s\\n' "\${COMPREPLY[@]}"`;
  const out = execFileSync('bash', ['-c', `${await script('bash')}\n${ask}`], { encoding: 'utf8' });
  return out.split('\n').filter((line) => line !== '');
}

test('cli help: every command has help that ends with an example of it', async () => {
  const all = paths(program);
  assert.ok(all.length > 25);
  for (const path of all) {
    const { code, out, err } = await cli([...path, '--help']);
    assert.deepEqual([code, err], [0, ''], path.join(' '));
    const example = out.trimEnd().split('\n').at(-1) ?? '';
    assert.match(out, /\nExamples?:\n( {2}fairlead .+\n)+$/, path.join(' '));
    assert.ok(`${example} `.startsWith(`  fairlead ${[...path, ''].join(' ')}`), `${path.join(' ')}: ${example}`);
    assert.ok(
      out.split('\n').every((line) => line.length <= 100 || line.startsWith('  fairlead')),
      path.join(' '),
    );
  }
});

test('cli help: every example is a command line that is understood', async () => {
  for (const path of paths(program)) {
    const { out } = await cli([...path, '--help']);
    const examples =
      out
        .split(/\nExamples?:\n/)[1]
        ?.trimEnd()
        .split('\n') ?? [];
    for (const example of examples) {
      const args = example.trim().split(' > ')[0]?.split(' ').slice(1) ?? [];
      const stop = AbortSignal.abort(); // so that --watch ends
      const migrated = { from: 'file', to: 'etcd', revision: 1, services: 0, pools: 0, written: 0, notes: [] };
      const lab = { up: async () => state, down: async () => true, run: async () => 0, status: async () => state };
      const parts = {
        serve: async () => 0,
        agent: async () => 0,
        detach: async () => [],
        doctor: async () => [],
        migrate: async () => migrated,
        token: { list: async () => [], create: async () => 'fairlead_x', remove: async () => {} },
        lab,
      };
      const { code, err } = await cli(args, { stop, parts, env: { FAIRLEAD_SOCKET: '/nowhere/api.sock' } });
      assert.ok(
        code === 0 || code === 3 || /read "(web|fairlead).yaml": ENOENT/.test(err),
        `${example}: ${code} ${err}`,
      );
    }
  }
});

test('cli help: a wrong call names the help that answers it', async () => {
  const { code, err } = await cli(['services', 'get']);
  assert.equal(code, 2);
  assert.equal(err, `fairlead: missing required argument 'name'\nsee "fairlead services get --help"\n`);
});

test('cli completion: bash takes the script and offers what fits the place', async () => {
  const bash = await script('bash');
  assert.equal(spawnSync('bash', ['-n'], { input: bash }).status, 0);
  assert.deepEqual(await offered('ser'), ['serve', 'services']);
  assert.deepEqual(await offered('services', ''), await offered('services', '-o', 'json', ''));
  assert.deepEqual((await offered('backends', '')).slice(0, 7), [
    'ls',
    'get',
    'put',
    'rm',
    'drain',
    'undrain',
    'weight',
  ]);
  assert.deepEqual(await offered('services', 'put', 'web', '--pr'), ['--protocol']);
  assert.deepEqual(await offered('services', 'put', 'web', '--protocol', ''), ['tcp', 'udp']);
  assert.deepEqual(await offered('completion', 'z'), ['zsh']);
  assert.deepEqual(await offered('serve', '--url'), []);
});

test('cli completion: bash offers files where an option takes one', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'fairlead-complete-'));
  try {
    writeFileSync(join(directory, 'web.yaml'), '');
    assert.deepEqual(await offered('services', 'put', '-f', `${directory}/w`), [join(directory, 'web.yaml')]);
  } finally {
    rmSync(directory, { recursive: true });
  }
});

for (const shell of ['zsh', 'fish']) {
  const missing = spawnSync(shell, ['--version']).error === undefined ? false : `${shell} is not installed`;
  test(`cli completion: ${shell} takes the script`, { skip: missing }, async () => {
    const directory = mkdtempSync(join(tmpdir(), 'fairlead-complete-'));
    try {
      writeFileSync(join(directory, 'script'), await script(shell));
      assert.equal(spawnSync(shell, ['-n', join(directory, 'script')]).status, 0);
    } finally {
      rmSync(directory, { recursive: true });
    }
  });
}

const state = { name: 'fairlead', pid: 1, namespaces: [], processes: 0, socket: null };

test('cli serve: file and flags go to the daemon, its exit code comes back', async () => {
  const calls: unknown[] = [];
  const serve = async (...args: unknown[]) => calls.push(args) + 10;
  const line =
    'serve --config x.yaml --node n --interface eth0 --interface eth1:native --set flows.perCpu=4096 --set a=b=c --socket /s';
  assert.equal((await cli(line.split(' '), { parts: { serve } })).code, 11);
  const flags = { node: 'n', interfaces: 'eth0,eth1:native', 'flows.perCpu': '4096', a: 'b=c', 'api.socket': '/s' };
  assert.deepEqual(calls, [['x.yaml', flags]]);
  await cli(['serve'], { parts: { serve } });
  assert.deepEqual(calls[1], [null, {}]);
});

test('cli agent: the file goes to the agent, its exit code comes back; a word that is no command is refused', async () => {
  const calls: unknown[] = [];
  const agent = async (path: string | null) => calls.push(path) + 10;
  assert.equal((await cli(['agent', '--config', 'x.yaml'], { parts: { agent } })).code, 11);
  assert.equal((await cli(['agent'], { parts: { agent } })).code, 12);
  assert.deepEqual(calls, ['x.yaml', null]);
  assert.equal((await cli(['agent', 'kye'], { parts: { agent } })).code, 2);
  assert.equal(calls.length, 2);
  assert.deepEqual((await offered('agent', '')).slice(0, 2), ['key', '--config']);
  const { out } = await cli(['agent', 'key', '--help']);
  assert.match(out, /--socket/);
  assert.doesNotMatch(out, /--url/);
});

test('cli detach: says what it took off, or that there was nothing', async () => {
  const calls: string[] = [];
  const detach = async (bpffs: string) => {
    calls.push(bpffs);
    return bpffs === '/b' ? ['program taken off: eth0', 'tables dropped: pools'] : [];
  };
  const some = await cli(['detach', '--bpffs', '/b'], { parts: { detach } });
  assert.equal(some.out, 'program taken off: eth0\ntables dropped: pools\n');
  assert.equal((await cli(['detach'], { parts: { detach } })).out, 'nothing of Fairlead was attached\n');
  assert.deepEqual(calls, ['/b', '/sys/fs/bpf']);
});

test('cli lab: options and answers pass through', async () => {
  const calls: unknown[] = [];
  const noted = <T>(call: unknown, answer: T): T => {
    calls.push(call);
    return answer;
  };
  const lab = {
    up: async (options: object) => noted(['up', options], { ...state, namespaces: ['x-client', 'x-router'] }),
    down: async (name: string) => noted(['down', name], false),
    run: async (options: object) => noted(['run', options], 130),
    status: async (name: string) => noted(['status', name], state),
  };
  const run = (line: string) => cli(line.split(' '), { parts: { lab } });
  assert.match((await run('lab up --name x --backends 5')).out, /^namespaces {2}2, from x-client to x-router$/m);
  assert.equal((await run('lab down')).out, 'there is no lab "fairlead"\n');
  assert.equal((await run('lab run --once')).code, 130);
  assert.deepEqual(JSON.parse((await run('lab status -o json')).out), state);
  assert.deepEqual(calls, [
    ['up', { name: 'x', backends: 5, balancers: 1 }],
    ['down', 'fairlead'],
    ['run', { name: 'fairlead', backends: 3, balancers: 1, once: true }],
    ['status', 'fairlead'],
  ]);
});
