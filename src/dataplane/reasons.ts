// SPDX-License-Identifier: Apache-2.0
import { Reason } from './abi.gen.js';

export type Action = 'tx' | 'redirect' | 'pass' | 'drop' | 'aborted';

const SENT_BACK: readonly number[] = [Reason.FORWARDED, Reason.ECHO_ANSWERED, Reason.TOO_BIG_ANSWERED];
const PASSED: readonly number[] = [Reason.NOT_IP, Reason.RUNT, Reason.NOT_OURS, Reason.NAT];

/** The action a packet with this reason leaves with; the same table as finish() in bpf/lib/exit.h, which a test compares. */
export function actionOf(reason: number): Action {
  if (SENT_BACK.includes(reason)) return 'tx';
  if (reason === Reason.REDIRECTED || reason === Reason.SPLIT) return 'redirect';
  if (PASSED.includes(reason)) return 'pass';
  return reason === Reason.INTERNAL ? 'aborted' : 'drop';
}

/** Lower-case names by number, as metrics and API show them: not_ours, no_backend, ... */
export const REASON_NAMES: readonly string[] = Object.entries(Reason)
  .filter(([name]) => name !== 'COUNT')
  .sort((a, b) => a[1] - b[1])
  .map(([name]) => name.toLowerCase());
