// SPDX-License-Identifier: Apache-2.0
// Child of a test, in the client's namespace: holds WebSockets, of each pair one that pings and a silent one, then asks both. Arguments:
// milliseconds, milliseconds between pings, then `HOST PORT` of each pair. Prints a JSON list of Held and ends.
import { setTimeout as pause } from 'node:timers/promises';
import { messageOf } from '../../src/model/errors.js';
import { OPCODE, openWebSocket } from './web-socket.js';

/** What became of a pair. */
export interface Held {
  readonly host: string;
  readonly pings: number; // answered
  readonly lost: number;
  readonly same: boolean; // one backend from the beginning to the end
  readonly silentAnswers: boolean; // in the end
}

const [ms = 0, period = 0] = process.argv.slice(2, 4).map(Number);
const ends = process.argv.slice(4);

async function hold(host: string, port: number): Promise<Held> {
  const [lively, silent] = [await openWebSocket(host, port), await openWebSocket(host, port)];
  const first = await lively.ask(OPCODE.text, 'who', 5_000);
  await silent.ask(OPCODE.text, 'who', 5_000);
  let [pings, lost] = [0, 0];
  for (const end = Date.now() + ms; Date.now() < end; await pause(period)) {
    const text = `ping ${pings}`;
    if ((await lively.ask(OPCODE.ping, text, 3_000)) === text) pings++;
    else lost++;
  }
  const same = first !== null && first === (await lively.ask(OPCODE.text, 'who', 3_000));
  const silentAnswers = (await silent.ask(OPCODE.text, 'who', 2_000)) !== null;
  lively.close();
  silent.close();
  return { host, pings, lost, same, silentAnswers };
}

const pairs = Array.from({ length: ends.length / 2 }, (_, at) => hold(ends[2 * at] ?? '', Number(ends[2 * at + 1])));
Promise.all(pairs).then(
  (all) => process.stdout.write(JSON.stringify(all)),
  (error) => {
    process.stderr.write(messageOf(error));
    process.exitCode = 1;
  },
);
