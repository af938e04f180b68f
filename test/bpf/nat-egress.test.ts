// SPDX-License-Identifier: Apache-2.0
// Private sources on their way out, and the answers, by packet tables.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { formatAddress } from '../../src/model/address.js';
import { type NatPath, openNatPath, TC } from '../support/nat-path.js';
import { pinTo } from '../support/packet-run.js';
import { icmpFrame, ipFrame, type PacketSpec, packet, TCP } from '../support/packets.js';

const PRIVATE = { 4: '10.20.0.7', 6: 'fd00:20::7' } as const;
const REMOTE = { 4: '198.51.100.9', 6: '2001:db8:9::9' } as const;
const PUBLIC = { 4: ['192.0.2.200', '192.0.2.201'], 6: ['2001:db8::200', '2001:db8::201'] } as const;

let path: NatPath;
let ports = 40_000;
before(async () => {
  pinTo(0);
  path = await openNatPath();
  for (const family of [4, 6] as const) path.pool(family, PUBLIC[family]);
  path.egress('10.20.0.0/16', 4);
  path.egress('fd00:20::/32', 6);
});
after(() => path?.close());

/** It stays on its way; what it is now. */
function goesOn(run: { retval: number; data: Uint8Array }, wanted: Buffer, what: string): void {
  assert.equal(run.retval >>> 0, TC.UNSPEC, what);
  assert.equal(Buffer.from(run.data).toString('hex'), wanted.toString('hex'), what);
}

const sourceOf = (port: number): readonly [string, number] => {
  const nat = path.connections().find((each) => each.clientPort === port && each.service === 0) ?? assert.fail();
  return [formatAddress(nat.source.subarray(0, nat.clientFamily === 4 ? 4 : 16)), nat.sourcePort];
};

for (const family of [4, 6] as const) {
  for (const protocol of ['tcp', 'udp'] as const)
    test(`nat: IPv${family} ${protocol}: a private source leaves with an address of the pool, answers find it`, () => {
      const port = ports++;
      const out: PacketSpec = { protocol, from: PRIVATE[family], to: REMOTE[family], fromPort: port, toPort: 443 };
      path.leave(packet({ ...out, flags: TCP.SYN }));
      const [address, sourcePort] = sourceOf(port);
      assert.ok((PUBLIC[family] as readonly string[]).includes(address));
      for (const payload of [0, 1, 1400]) {
        goesOn(
          path.leave(packet({ ...out, payload })),
          packet({ ...out, from: address, fromPort: sourcePort, payload }),
          'out',
        );
        const back = { protocol, from: REMOTE[family], fromPort: 443, payload } as const;
        goesOn(
          path.run(packet({ ...back, to: address, toPort: sourcePort })),
          packet({ ...back, to: PRIVATE[family], toPort: port }),
          'back',
        );
      }
    });

  test(`nat: IPv${family}: an echo request leaves with an identifier of the pool, its reply finds it`, () => {
    const echo = (type: number, from: string, to: string, id: number): Buffer =>
      icmpFrame(from, to, [type, 0, id * 65536 + 1], Buffer.alloc(9, 0x41));
    const [request, reply] = family === 4 ? [8, 0] : [128, 129];
    for (const id of [0, 1, 0x1234, 0xffff]) {
      path.leave(echo(request, PRIVATE[family], REMOTE[family], id));
      const nat =
        path
          .connections()
          .find(
            (each) =>
              each.clientPort === id && each.clientFamily === family && each.protocol !== 6 && each.protocol !== 17,
          ) ?? assert.fail();
      const address = formatAddress(nat.source.subarray(0, family === 4 ? 4 : 16));
      goesOn(
        path.leave(echo(request, PRIVATE[family], REMOTE[family], id)),
        echo(request, address, REMOTE[family], nat.sourcePort),
        'request',
      );
      goesOn(
        path.run(echo(reply, REMOTE[family], address, nat.sourcePort)),
        echo(reply, REMOTE[family], PRIVATE[family], id),
        'reply',
      );
    }
  });

  test(`nat: IPv${family}: what cannot be translated does not leave with a private source`, () => {
    const from = PRIVATE[family];
    for (const input of [
      packet({ protocol: 'tcp', from, to: REMOTE[family], fromPort: 1, toPort: 2, flags: TCP.ACK }),
      ipFrame(from, REMOTE[family], 132, Buffer.alloc(16)), // SCTP
      icmpFrame(from, REMOTE[family], [13, 0, 0], Buffer.alloc(8)),
    ])
      assert.equal(path.leave(input).retval, TC.SHOT);
  });

  test(`nat: IPv${family}: other sources, and answers nobody asked for, are not touched`, () => {
    const other = family === 4 ? '10.21.0.7' : 'fd00:21::7';
    const out = packet({ protocol: 'tcp', from: other, to: REMOTE[family], fromPort: 1, toPort: 2, flags: TCP.SYN });
    goesOn(path.leave(out), out, 'out');
    const back = packet({ protocol: 'tcp', from: REMOTE[family], to: PUBLIC[family][0], fromPort: 443, toPort: 1999 });
    goesOn(path.run(back), back, 'back');
  });
}
