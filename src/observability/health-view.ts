// SPDX-License-Identifier: Apache-2.0
// The health of backends as the API and the metrics show it.

import { DURATIONS } from '../controlplane/health/checker.js';
import type { BackendView, Health } from '../controlplane/health/health.js';
import type { BackendHealth } from '../model/node-view.js';
import { SLOW_STEPS, type StoredPool } from '../model/objects.js';
import { counter, type Family, histogram } from './exposition.js';

const OFF: BackendHealth = { state: 'off', since: null, lastError: null, lastCheck: null, nodes: {} };

/** `stored` as it is in force here. */
export function backendHealth(
  { value, health }: StoredPool,
  name: string,
  seen: BackendView | undefined,
): BackendHealth {
  const backend = value.backends.find((each) => each.name === name);
  if (!value.healthCheck || !backend || backend.state === 'disabled' || !seen) return OFF;
  const { checked, reports } = seen;
  const down = health?.down.find((each) => each.name === name);
  const slow = health?.slow.find((each) => each.name === name);
  const own = [...reports.values()].filter(({ state }) => state === 'up').map(({ since }) => since);
  const last = checked?.last ?? null;
  return {
    state: down ? 'down' : reports.size === 0 ? 'unknown' : 'up',
    since: down ? new Date(down.since).toISOString() : (own.sort().at(0) ?? null),
    ...(slow && { slowStart: slow.step / SLOW_STEPS }),
    lastError: checked?.lastError ?? null,
    lastCheck: last && {
      at: new Date(last.at).toISOString(),
      result: last.result,
      latencyMs: Math.round(last.latencyMs * 1000) / 1000,
    },
    nodes: Object.fromEntries(reports),
  };
}

/** Of what this node does. */
export function healthFamilies({ results, durations, sum, transitions }: ReturnType<Health['counts']>): Family[] {
  const series = (label: string, of: Readonly<Record<string, number>>) =>
    Object.entries(of).map(([name, value]) => ({ labels: { [label]: name }, value }));
  return [
    counter('health_checks_total', 'Health checks done by this node.', series('result', results)),
    histogram('health_check_duration_seconds', 'How long health checks took.', DURATIONS, durations, sum),
    counter('health_transitions_total', 'Backends that went up or down here, as agreed.', series('to', transitions)),
  ];
}
