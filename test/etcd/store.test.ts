// SPDX-License-Identifier: Apache-2.0
// The contract, and what several writers make of it.
import { storeContract } from '../unit/store-contract.js';
import { openStore } from './stores.js';

storeContract('etcd', async (t) => (await openStore(t)).store);
