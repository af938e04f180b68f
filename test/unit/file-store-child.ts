// SPDX-License-Identifier: Apache-2.0
// A process that a test can kill: `write PATH...` updates each store for ever and prints "INDEX REVISION" once it is durable; `fill PATH` runs the
// store into a full and then a read-only file system and prints what happened as JSON.
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync, statfsSync, writeSync } from 'node:fs';
import { dirname } from 'node:path';
import { openFileStore } from '../../src/controlplane/file-store.js';
import type { Store } from '../../src/controlplane/store.js';
import { messageOf } from '../../src/model/errors.js';
import type { Pool } from '../../src/model/objects.js';

const [mode = '', ...paths] = process.argv.slice(2);

// Both pools are written at once and say the revision they belong to: a torn or mixed state shows.
function stamped(name: string, revision: number, backends: number): Pool {
  const backend = (i: number) => ({
    name: `r${revision}-${i}`,
    address: `10.${name === 'a' ? 1 : 2}.${i >> 8}.${i & 255}`,
    weight: 1,
    state: 'active' as const,
  });
  const list = Array.from({ length: backends }, (_, i) => backend(i + 1)).sort((x, y) => (x.name < y.name ? -1 : 1));
  return { name, backends: list, ring: { size: 0 } };
}

function grow(store: Store, backends: number) {
  return store.update(({ revision }) =>
    ['a', 'b'].map((name) => ({ kind: 'pool', name, value: stamped(name, revision + 1, backends) })),
  );
}

async function writeForEver(path: string, index: number): Promise<never> {
  const store = await openFileStore(path);
  for (;;) {
    const { revision } = await grow(store, 40); // some pages long: a partial write would show
    writeSync(1, `${index} ${revision}\n`);
  }
}

if (mode === 'write') await Promise.all(paths.map(writeForEver));

if (mode === 'fill') {
  const [path = ''] = paths;
  const directory = dirname(path);
  const store = await openFileStore(path);
  const attempt = async (backends: number) => {
    const error = await grow(store, backends).then(
      () => null,
      (thrown: unknown) => thrown,
    );
    const code = error !== null && typeof error === 'object' && 'code' in error ? error.code : null;
    const onDisk = JSON.parse(readFileSync(path, 'utf8')).revision;
    return {
      code,
      message: error === null ? '' : messageOf(error),
      memory: store.read().revision,
      onDisk,
      files: readdirSync(directory).sort(),
    };
  };
  const small = await attempt(2);
  const full = await attempt(4000);
  const again = await attempt(2);
  execFileSync('mount', ['-o', 'remount,ro', directory]);
  const readOnly = await attempt(2);
  execFileSync('mount', ['-o', 'remount,rw', directory]);
  const last = await attempt(2);
  writeSync(
    1,
    JSON.stringify({
      bytes: statfsSync(directory).blocks * statfsSync(directory).bsize,
      small,
      full,
      again,
      readOnly,
      last,
    }),
  );
}
