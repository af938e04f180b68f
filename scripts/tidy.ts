// SPDX-License-Identifier: Apache-2.0
// The rules of the house that a machine can check. Prints one line per offence; exits 1 when there is one.
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';

const files = execFileSync('git', ['ls-files', '--cached', '--others', '--exclude-standard'], { encoding: 'utf8' })
  .split('\n')
  .filter((file) => /\.(ts|c|h|cc|sh)$/.test(file));
const offences: string[] = [];
const offend = (file: string, line: number, what: string): void => void offences.push(`${file}:${line}: ${what}`);

/** Lines a file may have. A file that needs a tour has the wrong shape. */
function lineLimit(file: string): number {
  if (file.endsWith('.gen.ts')) return Number.POSITIVE_INFINITY;
  if (/^bpf\/[^/]+\.c$/.test(file)) return 200;
  if (file.startsWith('bpf/lib/') || file.startsWith('native/')) return 350;
  return 400;
}

/** Which parts of src/ each part may import; itself is always allowed. src/model and src/ring are leaves. */
const ALLOWED: Readonly<Record<string, readonly string[]>> = {
  model: [],
  ring: [],
  dataplane: ['model'],
  controlplane: ['model', 'ring', 'dataplane'],
  observability: ['model', 'ring', 'dataplane', 'controlplane'],
  api: ['model', 'ring', 'controlplane', 'observability'],
  cli: ['model', 'api'],
  agent: ['model', 'dataplane', 'controlplane', 'observability'],
  lab: ['model', 'dataplane', 'agent'],
};

/** Each foreign package has one file that knows it. */
const ONE_IMPORTER: Readonly<Record<string, string>> = {
  netlink: 'src/controlplane/rtnetlink.ts',
  etcd3: 'src/controlplane/etcd/client.ts',
  'ip-num': 'src/model/address.ts',
  'prom-client': 'src/observability/exposition.ts',
  nanoid: 'src/api/objects.ts',
  typebox: 'src/model/check.ts',
  yaml: 'src/model/yaml.ts',
  pino: 'src/process.ts',
};

const partOf = (file: string): string | null => /^src\/([^/]+)\//.exec(file)?.[1] ?? null;

function checkImport(file: string, line: number, target: string): void {
  if (target.startsWith('.')) {
    const from = partOf(file);
    const to = partOf(relative('.', join(dirname(file), target)));
    if (from && to && from !== to && !ALLOWED[from]?.includes(to))
      offend(file, line, `src/${from} may not import src/${to}`);
    if (file.startsWith('src/') && relative('.', join(dirname(file), target)).startsWith('test/')) {
      offend(file, line, 'src may not import test');
    }
    return;
  }
  const name = target
    .split('/')
    .slice(0, target.startsWith('@') ? 2 : 1)
    .join('/');
  const owner = ONE_IMPORTER[name];
  if (owner !== undefined && file.startsWith('src/') && file !== owner)
    offend(file, line, `only ${owner} imports ${name}`);
}

for (const file of files) {
  const text = readFileSync(file, 'utf8');
  const lines = text.split('\n');
  const head = lines.slice(0, 2).join('\n');
  const licence = /^(bpf|bench\/bpf)\/|\.bpf\.c$/.test(file) ? 'GPL-2.0-only OR BSD-2-Clause' : 'Apache-2.0';
  if (!head.includes(`SPDX-License-Identifier: ${licence}`))
    offend(file, 1, `line 1 is not SPDX-License-Identifier: ${licence}`);
  if (lines.length - 1 > lineLimit(file))
    offend(file, lines.length, `${lines.length - 1} lines, at most ${lineLimit(file)}`);
  for (const [at, line] of lines.entries()) {
    const target = /^(?:import|export)\b.*?from '([^']+)'|^import '([^']+)'|^\} from '([^']+)'/.exec(line);
    if (file.endsWith('.ts') && target) checkImport(file, at + 1, target[1] ?? target[2] ?? target[3] ?? '');
    if (/\b(TODO|FIXME|XXX)\b/.test(line) && file !== 'scripts/tidy.ts')
      offend(file, at + 1, 'unfinished work belongs in an issue');
    if (
      file.startsWith('bpf/') &&
      /return XDP_(DROP|ABORTED)/.test(line) &&
      /xdp_lb\.c|lib\/(?!exit|decap)/.test(file)
    ) {
      offend(file, at + 1, 'only finish() decides the balancer’s action');
    }
    if (file.startsWith('bpf/lib/') && !/^bpf\/lib\/(nat_)?maps\.h$/.test(file) && line.includes('SEC(".maps")')) {
      offend(file, at + 1, 'maps are declared in bpf/lib/maps.h');
    }
  }
}
for (const offence of offences) process.stdout.write(`${offence}\n`);
process.exitCode = offences.length > 0 ? 1 : 0;
