// SPDX-License-Identifier: Apache-2.0
import type { HealthCheck } from '../../model/objects.js';
import type { CheckTarget, Outcome } from './attempt.js';
import { checkGrpc } from './grpc.js';
import { checkHttp } from './http.js';
import { checkTcp } from './tcp.js';
import { checkUdp } from './udp.js';

const BY_TYPE: Readonly<Record<HealthCheck['type'], (target: CheckTarget) => Promise<Outcome>>> = {
  tcp: checkTcp,
  http: checkHttp,
  https: checkHttp,
  udp: checkUdp,
  grpc: checkGrpc,
};

/** Checks a backend once, within its time. Never rejects. */
export const runCheck = (target: CheckTarget): Promise<Outcome> => BY_TYPE[target.check.type](target);
