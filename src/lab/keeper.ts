// SPDX-License-Identifier: Apache-2.0
// Child of the lab, in a session of its own: cleans up when the lab's process dies without having done so. Argument: the lab's name.
import { setTimeout as pause } from 'node:timers/promises';
import { takeLock } from './lock.js';
import { removeLab } from './teardown.js';

const name = process.argv[2] ?? '';
// Whoever ends all processes of the lab at once must not end this one first.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => {});
process.on('message', () => process.exit(0)); // the lab has cleaned up itself
process.on('disconnect', cleanUp);
if (!process.connected) cleanUp(); // the lab died while this one was starting

async function cleanUp(): Promise<void> {
  try {
    const lock = await takeLock(name, 5_000); // refused: another lab of that name has started, and cleaned up first
    await pause(200); // a command begun in the lab's last millisecond may not be tied to its life yet: let it end
    await removeLab(name);
    lock.release();
  } finally {
    process.exit();
  }
}
