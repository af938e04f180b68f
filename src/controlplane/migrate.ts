// SPDX-License-Identifier: Apache-2.0
// From one kind of store to the other, whole: hash key and logs of members included, so that no flow moves.
import { existsSync } from 'node:fs';
import { mkdir, readFile } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { errnoOf, FairleadError, messageOf } from '../model/errors.js';
import type { Snapshot } from '../model/objects.js';
import { replaceFile } from './atomic-file.js';
import type { EtcdConfig, StoreConfig } from './config.js';
import { acquireLock } from './lock.js';
import { formatState, parseState } from './state-file.js';

export interface MigrateOptions {
  /** `file` or `etcd` as the configuration has them, or `file:PATH`. */
  readonly from: string;
  readonly to: string;
  /** Reads, checks and counts; writes nothing. */
  readonly dryRun: boolean;
}

export interface Migration {
  readonly from: string; // file "/var/lib/fairlead/state.json"
  readonly to: string; // etcd "/fairlead/" at https://10.0.0.5:2379
  readonly revision: number; // of what was read
  readonly services: number;
  readonly pools: number;
  readonly written: number; // documents; fewer where an interrupted migration had written some, 0 in a dry run
  readonly notes: readonly string[]; // sentences for the operator
}

/** One end of a migration. */
interface End {
  readonly name: string;
  read(): Promise<{ readonly snapshot: Snapshot; readonly notes: readonly string[] }>;
  /** Throws 'conflict' when there is something; else answers what writes it all and answers how many documents that took. */
  prepare(snapshot: Snapshot): Promise<{ readonly notes: readonly string[]; write(): Promise<number> }>;
  close(): void;
}

/**
 * Copies everything from one store to another, which has to be empty; a migration that was interrupted goes on. Throws 'invalid' for ends that are none, 'conflict' for a target that
 * holds something else, 'not-found' or 'damaged' for a source that is none, and what the stores throw.
 */
export async function migrate(config: StoreConfig, { from, to, dryRun }: MigrateOptions): Promise<Migration> {
  const source = await endOf(from, '--from', config);
  const target = await endOf(to, '--to', config).catch((error) => {
    source.close();
    throw error;
  });
  try {
    if (source.name === target.name)
      throw new FairleadError('invalid', `migrate: --from and --to are both ${source.name}`);
    const { snapshot, notes } = await source.read();
    const { services, pools, revision } = snapshot;
    const prepared = await target.prepare(snapshot);
    const written = dryRun ? 0 : await prepared.write();
    return {
      from: source.name,
      to: target.name,
      revision,
      services: services.size,
      pools: pools.size,
      written,
      notes: [...notes, ...prepared.notes],
    };
  } finally {
    source.close();
    target.close();
  }
}

async function endOf(text: string, option: string, { path, etcd }: StoreConfig): Promise<End> {
  const [kind, given = ''] = text.split(/:(.*)/s);
  if (kind === 'file') return fileEnd(given === '' ? path : resolve(given));
  if (kind === 'etcd' && given === '') return etcdEnd(etcd);
  throw new FairleadError('invalid', `migrate: ${option} "${text}": wanted file, file:PATH or etcd`);
}

function fileEnd(path: string): End {
  const load = async (): Promise<Snapshot | null> => {
    try {
      return await parseState(await readFile(path, 'utf8'), path);
    } catch (error) {
      if (errnoOf(error) === 'ENOENT') return null;
      if (error instanceof FairleadError) throw error;
      throw new FairleadError('unavailable', `read "${path}": ${messageOf(error)}`, [], { cause: error });
    }
  };
  return {
    name: `file "${path}"`,
    async read() {
      const snapshot = await load();
      if (snapshot === null) throw new FairleadError('not-found', `read "${path}": it does not exist`);
      return {
        snapshot,
        notes: isHeld(path) ? [`a daemon has "${path}" open: what it writes from now on is not migrated`] : [],
      };
    },
    async prepare(snapshot) {
      const there = await load();
      if (there !== null) refuseObjects(`"${path}"`, there.services.size, there.pools.size);
      return {
        notes: [],
        async write() {
          await mkdir(dirname(path), { recursive: true, mode: 0o750 });
          const release = acquireLock(`${path}.lock`);
          try {
            await replaceFile(path, formatState(snapshot));
          } finally {
            release();
          }
          return snapshot.services.size + snapshot.pools.size;
        },
      };
    },
    close: () => undefined,
  };
}

/** Throws when the target holds objects. */
function refuseObjects(where: string, services: number, pools: number): void {
  if (services + pools === 0) return;
  throw new FairleadError(
    'conflict',
    `migrate: ${where} is not empty, it holds ${services} services and ${pools} pools; nothing was changed`,
  );
}

function isHeld(path: string): boolean {
  if (!existsSync(`${path}.lock`)) return false;
  try {
    acquireLock(`${path}.lock`)();
    return false;
  } catch {
    return true;
  }
}

async function etcdEnd(config: EtcdConfig): Promise<End> {
  if (config.endpoints.length === 0)
    throw new FairleadError(
      'invalid',
      'migrate: the configuration has no store.endpoints, so no etcd to go to or come from',
    );
  const [{ readAccess }, { openEtcdClient }, { readEtcd, prepareEtcd }, { keysBelow }] = await Promise.all([
    import('./etcd/access.js'),
    import('./etcd/client.js'),
    import('./etcd/migrate.js'),
    import('./etcd/keys.js'),
  ]);
  const client = openEtcdClient(await readAccess(config));
  const keys = keysBelow(config.prefix);
  const name = `etcd "${config.prefix}" at ${config.endpoints.join(', ')}`;
  return {
    name,
    read: () => readEtcd(client, keys, name),
    prepare: (snapshot) => prepareEtcd(client, keys, name, snapshot, refuseObjects),
    close: () => client.close(),
  };
}
