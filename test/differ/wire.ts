// SPDX-License-Identifier: Apache-2.0
// One end of a link in a namespace, frame by frame.
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { spawnInside, stopChild } from '../../src/lab/children.js';

export interface Wire {
  send(frames: readonly Buffer[]): void;
  /** All frames that have come in since the last call, as soon as `last` is one of them. Rejects when it does not come. */
  until(last: (frame: Buffer) => boolean, what: string): Promise<Buffer[]>;
  close(): Promise<void>;
}

const DEADLINE_MS = 10_000;

/** Compiles frames.c into the directory; the program's path. */
export function compileWire(directory: string): string {
  const program = `${directory}/frames`;
  const source = fileURLToPath(new URL('../../../test/differ/frames.c', import.meta.url));
  execFileSync('gcc', ['-O2', '-Wall', '-Werror', '-o', program, source]);
  return program;
}

/** `program`: of compileWire. On one CPU, so that frames stay in order. */
export async function openWire(program: string, namespace: string, device: string): Promise<Wire> {
  const child = spawnInside(namespace, ['taskset', '-c', '0', program, device], ['pipe', 'pipe', 'inherit']);
  const { stdin, stdout } = child;
  if (!stdin || !stdout) throw new Error('frames: no pipes');
  let frames: Buffer[] = [];
  let rest: Buffer = Buffer.alloc(0);
  let arrived = (): void => {};
  stdout.on('data', (bytes: Buffer) => {
    rest = Buffer.concat([rest, bytes]);
    let at = 0;
    for (; rest.length >= at + 4 && rest.length >= at + 4 + rest.readUInt32BE(at); at += 4 + rest.readUInt32BE(at))
      frames.push(Buffer.from(rest.subarray(at + 4, at + 4 + rest.readUInt32BE(at))));
    rest = rest.subarray(at);
    arrived();
  });
  await once(stdout, 'data');
  frames = []; // the empty one that says it is ready
  return {
    send(wanted) {
      const words = wanted.flatMap((frame) => {
        const size = Buffer.alloc(4);
        size.writeUInt32BE(frame.length);
        return [size, frame];
      });
      stdin.write(Buffer.concat(words));
    },
    until(last, what) {
      return new Promise((resolve, reject) => {
        let looked = 0;
        const timer = setTimeout(() => {
          arrived = () => {};
          reject(new Error(`${namespace}: not within ${DEADLINE_MS} ms: ${what}; ${frames.length} other frames came`));
        }, DEADLINE_MS);
        arrived = () => {
          for (; looked < frames.length; looked++) {
            if (!last(frames[looked] as Buffer)) continue;
            clearTimeout(timer);
            arrived = () => {};
            resolve(frames.splice(0, looked + 1));
            return;
          }
        };
        arrived();
      });
    },
    close: () => {
      stdin.end();
      return stopChild(child, 500);
    },
  };
}
