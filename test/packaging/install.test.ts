// SPDX-License-Identifier: Apache-2.0
// The install scripts for real, in a tree over this machine's; with FAIRLEAD_DEBOOTSTRAP=1 also in a bare Debian 12, packages and all.
import assert from 'node:assert/strict';
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, type TestContext, test } from 'node:test';
import { spawnInside } from '../../src/lab/children.js';
import { destroyNamespaces, run } from '../../src/lab/netns.js';
import { until } from '../support/lab.js';
import { command, debootstrapped, openRoot } from '../support/machine-root.js';
import { ask } from '../support/serve.js';

const namespace = 'ac-pack-lb1';
let stage = '';

before(async () => {
  stage = mkdtempSync(join(tmpdir(), 'fairlead-stage-'));
  command('packaging/stage.sh', join(stage, 'fairlead'));
  await destroyNamespaces('ac-pack'); // of a run that was killed
});
after(async () => {
  await destroyNamespaces('ac-pack');
  rmSync(stage, { recursive: true, force: true });
});

/** What is installed, without times. */
function installed(root: string): string {
  const places = [
    'etc/fairlead',
    'etc/logrotate.d',
    'etc/sysctl.d',
    'lib/systemd/system',
    'usr/lib/fairlead',
    'usr/bin/fairlead',
    'var/lib/fairlead',
  ];
  const found = places.filter((place) => existsSync(join(root, place)));
  const list = command(
    'sh',
    '-c',
    'cd "$0" && find "$@" -path "*fairlead*" -printf "%p %m %U %G %y %l\\n" | sort',
    root,
    ...found,
  );
  return list + command('sh', '-c', 'cd "$0" && cat etc/passwd etc/group', root);
}

const withDebootstrap = process.env.FAIRLEAD_DEBOOTSTRAP === '1';
const roots: readonly (readonly [string, (t: TestContext) => string])[] = [
  ["this machine's", () => '/'],
  ...(withDebootstrap ? ([['a bare Debian', debootstrapped]] as const) : []),
];

for (const [which, lower] of roots)
  test(`packaging: install-node.sh and install-backend.sh in ${which} tree, twice, and the daemon runs from it as the unit's user`, {
    timeout: 600_000,
  }, async (t) => {
    const root = openRoot(lower(t));
    if (root === null) return t.skip('no overlayfs in this kernel');
    t.after(() => root.remove());
    const script = (name: string, ...more: string[]) =>
      command(join(stage, 'fairlead/packaging', name), '--root', root.path, ...more);
    const said = script('install-node.sh') + script('install-backend.sh');
    assert.match(said, /fairlead\.service is installed, and not started here/);
    assert.match(said, /to begin: write \/etc\/fairlead\/fairlead\.yaml/);
    const once = installed(root.path);
    const at = (path: string): string => join(root.path, path);

    const gid = Number(/^fairlead:x:(\d+):/m.exec(readFileSync(at('etc/group'), 'utf8'))?.[1]);
    const modeOf = (path: string) => [
      statSync(at(path)).mode & 0o777,
      statSync(at(path)).uid === 0,
      statSync(at(path)).gid === gid,
    ];
    assert.deepEqual(modeOf('etc/fairlead'), [0o750, true, true]);
    assert.deepEqual(modeOf('var/lib/fairlead'), [0o750, false, true]);
    writeFileSync(at('etc/fairlead/fairlead.yaml'), config, { mode: 0o640 });
    script('install-node.sh');
    script('install-backend.sh', '--no-packages');
    assert.equal(readFileSync(at('etc/fairlead/fairlead.yaml'), 'utf8'), config, 'what the operator wrote stays');
    rmSync(at('etc/fairlead/fairlead.yaml'));
    assert.equal(installed(root.path), once);
    assert.match(root.inside('fairlead', '--version'), /^\d+\.\d+/);
    if (existsSync(at('usr/bin/systemd-analyze')))
      for (const unit of ['fairlead', 'fairlead-agent'])
        assert.equal(root.inside('systemd-analyze', 'verify', `/lib/systemd/system/${unit}.service`), '', unit);
    else t.diagnostic('no systemd-analyze in there: the units are not verified');

    await destroyNamespaces('ac-pack'); // of the root before
    await run('ip', ['netns', 'add', namespace]);
    for (const line of [
      'link set lo up',
      'link add eth0 type veth peer name peer0',
      'link set eth0 up',
      'link set peer0 up',
      'address add 10.9.0.10/24 dev eth0',
    ])
      await run('ip', ['-n', namespace, ...line.split(' ')]);
    const unit = readFileSync(at('lib/systemd/system/fairlead.service'), 'utf8');
    const caps = /^AmbientCapabilities=(.*)$/m.exec(unit)?.[1]?.toLowerCase().replaceAll('cap_', '+').split(' ') ?? [];
    const before = /^ExecStartPre=\+(.*)$/m.exec(unit)?.[1] ?? '';
    const execStart = /^ExecStart=(.*)$/m.exec(unit)?.[1] ?? '';
    writeFileSync(at('etc/fairlead/fairlead.yaml'), config);
    root.inside('chown', 'root:fairlead', '/etc/fairlead/fairlead.yaml');
    chmodSync(at('etc/fairlead/fairlead.yaml'), 0o640);
    mkdirSync(at('run/fairlead'));
    root.inside('chown', 'fairlead:', '/run/fairlead');
    root.inside('sh', '-c', before);
    root.inside('sh', '-c', before);
    const token = root.inside('fairlead', 'token', 'create', '--name', 'x', '--scope', 'read').trim();
    assert.match(token, /^fairlead_/);
    const sets = ['bounding-set', 'inh-caps', 'ambient-caps'].map((set) => `--${set}=${['-all', ...caps].join()}`);
    const user = ['--reuid=fairlead', '--regid=fairlead', '--init-groups', '--no-new-privs', ...sets];
    const daemon = spawnInside(
      namespace,
      ['chroot', root.path, 'setpriv', ...user, ...execStart.split(' ')],
      ['ignore', 'pipe', 'pipe'],
    );
    let output = '';
    for (const stream of [daemon.stdout, daemon.stderr])
      stream?.on('data', (chunk) => {
        output += chunk;
      });
    const ended = new Promise((resolve) => daemon.on('close', resolve));
    t.after(() => void daemon.kill('SIGKILL'));
    const socket = at('run/fairlead/api.sock');
    await until('the daemon is ready', async () => {
      assert.equal(daemon.exitCode, null, output);
      return (await ask(socket, 'GET', '/readyz').catch(() => null))?.status === 200;
    });
    assert.match(await run('ip', ['-n', namespace, '-d', 'link', 'show', 'eth0']), /xdp/);
    assert.equal((await ask(socket, 'PUT', '/api/v1/pools/web', {})).status, 201);
    assert.ok(readFileSync(at('var/log/fairlead/audit.jsonl'), 'utf8').includes('/pools/web'));
    daemon.kill('SIGTERM');
    await ended;
    assert.match(root.inside('fairlead', 'detach'), /program taken off: eth0/);
  });

const config = `interfaces: [{ name: eth0, xdp: auto }]
tunnel: { source: 10.9.0.10, source6: "fd00::1" }
api: { audit: /var/log/fairlead/audit.jsonl, tokens: /etc/fairlead/tokens }
`;
