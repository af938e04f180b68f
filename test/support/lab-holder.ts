// SPDX-License-Identifier: Apache-2.0
// A process that holds a lab without a balancer until it is told to stop, or killed. Arguments: name, number of backends.
import { openBase } from '../../src/lab/base.js';
import { fired, stopSignal } from '../../src/lab/stop.js';

const [name = '', backends] = process.argv.slice(2);
const signal = stopSignal(true);
process.stdout.write('starting\n');
const lab = await openBase({ name, backends: Number(backends) }, signal);
process.stdout.write('up\n');
const timer = setInterval(() => process.stdout.write('.\n'), 100); // so that a closed output shows
await fired(signal);
clearInterval(timer);
await lab.close();
