// SPDX-License-Identifier: Apache-2.0
import { agentKey } from '../dataplane/program.js';
import type { Snapshot } from '../model/objects.js';

/** What the agents on the backends are to be given: 32 hex digits, the same on every node of the cluster. */
export function agentKeyOf({ hashKey }: Snapshot): string {
  return Buffer.from(agentKey(Buffer.from(hashKey, 'hex'))).toString('hex');
}
