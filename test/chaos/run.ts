// SPDX-License-Identifier: Apache-2.0
// Runs scenarios in a lab of their own, and says what the checker found.
import { setTimeout as pause } from 'node:timers/promises';
import { openLab } from '../../src/lab/lab.js';
import { randomFrom } from '../unit/random.js';
import { type Checker, openChecker } from './checker.js';
import type { Violation } from './records.js';
import { killBalancer, type Scenario } from './scenarios.js';

export interface ChaosOptions {
  readonly lab: string;
  readonly backends: number;
  readonly long: number;
  readonly short: number;
  readonly forwarding: 'ipip' | 'gue' | 'nat';
  readonly seed: number;
  readonly scale: number;
  say(line: string): void;
}

export interface ChaosResult {
  readonly scenario: string;
  readonly seconds: number;
  readonly connections: number;
  readonly records: number;
  /**
   * When flows come to a balancer that has no record of them: `younger` began after the rows had begun to change. On a row in transition IP in
   * IP cannot tell them from older ones. All others are violations; with GUE, which has a second chance, there are no others.
   */
  readonly violations: readonly Violation[];
  readonly younger: readonly Violation[];
  /** Packets at the backends, by what their agents did with them. */
  readonly agents: ReadonlyMap<string, number>;
}

const never = new AbortController().signal;

/** `killed`: two balancers, of which one is killed in the middle. */
export async function runScenario(scenario: Scenario, killed: boolean, options: ChaosOptions): Promise<ChaosResult> {
  const { say, seed, scale } = options;
  const started = Date.now();
  const lab = await openLab(
    { name: options.lab, backends: options.backends, balancers: killed ? 2 : 1 },
    never,
    () => {},
  );
  try {
    const checker = await openChecker(lab, options.forwarding, scenario.first ?? (() => true));
    await checker.keep(options.long, options.short);
    await pause(1000);
    const began = Date.now();
    let revive: (() => Promise<void>) | null = null;
    const middle = async (): Promise<void> => {
      if (!killed) return;
      // The one that writes the store keeps its daemon: a write cannot go on elsewhere before there is etcd.
      revive = (await killBalancer(lab, 1)).revive;
      say('a balancer is killed');
    };
    await scenario.run({ lab, checker, random: randomFrom(seed), scale, say, middle });
    await pause(1000);
    if (revive) {
      await (revive as () => Promise<void>)();
      await pause(1500);
    }
    const agents = lab.agents.results();
    const seen = [...agents].filter(([, packets]) => packets > 0);
    say(`packets at the agents: ${seen.map(([result, packets]) => `${packets} ${result}`).join(', ')}`);
    return {
      scenario: `${scenario.name}${killed ? ' +kill' : ''}`,
      seconds: (Date.now() - started) / 1000,
      agents,
      ...found(checker, killed && options.forwarding === 'ipip' ? began : null),
    };
  } finally {
    await lab.close();
  }
}

function found(checker: Checker, began: number | null) {
  const { connections, records, violations } = checker.report();
  const isYounger = ({ begun, kind }: Violation): boolean => began !== null && begun > began && kind === 'reset';
  return {
    connections,
    records,
    violations: violations.filter((v) => !isYounger(v)),
    younger: violations.filter(isYounger),
  };
}
