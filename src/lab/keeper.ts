// SPDX-License-Identifier: Apache-2.0
// Child of the lab, in a session of its own: cleans up when the lab's process dies without having done so. Argument: the lab's name.
import { takeLock } from './lock.js';
import { removeLab } from './teardown.js';

const name = process.argv[2] ?? '';
// Whoever ends all processes of the lab at once must not end this one first.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => {});
process.on('message', () => process.exit(0)); // the lab has cleaned up itself
process.on('disconnect', async () => {
  try {
    const lock = await takeLock(name, 5_000); // refused: another lab of that name has started, and cleaned up first
    await removeLab(name);
    lock.release();
  } finally {
    process.exit();
  }
});
