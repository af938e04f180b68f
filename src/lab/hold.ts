// SPDX-License-Identifier: Apache-2.0
// The process behind `fairlead lab up`: holds a lab until it is told to stop. Argument: its options as JSON.
import { FairleadError, messageOf } from '../model/errors.js';
import { type HoldMessage, type LabOptions, openLab } from './lab.js';
import { fired, stopSignal } from './stop.js';

const options = JSON.parse(process.argv[2] ?? '') as LabOptions;
const told = stopSignal(false);
const orphaned = new AbortController();
// Nobody would know of a lab whose `lab up` was interrupted.
const onDisconnect = () => orphaned.abort(new Error('lab up was interrupted'));
process.once('disconnect', onDisconnect);
if (!process.connected) onDisconnect();
const signal = AbortSignal.any([told, orphaned.signal]);
try {
  const lab = await openLab(options, signal, () => {});
  try {
    process.off('disconnect', onDisconnect);
    await tell({ ready: true });
    await fired(signal);
  } finally {
    await lab.close();
  }
  process.exit(0);
} catch (error) {
  await tell({ code: error instanceof FairleadError ? error.code : 'native', message: messageOf(error) });
  process.exit(1);
}

function tell(message: HoldMessage): Promise<void> {
  return new Promise((resolve) => {
    if (process.connected) process.send?.(message, () => resolve());
    else resolve(); // whoever started this is gone
  });
}
