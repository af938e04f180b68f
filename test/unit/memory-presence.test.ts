// SPDX-License-Identifier: Apache-2.0
import { openMemoryPresence, presenceHub } from '../../src/controlplane/presence.js';
import { presenceContract } from './presence-contract.js';

presenceContract('memory', async (_t, nodes) => {
  const hub = presenceHub();
  return Array.from({ length: nodes }, () => openMemoryPresence(hub));
});
