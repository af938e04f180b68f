// SPDX-License-Identifier: Apache-2.0
// The programs of `fairlead agent` by packet tables, with real sockets on the loopback.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { agentResults, loadAgent } from '../../src/agent/program.js';
import type { NativeMap, NativeObject, NativeProgram } from '../../src/dataplane/native.js';
import { parseAddress } from '../../src/model/address.js';
import { ownersList } from '../model/outer.js';
import { checksum, frame, ipv4Header, ipv6Header, packet } from '../support/packets.js';

const PASS = 2;
const UNSPEC = 0xffffffff;
const REDIRECT = 7;
const KEY = Uint8Array.from({ length: 16 }, (_, at) => 7 * at + 1);
const OWNERS = { 4: ['10.9.0.22', '10.9.0.23', '10.9.0.24'], 6: ['fd00:9::22', 'fd00:9::23', 'fd00:9::24'] } as const;
const BALANCER = { 4: '10.9.0.10', 6: 'fd00:9::10' } as const;
const HERE = { 4: '10.9.0.21', 6: 'fd00:9::21' } as const;
const LOOPBACK = { 4: '127.0.0.1', 6: '::1' } as const;
type Family = 4 | 6;

let object: NativeObject;
let xdp: NativeProgram;
let tc: NativeProgram;
let counted: NativeMap;
/** An established connection of each family: the ports of client and server. */
const live: Record<Family, [number, number]> = { 4: [0, 0], 6: [0, 0] };
const close: (() => void)[] = [];

before(async () => {
  object = await loadAgent(KEY, ['10.9.0.0/27', 'fd00:9::10/128'], null);
  [xdp, tc, counted] = [object.program('xdp_agent'), object.program('tc_agent'), object.map('agent_results')];
  for (const family of [4, 6] as const) {
    const accepted: Socket[] = [];
    const server = createServer((socket) => accepted.push(socket));
    server.listen(0, LOOPBACK[family]);
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    const client = connect(port, LOOPBACK[family]);
    await Promise.all([once(client, 'connect'), once(server, 'connection')]);
    live[family] = [(client.address() as AddressInfo).port, port];
    close.push(() => {
      for (const each of [client, server, ...accepted]) 'destroy' in each ? each.destroy() : each.close();
    });
  }
});
after(() => {
  for (const each of [...close, () => object?.close()]) each();
});

interface Spec {
  readonly inner?: Family;
  readonly outer?: Family;
  readonly ports?: readonly [number, number];
  readonly owners?: number;
  readonly next?: number;
  readonly from?: string;
  readonly protocol?: 'tcp' | 'udp';
  /** Changes the list, tag and all, before it is sent. */
  readonly bend?: (list: Buffer) => Buffer | undefined;
}

const inside = ({ inner = 4, ports = [40000, 1], protocol = 'tcp' }: Spec): Buffer =>
  packet({
    from: LOOPBACK[inner],
    to: LOOPBACK[inner],
    fromPort: ports[0],
    toPort: ports[1],
    protocol,
    payload: 9,
  }).subarray(14);

/** A packet as a balancer sends it whose guess we are. */
function listed(spec: Spec): Buffer {
  const { inner = 4, outer = 4, ports = [40000, 1], owners = 2, next = 0 } = spec;
  const bytes = (address: string): Buffer => Buffer.from(parseAddress(address).bytes);
  const list = ownersList(
    new Uint32Array(Uint8Array.from(KEY).buffer),
    { from: bytes(LOOPBACK[inner]), to: bytes(LOOPBACK[inner]), fromPort: ports[0], toPort: ports[1], v6: inner === 6 },
    OWNERS[outer].slice(0, owners).map(bytes),
  );
  list.writeUInt8(next, 5);
  return tunnel(
    outer,
    Buffer.concat([spec.bend?.(list) ?? list, inside(spec)]),
    spec.from ?? BALANCER[outer],
    HERE[outer],
  );
}

