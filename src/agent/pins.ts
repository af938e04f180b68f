// SPDX-License-Identifier: Apache-2.0
// What outlives the agent: links, counters and the note of its addresses, below <bpffs>/fairlead-agent.
import { closeSync, existsSync, mkdirSync, openSync, readdirSync, rmdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { type NativeMap, native } from '../dataplane/native.js';
import { linkPin, pinnedLinks, prepareBpffs } from '../dataplane/pins.js';
import { dropFilters, dropLink } from '../dataplane/tc.js';
import { FairleadError } from '../model/errors.js';

const rootOf = (bpffs: string): string => join(bpffs, 'fairlead-agent');

/** The hooks of an interface. The pins of each are in a directory of its own. */
export const hooks = ['xdp', 'tc'] as const;
export type Hook = (typeof hooks)[number];

/** Where something of the agent is pinned below this bpffs. */
export const agentPins = (bpffs: string) => ({
  root: rootOf(bpffs),
  map: (name: string): string => join(rootOf(bpffs), 'maps', name),
  link: (hook: Hook, name: string, mode: 'native' | 'generic'): string =>
    join(rootOf(bpffs), 'links', hook, linkPin(0, mode, name)),
  /** By interface. */
  links: (hook: Hook) => pinnedLinks(join(rootOf(bpffs), 'links', hook)),
});

export type AgentPins = ReturnType<typeof agentPins>;

/**
 * Has the directories there, and this process alone in them. Answers what gives them back, and takes those away that are empty.
 * Throws 'busy' while another agent has them.
 */
export function takePins(bpffs: string): () => void {
  const root = rootOf(bpffs);
  prepareBpffs(bpffs, root);
  for (const hook of hooks) mkdirSync(join(root, 'links', hook), { recursive: true });
  const fd = openSync(root, 'r');
  if (!native.tryLock(fd)) {
    closeSync(fd);
    throw new FairleadError('busy', `lock "${root}": another agent runs with it; stop it first`);
  }
  return () => {
    const ofHooks = ['links', 'programs'].flatMap((kind) => [...hooks.map((hook) => join(kind, hook)), kind]);
    for (const part of [...ofHooks, 'filters', 'qdiscs', 'maps', '.'])
      if (existsSync(join(root, part)) && readdirSync(join(root, part)).length === 0) rmdirSync(join(root, part));
    closeSync(fd);
  };
}

/** A pinned map, null without one. */
export const openPinned = (pin: string): NativeMap | null => (existsSync(pin) ? native.openMap(pin) : null);

/** Takes the agent's programs off, and its pins away. Says what it removed. */
export function detachPrograms(bpffs: string): string[] {
  const root = rootOf(bpffs);
  if (!existsSync(root)) return [];
  const pins = agentPins(bpffs);
  const removed = new Set<string>();
  for (const hook of hooks.filter((hook) => existsSync(join(root, 'links', hook))))
    for (const [name, { pin }] of pins.links(hook)) {
      dropLink(pin);
      removed.add(`program of the agent taken off: ${name}`);
    }
  for (const name of dropFilters(root)) removed.add(`program of the agent taken off: ${name}`);
  rmSync(root, { recursive: true, force: true });
  return [...removed];
}
