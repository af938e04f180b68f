// SPDX-License-Identifier: Apache-2.0
// `npm test`: the checks, then every test. Exits non-zero on a failure, when no test ran, and in CI on a skip.
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { run } from 'node:test';
import { spec } from 'node:test/reporters';
import { messageOf } from '../src/model/errors.js';

const TEST_TIMEOUT_MS = 180_000;

function shell(command: string, args: readonly string[]): string {
  return execFileSync(command, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'], maxBuffer: 1 << 26 });
}

/** Regenerates a committed file and compares. */
function generated(file: string, args: readonly string[]): void {
  if (shell('node', ['dist/scripts/abi.js', ...args]) !== readFileSync(file, 'utf8')) {
    throw new Error(`${file} is not what bpf/ says: run npm run abi and commit it`);
  }
}

/** Files of a folder and those below it, by the end of their names. */
const sources = (folder: string, ...ends: readonly string[]): string[] =>
  readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter((name) => ends.some((end) => name.endsWith(end)) && !name.startsWith('build'))
    .map((name) => `${folder}/${name}`)
    .sort();

const CHECKS: Readonly<Record<string, () => void>> = {
  'types, rules and format of TypeScript': () =>
    void shell('node_modules/.bin/biome', ['check', '--error-on-warnings', '.']),
  'format of C': () =>
    void shell('clang-format-19', [
      '--dry-run',
      '--Werror',
      ...sources('bpf', '.c', '.h'),
      ...sources('bench', '.c'),
      ...sources('test/vm', '.c'),
      ...sources('test/differ', '.c'),
    ]),
  'format of C++': () =>
    void shell('clang-format-19', ['--dry-run', '--Werror', ...sources('native/src', '.cc', '.h')]),
  'rules of the house (scripts/tidy.ts)': () => void shell('node', ['dist/scripts/tidy.js']),
  'generated files': () => {
    generated('src/dataplane/abi.gen.ts', ['build/bpf/xdp_lb.bpf.o', 'abi', './codec.js']);
    generated('src/dataplane/nat-abi.gen.ts', ['build/bpf/tc_nat.bpf.o', 'abi', './codec.js', 'nat_']);
    generated('src/dataplane/health-abi.gen.ts', ['build/bpf/tc_health.bpf.o', 'abi', './codec.js', 'health_']);
    generated('src/agent/abi.gen.ts', ['build/bpf/agent.bpf.o', 'abi', '../dataplane/codec.js']);
    generated('bench/wrapper.gen.ts', ['build/bench/wrapper.bpf.o', 'abi', '../src/dataplane/codec.js']);
    generated('bench/nat.gen.ts', ['build/bench/nat.bpf.o', 'abi', '../src/dataplane/codec.js']);
    generated('docs/maps.md', ['build/bpf/xdp_lb.bpf.o', 'docs']);
  },
};

const count = { passed: 0, failed: 0, skipped: 0 };

for (const [name, check] of Object.entries(CHECKS)) {
  try {
    check();
    process.stdout.write(`ok    ${name}\n`);
    count.passed++;
  } catch (error) {
    const output = error as { stdout?: string; stderr?: string };
    process.stdout.write(`FAIL  ${name}\n${output.stdout ?? ''}${output.stderr ?? messageOf(error)}\n`);
    count.failed++;
  }
}

const wanted = process.argv.slice(2);
const files = sources('test', '.test.ts')
  .filter((file) => wanted.length === 0 || wanted.some((part) => file.includes(part)))
  .map((file) => `dist/${file.replace(/\.ts$/, '.js')}`);
const skips: string[] = [];
const stream = run({ files, concurrency: 2, timeout: TEST_TIMEOUT_MS });
stream.on('test:pass', ({ name, skip, details }) => {
  if (details.type === 'suite') return;
  if (skip === undefined) count.passed++;
  else {
    count.skipped++;
    skips.push(`${name}: ${skip === true ? 'no reason given' : skip}`);
  }
});
stream.on('test:fail', ({ details }) => {
  if (details.type !== 'suite') count.failed++;
});
for await (const text of stream.compose(new spec())) process.stdout.write(text);

for (const skip of skips) process.stdout.write(`skipped: ${skip}\n`);
process.stdout.write(`${count.passed} passed, ${count.failed} failed, ${count.skipped} skipped\n`);
const ran = files.length > 0 && count.passed > Object.keys(CHECKS).length;
if (count.failed > 0 || !ran || (process.env.CI !== undefined && count.skipped > 0)) process.exitCode = 1;
