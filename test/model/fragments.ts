// SPDX-License-Identifier: Apache-2.0
// docs/packet-path.md, "Fragments". Their memory lasts: a run empties it before it could expire.
import { Reason, Tally } from '../../src/dataplane/abi.gen.js';
import { type Choice, guard, ringChoiceOfClient } from './choose.js';
import { send } from './outer.js';
import type { Fragment, Packet } from './parse.js';
import { type Datagram, type ModelService, takes, type Verdict, type World } from './world.js';

const pairId = (packet: Packet): string =>
  `${packet.from.toString('latin1')}${packet.to.toString('latin1')}/${packet.protocol}`;
const datagramId = (packet: Packet): string => `${pairId(packet)}/${(packet.fragment as Fragment).id}`;

/** Where a first fragment goes instead, and what it leaves for the others. */
export function firstFragment(world: World, service: ModelService, packet: Packet, choice: Choice): Choice {
  const earlier = world.datagrams.get(datagramId(packet));
  const early =
    earlier?.early && earlier.service.pool === service.pool ? takes(world, earlier.backend, service.flags) : null;
  const backend = early ?? choice.backend;
  if (backend === null) return choice;
  const seen: Datagram = { service, backend: backend.number, early: false };
  world.datagrams.set(datagramId(packet), seen);
  world.pairs.set(pairId(packet), seen);
  return { ...choice, backend };
}

/** A fragment with an offset: it has no ports. */
export function laterFragment(world: World, packet: Packet, frame: Buffer): Verdict {
  const found = lookUp(world, packet);
  if (found === null) return { reason: Reason.FRAGMENT, service: 0, tallies: [], out: frame, open: [] };
  const { service, early } = found;
  const refused = guard(service, packet.from);
  const dropped = { service: service.number, out: frame, open: [] };
  if (refused !== null) return { ...dropped, reason: refused, tallies: [] };
  const backend = takes(world, found.backend, service.flags);
  if (backend === null) return { ...dropped, reason: Reason.NO_BACKEND, tallies: [] };
  if (early) world.datagrams.set(datagramId(packet), found);
  return send(world, service, backend, packet, null, [early ? Tally.FRAGMENT_EARLY : Tally.FRAGMENT]);
}

/** The backend remembered or chosen; `early` when it is chosen now. */
function lookUp(world: World, packet: Packet): Datagram | null {
  const datagram = world.datagrams.get(datagramId(packet));
  if (datagram) return { ...datagram, early: false };
  const pair = world.pairs.get(pairId(packet));
  if (pair) return { ...pair, early: true };
  const services = (world.vips.get(packet.to.toString('latin1')) ?? []).filter(
    ({ protocol }) => protocol === packet.protocol,
  );
  const [service] = services;
  if (!service || services.length > 1) return null;
  return { service, backend: ringChoiceOfClient(world, service, packet.from), early: true };
}
