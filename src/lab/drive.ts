// SPDX-License-Identifier: Apache-2.0
import { FairleadError } from '../model/errors.js';
import { startInside, stopChild } from './children.js';
import type { Topology } from './topology.js';
import type { DriverCommand, DriverReport, Target } from './traffic.js';

/** The client's traffic: what the lab tells the driver process and hears from it. */
export interface Driver {
  command(command: DriverCommand): void;
  /** The newest report. */
  report(): DriverReport;
  /** The first report from now on that meets `condition`. Rejects when the driver ends, at the deadline, or with the signal. */
  until(condition: (report: DriverReport) => boolean, timeoutMs: number, signal: AbortSignal): Promise<DriverReport>;
  stop(): Promise<void>;
}

/** Starts the driver in the client's namespace; it sends nothing until told to. */
export async function startDriver(topology: Topology, targets: readonly Target[]): Promise<Driver> {
  const child = await startInside(topology.client, 'driver.js', [JSON.stringify(targets)]);
  let latest: DriverReport = { phases: {}, errors: [], idle: true };
  child.on('message', (report: DriverReport) => {
    latest = report;
  });
  return {
    command: (command) => void child.send(command, () => {}), // a driver that has ended shows in `until`
    report: () => latest,
    until: (condition, timeoutMs, signal) =>
      new Promise((resolve, reject) => {
        const late = AbortSignal.timeout(timeoutMs);
        const onMessage = (report: DriverReport) => condition(report) && end(() => resolve(report));
        const onExit = () => end(() => reject(new FairleadError('unavailable', 'the traffic driver has ended')));
        const onAbort = () => end(() => reject(signal.reason));
        const onLate = () =>
          end(() => reject(new FairleadError('unavailable', `no such report of the driver in ${timeoutMs} ms`)));
        const end = (settle: () => void) => {
          child.off('message', onMessage).off('exit', onExit);
          signal.removeEventListener('abort', onAbort);
          late.removeEventListener('abort', onLate);
          settle();
        };
        child.on('message', onMessage).on('exit', onExit);
        signal.addEventListener('abort', onAbort);
        late.addEventListener('abort', onLate);
        if (signal.aborted) onAbort();
        else if (child.exitCode !== null || child.signalCode !== null) onExit();
      }),
    stop: () => stopChild(child, 1_000),
  };
}
