// SPDX-License-Identifier: Apache-2.0
import { openMemoryStore } from '../../src/controlplane/memory-store.js';
import { storeContract } from './store-contract.js';

storeContract('memory', async () => openMemoryStore());
