// SPDX-License-Identifier: Apache-2.0
// The lab on virtual machines as far as it goes without them: the Vagrantfile, and each machine's provisioning in a tree over this machine's.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { after, before, test } from 'node:test';
import { destroyNamespaces, namespacePath, run } from '../../src/lab/netns.js';
import { command, debootstrapped, type MachineRoot, openRoot } from '../support/machine-root.js';

const lab = 'ac-vm';
const namespace = `${lab}-lb1`;
const members = 'lb1=10.9.0.10,lb2=10.9.0.11,be1=10.9.0.21';
const vip = '192.0.2.10';
let directory: string;

before(async () => {
  directory = mkdtempSync(join(tmpdir(), 'fairlead-vagrant-'));
  await destroyNamespaces(lab); // of a run that was killed
});
after(async () => {
  await destroyNamespaces(lab);
  rmSync(directory, { recursive: true, force: true });
});

test('vagrant: the Vagrantfile is valid, with the arguments each script wants, and every script parses', (t) => {
  for (const file of readdirSync('vagrant/provision')) command('bash', '-n', `vagrant/provision/${file}`);
  command('bash', '-n', 'vagrant/smoke.sh');
  const env = { ...process.env, HOME: directory, VAGRANT_HOME: directory, VAGRANT_DOTFILE_PATH: directory };
  const { error, status, stdout, stderr } = spawnSync('vagrant', ['validate', '--ignore-provider'], {
    ...{ cwd: resolve('vagrant'), env, encoding: 'utf8' },
  });
  if (error !== undefined) return t.skip('vagrant is not installed');
  assert.equal(status, 0, stdout + stderr);
  assert.match(stdout, /Vagrantfile validated successfully/);
});

/** Each machine's scripts, with what the Vagrantfile gives them; and what is to be true then. */
const machines: Readonly<
  Record<string, { address: string; scripts: readonly (readonly string[])[]; check(root: MachineRoot): void }>
> = {
  router: {
    address: '10.9.0.254',
    scripts: [['router.sh', vip]],
    check: (root) => root.inside('bird', '-p', '-c', '/etc/bird/bird.conf'),
  },
  lb1: {
    address: '10.9.0.10',
    scripts: [
      ['etcd.sh', 'lb1', members],
      ['balancer.sh', 'lb1', '10.9.0.10', members],
    ],
    check(root) {
      root.inside('bird', '-p', '-c', '/etc/bird/bird.conf');
      assert.match(
        readFileSync(join(root.path, 'etc/default/etcd'), 'utf8'),
        /^ETCD_INITIAL_CLUSTER=lb1=http:\/\/10\.9\.0\.10:2380,lb2=/m,
      );
      // It reads its configuration, and then finds no etcd.
      assert.throws(
        () => root.inside('fairlead', 'serve'),
        (error: Error) => {
          assert.match(error.message, /etcd/);
          assert.doesNotMatch(error.message, /read the configuration/);
          return true;
        },
      );
    },
  },
  be1: {
    address: '10.9.0.21',
    scripts: [
      ['etcd.sh', 'be1', members],
      ['backend.sh', 'be1', '10.9.0.21', vip],
    ],
    check(root) {
      assert.throws(() => root.inside('fairlead', 'agent'), /: one problem\n.*agent\.yaml:4:10: keyFile: ENOENT/);
      assert.equal(readFileSync(join(root.path, 'srv/lab/index.html'), 'utf8'), 'be1\n');
    },
  },
};

test('vagrant: what provisions each machine does so, and changes nothing the second time', {
  timeout: 600_000,
}, async (t) => {
  const lower = process.env.FAIRLEAD_DEBOOTSTRAP === '1' ? debootstrapped(t) : '/';
  command('packaging/stage.sh', join(directory, 'stage'));
  for (const [machine, { address, scripts, check }] of Object.entries(machines)) {
    const root = openRoot(lower);
    if (root === null) return t.skip('no overlayfs in this kernel');
    try {
      command('mkdir', join(root.path, 'fairlead'), join(root.path, 'provision'));
      command('mount', '--bind', join(directory, 'stage'), join(root.path, 'fairlead'));
      cpSync('vagrant/provision', join(root.path, 'provision'), { recursive: true });
      const provision = (): string =>
        scripts
          .map(([script = '', ...args]) =>
            command(
              'nsenter',
              `--net=${namespacePath(namespace)}`,
              'chroot',
              root.path,
              `/provision/${script}`,
              ...args,
            ),
          )
          .join('');
      // Packages come by this machine's network; then there is an interface with the machine's address alone.
      for (const line of scripts.map(([script = '']) => readFileSync(join('vagrant/provision', script), 'utf8')))
        for (const [, list = ''] of line.matchAll(/^packages (.*)$/gm))
          root.inside('bash', '-c', `. /provision/common.sh; packages ${list}`);
      if (lower !== '/')
        root.inside(
          'apt-get',
          '-q',
          'install',
          '-y',
          '--no-install-recommends',
          'libbpf1',
          'libelf1',
          'zlib1g',
          'iproute2',
        );
      await run('ip', ['netns', 'add', namespace]);
      for (const line of [
        'link set lo up',
        'link add eth1 type veth peer name peer1',
        'link set eth1 up',
        `address add ${address}/24 dev eth1`,
      ])
        await run('ip', ['-n', namespace, ...line.split(' ')]);
      const first = provision();
      assert.match(first, /^wrote /m, machine);
      const second = provision();
      assert.doesNotMatch(second, /^wrote /m, machine);
      check(root);
    } finally {
      await destroyNamespaces(lab);
      root.remove();
    }
  }
});
