// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Reason, ServiceFlag } from '../../src/dataplane/abi.gen.js';
import { REASON_NAMES } from '../../src/dataplane/reasons.js';
import { random } from '../fuzz/random.js';
import { randomProgram, randomWorld } from '../fuzz/setup.js';
import { makeSteps } from '../fuzz/steps.js';
import { openSplitting, putWorld } from '../fuzz/tables.js';
import { model } from '../model/model.js';
import type { Verdict, World } from '../model/world.js';
import { PACKET_CASES, prepareCases } from '../support/packet-cases.js';
import { openPacketPath, type PacketPath } from '../support/packet-path.js';
import { pinTo } from '../support/packet-run.js';
import { BAD, dissect, GOOD, type Reading } from '../support/tshark.js';
import { chosenSeed } from '../unit/random.js';

/** What can be seen to leave. */
const SENT: readonly number[] = [Reason.FORWARDED, Reason.REDIRECTED, Reason.ECHO_ANSWERED, Reason.TOO_BIG_ANSWERED];

/** A frame on its way in and out, as tshark reads both. */
interface Seen {
  readonly name: string;
  readonly in: Reading;
  readonly out: Reading;
}

const HEADERS = /^(ip|ipv6(\..*)?|tcp|udp|icmp|icmpv6)$/;

/**
 * The headers of a packet from its outer IP header on. Not the payload, random bytes that some dissector may think to know; and of GUE,
 * read by the dissector of IP, only the family inside.
 */
const layers = (reading: Reading): string =>
  (reading['frame.protocols'][0] ?? '')
    .split(':')
    .filter((name) => HEADERS.test(name))
    .join(' ')
    .replaceAll('udp ip ipv6', 'udp ipv6');

const CHECKSUMS = ['ip', 'tcp', 'udp', 'icmp', 'icmpv6'].map((name) => `${name}.checksum.status` as keyof Reading);

/** Every checksum of the packet inside is what it was, and those in front of it are right; where one inside is wrong, GUE's may be. */
function assertTunnelled({ name, in: came, out }: Seen, outer: string): void {
  assert.deepEqual(out['_ws.malformed'], came['_ws.malformed'], name);
  assert.equal(layers(out), `${outer} ${layers(came)}`.trim(), name);
  for (const field of CHECKSUMS) {
    const own = out[field].slice(0, out[field].length - came[field].length);
    assert.deepEqual(out[field].slice(own.length), came[field], `${name}: ${field}`);
    const derived = field === 'udp.checksum.status' && CHECKSUMS.some((each) => came[each].includes(BAD));
    assert.ok(derived || !own.includes(BAD), `${name}: outer ${field} ${own}`);
  }
}

/** Behind the outer headers lies what this tshark does not know: GUE of variant 0. They are right, and the rest is the model's to check. */
function assertListed({ name, in: came, out }: Seen, outer: string): void {
  assert.ok(layers(out).startsWith(outer), `${name}: ${layers(out)}`);
  assert.notEqual(out[outer.startsWith('ipv6') ? 'ipv6.dst' : 'ip.dst'][0], undefined, name);
  if (!outer.startsWith('ipv6')) assert.equal(out['ip.checksum.status'][0], GOOD, name);
  else if (!CHECKSUMS.some((each) => came[each].includes(BAD))) assert.equal(out['udp.checksum.status'][0], GOOD, name);
}

/** The outer headers a frame should have, from the tables it was sent by. */
function outerOf(world: World, verdict: Verdict): string {
  const index = verdict.counted?.index ?? assert.fail();
  const service = [...world.services.values()].find(({ countersStart }) => countersStart === index - (index % 8));
  const slot = index % 8;
  const backend = [...world.backends.values()].find((one) => one.pool === service?.pool && one.slot === slot);
  assert.ok(service && backend);
  if ((service.flags & ServiceFlag.L2) !== 0) return '';
  const family = backend.address.length === 16 ? 'ipv6' : 'ip';
  return (service.flags & ServiceFlag.GUE) !== 0 ? `${family} udp` : family;
}

/** By its outermost header: a tunnel's packet has addresses of the other family too. */
const isIpv6 = (reading: Reading): boolean => layers(reading).startsWith('ipv6');

