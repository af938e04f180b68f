// SPDX-License-Identifier: Apache-2.0
import { createHash } from 'node:crypto';
import { closeSync, constants, fstatSync, openSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { native } from '../dataplane/native.js';
import { FairleadError } from '../model/errors.js';

/**
 * Takes the lock file at `path` for this process and answers the function that gives it back. Throws 'busy' while another
 * process (or this one) holds it. The lock is the kernel's (flock): it ends with its holder, however that ends; the pid in
 * the file is for people.
 */
export function acquireLock(path: string): () => void {
  for (;;) {
    // Open for reading only: a lock held for long must not keep its file system from being remounted.
    const fd = openSync(path, constants.O_RDONLY | constants.O_CREAT, 0o600);
    if (!native.tryLock(fd)) {
      const holder = readFileSync(fd, 'utf8').trim() || 'of another daemon'; // empty for a moment after it is taken
      closeSync(fd);
      throw new FairleadError('busy', `lock "${path}": process ${holder} holds it; stop it first`);
    }
    // Its last holder may have removed the file between our open and our lock: then this is not the one others see.
    if (fstatSync(fd).ino === statSync(path, { throwIfNoEntry: false })?.ino) {
      writeFileSync(path, `${process.pid}\n`);
      return () => {
        rmSync(path, { force: true });
        closeSync(fd);
      };
    }
    closeSync(fd);
  }
}

/**
 * Names this lock among all locks of all machines, until the machine starts anew or the lock is given back: while one process holds it, every other of which the same name is
 * known has ended. Throws what the system says.
 */
export function lockName(path: string): string {
  const { dev, ino } = statSync(path);
  const boot = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
  return createHash('sha256').update(`${boot} ${dev} ${ino}`).digest('hex').slice(0, 16);
}
