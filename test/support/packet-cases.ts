// SPDX-License-Identifier: Apache-2.0
// The packet tables of xdp_lb: what comes in, and what has to become of it.
import { big, prepareBig } from './cases/big.js';
import { choice, prepareChoice } from './cases/choice.js';
import { errors, prepareErrors } from './cases/errors.js';
import { forwarding, prepareForwarding } from './cases/forwarding.js';
import { fragments, prepareFragments } from './cases/fragments.js';
import { guard, prepareGuard } from './cases/guard.js';
import { icmp } from './cases/icmp.js';
import { lists, prepareLists } from './cases/lists.js';
import { nat, prepareNat } from './cases/nat.js';
import { parsing, prepareParsing } from './cases/parsing.js';
import { plain, preparePlain } from './cases/plain.js';
import { prepareQuic, quic } from './cases/quic.js';
import type { PacketCase } from './cases/table.js';
import type { PacketPath } from './packet-path.js';

export { HEADROOM_CASES } from './cases/plain.js';

/** Fills the tables the cases are written for. */
export function prepareCases(path: PacketPath): void {
  preparePlain(path);
  prepareForwarding(path);
  prepareErrors(path);
  prepareBig(path);
  prepareParsing(path);
  prepareFragments(path);
  prepareChoice(path);
  prepareQuic(path);
  prepareGuard(path);
  prepareLists(path);
  prepareNat(path);
}

/** Every case that needs nothing but prepareCases, in the order they are written for. */
export const PACKET_CASES: readonly PacketCase[] = [
  ...[...plain, ...forwarding, ...icmp, ...errors, ...big],
  ...[...parsing, ...fragments, ...choice, ...quic, ...guard, ...lists, ...nat],
];
