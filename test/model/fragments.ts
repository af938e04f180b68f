// SPDX-License-Identifier: Apache-2.0
// docs/packet-path.md, "Fragments". Their memory lasts: a run empties it before it could expire.
import { Reason, ServiceFlag, Tally } from '../../src/dataplane/abi.gen.js';
import { type Choice, guard, ringChoiceOfClient } from './choose.js';
import { send } from './outer.js';
import type { Fragment, Packet } from './parse.js';
import { type Datagram, type ModelBackend, type ModelService, takes, type Verdict, type World } from './world.js';

const pairId = (packet: Packet): string =>
  `${packet.from.toString('latin1')}${packet.to.toString('latin1')}/${packet.protocol}`;
const datagramId = (packet: Packet): string => `${pairId(packet)}/${(packet.fragment as Fragment).id}`;

/** What a first fragment leaves for the others. */
export function remember(world: World, packet: Packet, seen: Datagram): void {
  world.datagrams.set(datagramId(packet), seen);
  world.pairs.set(pairId(packet), seen);
}

/** Where a first fragment goes instead, and what it leaves for the others. */
export function firstFragment(world: World, service: ModelService, packet: Packet, choice: Choice): Choice {
  const earlier = world.datagrams.get(datagramId(packet));
  const early =
    earlier?.early && earlier.service.pool === service.pool ? takes(world, earlier.backend, service.flags) : null;
  const backend = early ?? choice.backend;
  if (backend === null) return choice;
  remember(world, packet, { service, backend: backend.number, early: false });
  return { ...choice, backend };
}

/** A fragment with an offset: it has no ports. */
export function laterFragment(world: World, packet: Packet, frame: Buffer): Verdict {
  const found = lookUp(world, packet);
  const dropped = { service: found.service?.number ?? 0, tallies: [], out: frame, open: [] };
  const nat = ((found.service?.flags ?? 0) & ServiceFlag.NAT) !== 0;
  if (nat && found.service) {
    const refused = guard(found.service, packet.from);
    return refused === null ? { ...dropped, service: 0, reason: Reason.NAT } : { ...dropped, reason: refused };
  }
  if (!found.backend) return { ...dropped, reason: Reason.FRAGMENT };
  const { service, backend, early } = found;
  const refused = guard(service, packet.from);
  if (refused !== null) return { ...dropped, reason: refused };
  if (early) world.datagrams.set(datagramId(packet), { service, backend: backend.number, early });
  return send(world, service, backend, packet, null, [early ? Tally.FRAGMENT_EARLY : Tally.FRAGMENT]);
}

type Found =
  | { readonly service: ModelService; readonly backend: ModelBackend; readonly early: boolean }
  | { readonly service: ModelService | null; readonly backend: null };

/** The backend remembered or chosen; `early` when it is chosen now. */
function lookUp(world: World, packet: Packet): Found {
  const datagram = world.datagrams.get(datagramId(packet));
  const known = datagram ?? world.pairs.get(pairId(packet));
  const remembered = known && takes(world, known.backend, known.service.flags);
  if (remembered) return { service: known.service, backend: remembered, early: !datagram };
  if (known && (known.service.flags & ServiceFlag.NAT) !== 0) return { service: known.service, backend: null };
  const services = (world.vips.get(packet.to.toString('latin1')) ?? []).filter(
    ({ protocol }) => protocol === packet.protocol,
  );
  const only = services.length === 1 ? services[0] : undefined;
  if (!only) return { service: known?.service ?? null, backend: null };
  const backend = takes(world, ringChoiceOfClient(world, only, packet.from), only.flags);
  return backend ? { service: only, backend, early: true } : { service: only, backend };
}