/** UDP over the outer header; over IPv6 with the checksum it must have. */
function tunnel(outer: Family, payload: Buffer, from: string, to: string): Buffer {
  const size = 8 + payload.length;
  const udp = Buffer.concat([Buffer.of(0xc0, 1, 6080 >> 8, 6080 & 255, size >> 8, size & 255, 0, 0), payload]);
  if (outer === 4) return frame(Buffer.concat([ipv4Header(from, to, 17, size), udp]));
  udp.writeUInt16BE(checksum(Buffer.concat([pseudo(from, to, size), udp])) || 0xffff, 6);
  return frame(Buffer.concat([ipv6Header(from, to, 17, size), udp]));
}

function pseudo(from: string, to: string, size: number): Buffer {
  const rest = Buffer.alloc(8);
  rest.writeUInt32BE(size, 0);
  rest.writeUInt8(17, 7);
  return Buffer.concat([parseAddress(from).bytes, parseAddress(to).bytes, rest]);
}

/** Which results went up while `work` ran: `socket 1`. */
function counts(work: () => void): string {
  const earlier = agentResults(counted);
  work();
  return [...agentResults(counted)]
    .filter(([name, packets]) => packets !== earlier.get(name))
    .map(([name, packets]) => `${name} ${packets - (earlier.get(name) ?? 0)}`)
    .join(', ');
}

/** What xdp_agent and then tc_agent make of a frame, and what they counted. */
function meets(input: Buffer): { left: 'taken in' | 'as it came' | 'sent on'; out: Buffer; counted: string } {
  let out = Buffer.alloc(0);
  let left: 'taken in' | 'as it came' | 'sent on' = 'taken in';
  const seen = counts(() => {
    const first = xdp.run(input, null);
    assert.equal(first.retval, PASS);
    out = Buffer.from(first.data);
    if (!out.equals(input)) return;
    const second = tc.run(input, null);
    out = Buffer.from(second.data);
    left = second.retval === REDIRECT ? 'sent on' : 'as it came';
    if (left === 'as it came') assert.equal(second.retval >>> 0, UNSPEC);
  });
  return { left, out, counted: seen };
}

const takenIn = (spec: Spec, result: string): void => {
  assert.deepEqual(meets(listed(spec)), { left: 'taken in', out: frame(inside(spec)), counted: `${result} 1` });
};

