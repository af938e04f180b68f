// SPDX-License-Identifier: Apache-2.0

/**
 * A signal that fires when this process should end: SIGINT, SIGTERM, SIGHUP, stdout closed, or (with `withParent`) the
 * death of its parent. `signal.reason` is an Error that says which. Installed once per process, for its lifetime; the
 * signals no longer end the process by themselves.
 */
export function stopSignal(withParent: boolean): AbortSignal {
  const controller = new AbortController();
  const stop = (why: string) => controller.abort(new Error(why));
  for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(name, () => stop(name));
  for (const stream of [process.stdout, process.stderr]) stream.on('error', () => stop('output closed'));
  const parent = process.ppid;
  if (withParent) setInterval(() => process.ppid !== parent && stop('parent ended'), 250).unref();
  return controller.signal;
}

/** Resolves when the signal has fired. */
export function fired(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', () => resolve(), { once: true });
  });
}
