// SPDX-License-Identifier: Apache-2.0
import { constants } from 'node:fs';
import { type FileHandle, mkdir, open } from 'node:fs/promises';
import { dirname } from 'node:path';
import { FairleadError, messageOf } from '../../model/errors.js';

/** A file of JSON lines that only grows. */
export interface AuditFile {
  /** Resolves when the record is on the disk. Throws 'unavailable' when it cannot be written; the next may again. */
  append(record: object): Promise<void>;
  /** Goes on in the file that is at the path now. Throws 'unavailable', and goes on in the one before. */
  reopen(): Promise<void>;
  close(): Promise<void>;
}

/** Opens the file at `path`, with its directory made: mode 0600, O_APPEND. Records that come while one is being written share the next fsync. Throws 'unavailable'. */
export async function openAuditFile(path: string): Promise<AuditFile> {
  const failed = (step: string) => (error: unknown) => {
    throw new FairleadError('unavailable', `${step} the audit log "${path}": ${messageOf(error)}`, [], {
      cause: error,
    });
  };
  const openNow = async (): Promise<FileHandle> => {
    await mkdir(dirname(path), { recursive: true, mode: 0o750 });
    return open(path, constants.O_WRONLY | constants.O_APPEND | constants.O_CREAT, 0o600);
  };
  let file = await openNow().catch(failed('open'));
  let waiting: { readonly line: string; readonly done: (error: unknown) => void }[] = [];
  let isTorn = false; // the last line may be half there
  let writer: Promise<void> | null = null;

  async function writeAll(): Promise<void> {
    while (waiting.length > 0) {
      const now = waiting;
      waiting = [];
      const text = Buffer.from((isTorn ? '\n' : '') + now.map(({ line }) => line).join(''));
      let error: unknown = null;
      try {
        isTorn = true;
        const { bytesWritten } = await file.write(text);
        if (bytesWritten < text.length) throw new Error(`${bytesWritten} of ${text.length} bytes were written`);
        isTorn = false;
        await file.datasync();
      } catch (thrown) {
        error = thrown;
      }
      for (const { done } of now) done(error);
    }
    writer = null;
  }
  return {
    append(record) {
      const line = `${JSON.stringify(record)}\n`;
      const written = new Promise<void>((resolve, reject) => {
        waiting.push({ line, done: (error) => (error === null ? resolve() : reject(error)) });
      });
      writer ??= writeAll();
      return written.catch(failed('write'));
    },
    async reopen() {
      const next = await openNow().catch(failed('open'));
      while (writer !== null) await writer;
      const before = file;
      file = next;
      isTorn = false;
      await before.close();
    },
    async close() {
      while (writer !== null) await writer;
      await file.close();
    },
  };
}