/** The answer is addressed back, whole, and right wherever what it answers was. */
function assertAnswer({ name, in: came, out }: Seen): void {
  const v6 = isIpv6(came);
  const [from, to] = v6 ? (['ipv6.src', 'ipv6.dst'] as const) : (['ip.src', 'ip.dst'] as const);
  assert.deepEqual([out[from][0], out[to][0]], [came[to][0], came[from][0]], name);
  assert.equal(out[v6 ? 'ipv6.hlim' : 'ip.ttl'][0], '64', name);
  assert.deepEqual(out['vlan.id'], came['vlan.id'], name);
  if (!v6) assert.equal(out['ip.checksum.status'][0], GOOD, name);
}

let path: PacketPath;
before(() => pinTo(0));
after(() => path?.close());

test('tshark reads what the packet tables send as the packet that came, behind a right outer header', async () => {
  path = await openPacketPath();
  prepareCases(path);
  const frames: Buffer[] = [];
  const sent = PACKET_CASES.filter(({ to }) => to !== undefined);
  for (const one of sent) {
    one.state?.(path);
    frames.push(one.packet, Buffer.from(path.program.run(one.packet, one.context ?? null).data));
  }
  const readings = dissect(frames);
  assert.equal(readings.length, frames.length);
  for (const [at, { name, to }] of sent.entries()) {
    const [came, out] = [readings[2 * at], readings[2 * at + 1]];
    assert.ok(came && out);
    const own = layers(out)
      .slice(0, Math.max(0, layers(out).length - layers(came).length))
      .trim();
    assert.match(own, /^(ip|ipv6)?( udp)?$/, name);
    assertTunnelled({ name, in: came, out }, own);
    if (own !== '') assert.ok(out['ip.dst'][0] === to || out['ipv6.dst'][0] === to, `${name}: to ${to}`);
  }
});

test('tshark reads what random nodes send as the packet that came, and their answers as answers', async (t) => {
  const seed = chosenSeed();
  t.diagnostic(`seed ${seed}`);
  const reached = new Set<number>();
  for (let node = 0; node < 4; node++) {
    const draws = random(seed + node);
    const config = randomProgram(draws);
    const world = randomWorld(draws, config);
    const steps = makeSteps(draws, world, 400, { kinds: [], largest: 3500, faultless: true });
    const path = await openSplitting(config);
    await putWorld(path.maps, world);
    const frames: Buffer[] = [];
    const verdicts: Verdict[] = [];
    for (const step of steps) {
      if (step === 'forget' || !('frame' in step)) continue;
      const verdict = model(world, step.frame);
      const { data } = path.program.run(step.frame, null);
      if (!SENT.includes(verdict.reason)) continue;
      frames.push(step.frame, Buffer.from(data));
      verdicts.push(verdict);
    }
    path.close();
    const readings = dissect(frames);
    for (const [at, verdict] of verdicts.entries()) {
      const [came, out] = [readings[2 * at], readings[2 * at + 1]];
      assert.ok(came && out);
      const name = `seed ${seed} ${REASON_NAMES[verdict.reason]} ${frames[2 * at]?.toString('hex')}`;
      const seen = { name, in: came, out };
      reached.add(verdict.reason);
      if (verdict.reason === Reason.FORWARDED || verdict.reason === Reason.REDIRECTED) {
        (verdict.listed ? assertListed : assertTunnelled)(seen, outerOf(world, verdict));
        continue;
      }
      assertAnswer(seen);
      const icmp = isIpv6(came) ? 'icmpv6' : 'icmp';
      if (verdict.reason === Reason.ECHO_ANSWERED) {
        assert.equal(out[`${icmp}.type`][0], icmp === 'icmp' ? '0' : '129', name);
        assert.deepEqual(out[`${icmp}.checksum.status`], came[`${icmp}.checksum.status`], name);
      } else {
        assert.equal(out[`${icmp}.checksum.status`][0], GOOD, name);
        assert.equal(out[`${icmp}.type`][0], icmp === 'icmp' ? '3' : '2', name);
        const mtu = Number(out[`${icmp}.mtu`][0]);
        assert.ok(mtu >= 1000 && mtu <= 9000, `${name}: MTU ${mtu}`);
      }
    }
  }
  assert.deepEqual(
    SENT.filter((reason) => !reached.has(reason)),
    [],
  );
});
