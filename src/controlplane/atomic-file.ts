// SPDX-License-Identifier: Apache-2.0
import { open, rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';

/** Makes `text` the content of the file at `path` (0600, the group of the process, unless told otherwise): after a crash there is the old content or the new, whole. Throws what the system says. */
export async function replaceFile(
  path: string,
  text: string,
  { mode = 0o600, gid = null }: { readonly mode?: number; readonly gid?: number | null } = {},
): Promise<void> {
  const temporary = `${path}.tmp`;
  try {
    const file = await open(temporary, 'w', 0o600);
    try {
      if (gid !== null) await file.chown(process.geteuid?.() ?? 0, gid);
      await file.chmod(mode); // after the group: it must not be open to the wrong one
      await file.writeFile(text);
      await file.sync(); // before the rename: else a crash may leave the new name on an empty file
    } finally {
      await file.close();
    }
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true }).catch(() => undefined); // gives the space back; the first error is the one to tell
    throw error;
  }
  const directory = await open(dirname(path), 'r');
  try {
    await directory.sync(); // the rename itself
  } finally {
    await directory.close();
  }
}
