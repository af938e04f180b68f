// SPDX-License-Identifier: Apache-2.0
// The options of `pools put` about health checks, and what is shown of them.
import { InvalidArgumentError, Option } from 'commander';
import type { HealthCheck } from '../model/objects.js';
import { integerOf } from './help.js';
import type { ShownBackend, ShownPool } from './shapes.js';

/** `http:8080/healthz`: a type, then if at all a port, then for http and https a path. */
function healthCheck(text: string): Partial<HealthCheck> {
  const [, type, port, path] = /^(tcp|http|https|udp|grpc)(?::(\d+))?(\/.*)?$/.exec(text) ?? [];
  if (type === undefined)
    throw new InvalidArgumentError('Wanted TYPE, TYPE:PORT or TYPE:PORT/PATH: tcp, http, https, udp or grpc.');
  return {
    type: type as HealthCheck['type'],
    ...(port !== undefined && { port: integerOf(port, 1, 65535) }),
    ...(path !== undefined && { path }),
  };
}

function seconds(text: string): number {
  if (!/^\d+(\.\d+)?$/.test(text)) throw new InvalidArgumentError('Wanted seconds, as 2 or 0.5.');
  return Number(text);
}

const number = (text: string): number => integerOf(text, 1, 100);

export const healthOptions: readonly Option[] = [
  new Option('--health-check <type[:port][/path]>', 'look after the backends: tcp, http, https, udp or grpc').argParser(
    healthCheck,
  ),
  new Option('--health-interval <seconds>', 'between two checks of a backend').argParser(seconds),
  new Option('--health-timeout <seconds>', 'that a check may take').argParser(seconds),
  new Option('--health-rise <n>', 'checks in a row that bring a backend back').argParser(number),
  new Option('--health-fall <n>', 'checks in a row that take a backend out').argParser(number),
  new Option('--health-via <way>', "to the backend's own address, or to the service's through the tunnel").choices([
    'direct',
    'tunnel',
  ]),
  new Option('--health-slow-start <seconds>', 'until one that came back has its full weight').argParser(seconds),
  new Option('--when-all-down <what>', 'when more than half are down: keep all in force, or not').choices([
    'open',
    'closed',
  ]),
];

/** The fields of a pool that these options set. */
export function healthBody(options: Record<string, unknown>): Record<string, unknown> {
  const { healthCheck: check, whenAllDown } = options;
  const others = {
    interval: options.healthInterval,
    timeout: options.healthTimeout,
    rise: options.healthRise,
    fall: options.healthFall,
    slowStart: options.healthSlowStart,
    via: options.healthVia,
  };
  const isSet = check !== undefined || Object.values(others).some((value) => value !== undefined);
  return { ...(isSet && { healthCheck: { ...(check as object | undefined), ...others } }), whenAllDown };
}

/** How a pool's backends are looked after. */
export function poolLines({ healthCheck: check, status }: ShownPool): readonly string[] {
  if (!check) return [];
  const { type, port, path, interval, rise, fall, via } = check;
  const what = `${type}${port === undefined ? '' : `:${port}`}${path ?? ''}`;
  const how = `every ${interval} s, ${fall} bad take a backend out, ${rise} good bring it back${via === 'tunnel' ? ', through the tunnel' : ''}`;
  const open = status?.failOpen ? ['Fail open     more than half are down by their checks: all are kept in force'] : [];
  return ['', `Health check  ${what} ${how}`, ...open];
}

/** What the nodes find of one backend. */
export function healthLines({ status }: ShownBackend): readonly string[] {
  const health = status?.health;
  if (!health || health.state === 'off') return [];
  const { lastCheck, nodes } = health;
  const last = lastCheck ? [`Last check  ${lastCheck.result}, ${lastCheck.latencyMs} ms, ${lastCheck.at}`] : [];
  const views = Object.entries(nodes).map(
    ([node, { state, since, detail }]) => `${node}  ${state} since ${since}${detail === '' ? '' : `: ${detail}`}`,
  );
  return ['', ...last, ...views];
}