for (const outer of [4, 6] as const)
  for (const inner of [4, 6] as const) {
    const mix = `IPv${inner} in IPv${outer}`;
    test(`agent: ${mix}: a packet with a socket here is taken in`, () => {
      for (const [owners, next] of [
        [1, 0],
        [2, 1],
        [3, 0],
        [3, 3],
      ] as const)
        takenIn({ inner, outer, owners, next, ports: live[inner] }, 'socket');
    });

    test(`agent: ${mix}: one without goes on to the next owner, and nothing else changes`, () => {
      for (const [owners, next] of [
        [1, 0],
        [2, 0],
        [2, 1],
        [3, 0],
        [3, 1],
        [3, 2],
      ] as const) {
        const spec = { inner, outer, owners, next };
        const sent = listed(spec);
        const wanted = listed({ ...spec, next: next + 1 });
        // The outer header anew, as if it had been sent there.
        const header = 14 + (outer === 4 ? 20 : 40);
        const there = tunnel(outer, wanted.subarray(header + 8), BALANCER[outer], OWNERS[outer][next] ?? '');
        assert.deepEqual(meets(sent), { left: 'sent on', out: there, counted: 'forwarded 1' });
      }
    });

    test(`agent: ${mix}: the last one takes it in, to refuse it`, () => {
      for (const owners of [1, 2, 3]) takenIn({ inner, outer, owners, next: owners }, 'last');
    });

    test(`agent: ${mix}: a listener alone is not its socket`, () => {
      const spec = { inner, outer, ports: [1, live[inner][1]] } as const;
      assert.equal(meets(listed(spec)).counted, 'forwarded 1');
      takenIn({ ...spec, next: 2 }, 'last');
    });

    test(`agent: ${mix}: with another tag the list is not believed`, () => {
      for (let byte = 8; byte < 16; byte++)
        takenIn({ inner, outer, bend: (list) => void list.writeUInt8(list.readUInt8(byte) ^ 0x40, byte) }, 'bad_tag');
      const address = 16 + (outer === 4 ? 3 : 15);
      takenIn({ inner, outer, bend: (list) => void list.writeUInt8(99, address) }, 'bad_tag');
    });

    test(`agent: ${mix}: from a stranger it is left as it came`, () => {
      const from = outer === 4 ? '10.9.0.32' : 'fd00:9::11';
      for (const input of [listed({ inner, outer, from }), listed({ inner, outer, from, ports: live[inner] })])
        assert.deepEqual(meets(input), { left: 'as it came', out: input, counted: 'stranger 1' });
    });

    test(`agent: ${mix}: a list that contradicts itself is left as it came`, () => {
      const bends: Readonly<Record<string, (list: Buffer) => Buffer | undefined>> = {
        'no owners': (list) => void list.writeUInt8(0, 6),
        'four owners': (list) => void list.writeUInt8(4, 6),
        'one owner more than it has room for': (list) => void list.writeUInt8(3, 6),
        'beyond its end': (list) => void list.writeUInt8(3, 5),
        'another family': (list) => void list.writeUInt8(outer === 4 ? 6 : 4, 7),
        'another form': (list) => void list.writeUInt8(2, 4),
        'a word too long': (list) => void list.writeUInt8((list[0] ?? 0) + 1, 0),
        'a word too short': (list) => void list.writeUInt8((list[0] ?? 0) - 1, 0),
      };
      for (const [name, bend] of Object.entries(bends)) {
        const input = listed({ inner, outer, bend });
        assert.deepEqual(meets(input), { left: 'as it came', out: input, counted: 'malformed 1' }, name);
      }
      const input = listed({ inner, outer, protocol: 'udp' });
      assert.deepEqual(meets(input), { left: 'as it came', out: input, counted: 'malformed 1' });
    });

    test(`agent: ${mix}: cut at any length it is left as it came`, () => {
      const whole = listed({ inner, outer, ports: live[inner] });
      const outerSize = 14 + (outer === 4 ? 20 : 40) + 8;
      const needed = whole.length - 9; // its payload is not looked at
      for (let size = outerSize - 8; size < needed; size++) {
        const input = whole.subarray(0, size);
        const wanted = size < outerSize + 4 ? '' : 'malformed 1';
        assert.deepEqual(meets(input), { left: 'as it came', out: input, counted: wanted }, `${size} bytes`);
      }
    });

    test(`agent: ${mix}: without a list it is taken in, whoever has its socket`, () => {
      const payload = inside({ inner });
      const protocol = inner === 4 ? 4 : 41;
      const around = outer === 4 ? ipv4Header : ipv6Header;
      for (const input of [
        frame(Buffer.concat([around(BALANCER[outer], HERE[outer], protocol, payload.length), payload])),
        tunnel(outer, payload, BALANCER[outer], HERE[outer]),
      ])
        assert.deepEqual(meets(input), { left: 'taken in', out: frame(payload), counted: 'plain 1' });
    });
  }

test('agent: what is no tunnel packet is not touched, nor counted', () => {
  for (const input of [frame(inside({})), frame(inside({ inner: 6 })), frame(inside({ protocol: 'udp' }))])
    assert.deepEqual(meets(input), { left: 'as it came', out: input, counted: '' });
});

test('agent: the answer to a SYN cookie is taken in, another one is not', () => {
  const child = fileURLToPath(new URL('agent-cookie.js', import.meta.url));
  const said = execFileSync('unshare', ['-n', process.execPath, '--enable-source-maps', child], { encoding: 'utf8' });
  assert.deepEqual(JSON.parse(said), { 4: ['cookie 1', 'forwarded 1'], 6: ['cookie 1', 'forwarded 1'] });
});
