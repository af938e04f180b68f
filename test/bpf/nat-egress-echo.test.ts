// SPDX-License-Identifier: Apache-2.0
// Errors about echoes of private sources; and SYN-ACKs of theirs that nobody asked for.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { formatAddress } from '../../src/model/address.js';
import { type NatPath, openNatPath, TC } from '../support/nat-path.js';
import { pinTo } from '../support/packet-run.js';
import { frame, icmpMessage, ipv4Header, ipv6Header, packet, TCP } from '../support/packets.js';

const PRIVATE = { 4: '10.20.0.7', 6: 'fd00:20::7' } as const;
const REMOTE = { 4: '198.51.100.9', 6: '2001:db8:9::9' } as const;
const ROUTER = { 4: '198.51.100.1', 6: '2001:db8:9::1' } as const;
const PUBLIC = { 4: ['192.0.2.200'], 6: ['2001:db8::200'] } as const;
const ID = 0x4321;

let path: NatPath;
before(async () => {
  pinTo(0);
  path = await openNatPath();
  for (const family of [4, 6] as const) path.pool(family, PUBLIC[family]);
  path.egress('10.20.0.0/16', 4);
  path.egress('fd00:20::/32', 6);
});
after(() => path?.close());

/** An ICMP message of code 0 in its IP packet; `rest` follows the checksum. */
function message(from: string, to: string, type: number, rest: Uint8Array): Buffer {
  const body = icmpMessage(from, to, type, 0, rest);
  const header = from.includes(':') ? ipv6Header(from, to, 58, body.length) : ipv4Header(from, to, 1, body.length);
  return Buffer.concat([header, body]);
}

const echo = (from: string, to: string, type: number, id: number): Buffer =>
  message(from, to, type, Buffer.of(id >> 8, id & 255, 0, 1, 9, 9));

/** Time exceeded. */
const error = (from: string, to: string, quote: Buffer): Buffer =>
  frame(message(from, to, from.includes(':') ? 3 : 11, Buffer.concat([Buffer.alloc(4), quote])));

function goesOn(run: { retval: number; data: Uint8Array }, wanted: Buffer): void {
  assert.equal(run.retval >>> 0, TC.UNSPEC);
  assert.equal(Buffer.from(run.data).toString('hex'), wanted.toString('hex'));
}

for (const family of [4, 6] as const) {
  const [own, remote, router] = [PRIVATE[family], REMOTE[family], ROUTER[family]];
  const [request, reply] = family === 4 ? ([8, 0] as const) : ([128, 129] as const);

  test(`nat: IPv${family}: an error that quotes an echo, or its reply, is translated with it`, () => {
    path.leave(frame(echo(own, remote, request, ID)));
    const nat = path.connections().find((each) => each.clientPort === ID && each.clientFamily === family);
    assert.ok(nat);
    const address = formatAddress(nat.source.subarray(0, family === 4 ? 4 : 16));
    const id = nat.sourcePort;
    goesOn(
      path.run(error(router, address, echo(address, remote, request, id))),
      error(router, own, echo(own, remote, request, ID)),
    );
    goesOn(
      path.leave(error(own, remote, echo(remote, own, reply, ID))),
      error(address, remote, echo(remote, address, reply, id)),
    );
  });

  test(`nat: IPv${family}: a SYN-ACK begins no connection`, () => {
    const flags = TCP.SYN | TCP.ACK;
    const out = packet({ protocol: 'tcp', from: own, to: remote, fromPort: 1, toPort: 2, flags });
    assert.equal(path.leave(out).retval, TC.SHOT);
  });
}
