// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parse } from 'node:querystring';
import { after, before, mock, test } from 'node:test';
import { readYaml } from '../../src/model/yaml.js';
import { answers, flow, nodeStatus, recordedAt, webB1, webPool, webService } from '../support/api-answers.js';
import { type ApiServer, problem, startApiServer } from '../support/api-server.js';
import { type Around, cli } from '../support/cli.js';

let server: ApiServer;
before(async () => {
  mock.timers.enable({ apis: ['Date'], now: recordedAt });
  server = await startApiServer({
    ...answers,
    'GET /api/v1/flows?service=web&backend=b1&client=192.0.2.7&sort=age&limit=3': { body: { items: [] } },
    'PUT /api/v1/services/web': { status: 201, headers: { etag: '"7"' }, body: webService },
    'PUT /api/v1/services/web?dryRun=true': { body: webService },
    'PUT /api/v1/services/web?wait=applied': { body: webService },
    'PUT /api/v1/services/taken': problem(409, 'conflict', 'service "taken": /address: the VIP belongs to "web"', [
      { pointer: '/address', detail: 'the VIP belongs to "web"' },
    ]),
    'PUT /api/v1/services/bad': problem(
      400,
      'invalid',
      'service "bad": /pool: "pool" is missing; /x: unknown field "x"',
      [
        { pointer: '/pool', detail: '"pool" is missing' },
        { pointer: '/x', detail: 'unknown field "x"' },
      ],
    ),
    'PUT /api/v1/services/full': problem(507, 'full', 'the service table holds 4096'),
    'PUT /api/v1/services/late?wait=applied': problem(503, 'unavailable', 'revision 9 is stored, but not applied'),
    'DELETE /api/v1/services/web': { status: 204 },
    'DELETE /api/v1/services/old': problem(412, 'precondition', 'If-Match "3" does not hold: it is at "4"'),
    'PUT /api/v1/pools/web': { body: webPool },
    'PUT /api/v1/pools/web/backends/b1': { body: webB1 },
    'PATCH /api/v1/pools/web/backends/b1': { body: { ...webB1, weight: 5 } },
    'POST /api/v1/pools/web/backends/b1/drain': { body: { ...webB1, state: 'drain' } },
    'POST /api/v1/pools/web/backends/b1/undrain': { body: webB1 },
    'DELETE /api/v1/pools/web/backends/b1': { status: 204 },
  });
});
after(() => server.close());

const run = (line: string, around: Around = {}) =>
  cli(line.split(' '), { ...around, env: { FAIRLEAD_SOCKET: server.socket, ...around.env } });

/** The last request, as `METHOD URL` and its body. */
function asked(): [string, unknown] {
  const last = server.seen.at(-1);
  return [`${last?.method} ${last?.url.replace('/api/v1', '')}`, last?.body];
}

const lines = (text: string) => text.split('\n').slice(0, -1);

test('cli: tables fit 80 columns', async () => {
  const shown = await Promise.all(
    ['services ls', 'pools get web', 'flows', 'drops'].map((line) =>
      run(line, { columns: 80, env: { NO_COLOR: '1' } }),
    ),
  );
  assert.deepEqual(
    shown.map(({ out }) => lines(out)),
    [
      [
        'NAME  ADDRESS            PROTOCOL  POOL                 FLOWS  PACKETS     BYTES',
        'web   192.0.2.10:80      tcp       web                     31    31031  44.3 MiB',
        'dns   [2001:db8::53]:53  udp       resolvers-of-the-o…      -        -         -',
      ],
      [
        'NAME  BACKENDS  LIVE  ROWS',
        'web          2     1   251',
        '',
        'POOL  NAME  ADDRESS   WEIGHT  STATE   WANTED    GOT  FLOWS  PACKETS     BYTES',
        'web   b1    10.0.0.1     100  active   66.7%  66.7%     20    20020  28.6 MiB',
        'web   b2    10.0.0.2      50  drain    33.3%  33.3%     11    11011  15.7 MiB',
      ],
      [
        'CLIENT             SERVICE  BACKEND  STATE        PACKETS     BYTES    AGE  IDLE',
        '[2001:db8:1234:5…  web      b1       established       12  1.50 KiB  3m12s    1s',
      ],
      ['SERVICE  REASON     PACKETS', '-        malformed        3'],
    ],
  );
  assert.ok(shown.every(({ out }) => lines(out).every((line) => [...line].length <= 80)));
});

test('cli: tables are whole where no terminal cuts them', async () => {
  const { out } = await run('backends ls');
  assert.deepEqual(lines(out), [
    'POOL  NAME  ADDRESS   WEIGHT  STATE   WANTED    GOT  FLOWS  PACKETS     BYTES  DRAIN  NEXT HOP',
    'web   b1    10.0.0.1     100  active   66.7%  66.7%     20    20020  28.6 MiB         eth0 02:00:00:00:00:11',
    'web   b2    10.0.0.2      50  drain    33.3%  33.3%     11    11011  15.7 MiB         unresolved',
  ]);
});

test('cli: status has its sections, and says why the node is not ready', async () => {
  const { code, out } = await run('status');
  assert.equal(code, 0);
  assert.deepEqual(lines(out), [
    'Node      edge-1',
    'Version   0.1.0',
    'Up        3h30m',
    'Ready     no',
    '          eth1 is not attached',
    'Store     file, revision 8',
    'Applied   revision 7',
    'Error     pool "web" has no room',
    'Warnings  eth1 has generic XDP: its driver cannot do native',
    '',
    'Interfaces',
    '  NAME  XDP     PROGRAM  TAG                  TX  REDIRECT  PASS  DROP  ABORTED',
    '  eth0  native  xdp_lb   a04f5eef06a7f555  31031         0    12     3        0',
    '',
    'Flow table',
    '  Entries    31 of 262144 (0.0%)',
    '  Inserts    31',
    '  Misses     40',
    '  Evictions  0',
    '  Not kept   1 (bucket full), 2 (over the budget of new flows)',
  ]);
});

test('cli: json and yaml are what the API answers, lists with all their pages', async () => {
  const json = async (line: string) => JSON.parse((await run(`${line} -o json`)).out);
  assert.deepEqual(await json('services get web'), webService);
  assert.deepEqual(await json('pools get web'), webPool);
  assert.deepEqual(await json('backends get web b1'), webB1);
  assert.deepEqual(await json('flows'), { items: [flow] });
  assert.deepEqual(await json('status'), nodeStatus);
  const list = await json('services ls');
  assert.deepEqual(Object.keys(list), ['items']);
  assert.deepEqual(
    list.items.map(({ name }: { name: string }) => name),
    ['web', 'dns'],
  );
  assert.deepEqual(readYaml((await run('-o yaml services get web')).out).value, webService);
});

test('cli: the backends of all pools or of one, each with its pool and status', async () => {
  for (const line of ['backends ls', 'backends ls web']) {
    const { items } = JSON.parse((await run(`${line} -o json`)).out);
    assert.deepEqual(items[0], { pool: 'web', ...webB1 });
    assert.equal(items.length, 2);
  }
});

test('cli: put sends what the options say', async () => {
  const service = await run('services put web --address 192.0.2.10 --port 80 --protocol tcp --pool web');
  assert.deepEqual(service, { code: 0, out: 'service "web" created at revision 7\n', err: '' });
  const document = { address: '192.0.2.10', port: 80, protocol: 'tcp', pool: 'web' };
  assert.deepEqual(asked(), ['PUT /services/web', document]);

  await run('pools put web --backend b1=10.0.0.1 --backend b2=2001:db8::2@50');
  const backends = [
    { name: 'b1', address: '10.0.0.1' },
    { name: 'b2', address: '2001:db8::2', weight: 50 },
  ];
  assert.deepEqual(asked(), ['PUT /pools/web', { backends }]);

  const backend = await run('backends put web b1 --address 10.0.0.1 --weight 0');
  assert.deepEqual(asked(), ['PUT /pools/web/backends/b1', { address: '10.0.0.1', weight: 0 }]);
  assert.equal(backend.out, 'backend "b1" of pool "web" stored at revision 6\n');
});

test('cli: put takes back what get and ls print', async () => {
  const own = { revision: undefined, status: undefined };
  const sent = (shown: object) => JSON.parse(JSON.stringify({ ...shown, ...own }));
  for (const [line, shown, url] of [
    ['services put -f -', webService, 'PUT /services/web'],
    ['pools put web -f -', webPool, 'PUT /pools/web'],
    ['backends put web -f -', webB1, 'PUT /pools/web/backends/b1'],
  ] as const) {
    for (const text of [JSON.stringify(shown, null, '\t'), JSON.stringify({ items: [shown] })]) {
      const { code, err } = await run(line, { stdin: text });
      assert.deepEqual([code, err, ...asked()], [0, '', url, sent(shown)]);
    }
  }
  const listed = { pool: 'web', ...webB1 };
  await run('backends put web -f -', { stdin: JSON.stringify([listed]) });
  assert.deepEqual(asked()[1], sent(webB1));
  const nested = { ...webPool, backends: [webB1] };
  await run('pools put -f -', { stdin: JSON.stringify(nested) });
  assert.deepEqual(asked()[1], { ...sent(webPool), backends: [sent(webB1)] });
});

test('cli: put reads YAML files and names the line of what it cannot read', async () => {
  const file = join(server.directory, 'web.yaml');
  writeFileSync(file, '- name: web\n  address: 192.0.2.10\n- name: full\n- port: 1\n');
  const without = await run(`services put -f ${file}`);
  assert.deepEqual(without, {
    code: 4,
    out: '',
    err: `fairlead: ${file}:4:3: wanted a "name", here or on the command line\n`,
  });
  const several = await run(`services put web -f ${file}`);
  assert.deepEqual(
    [several.code, several.err],
    [4, `fairlead: ${file}: got 3 documents for the name "web", wanted one\n`],
  );
  writeFileSync(file, '- name: web\n  address: 192.0.2.10\n- name: full\n');
  const half = await run(`services put -f ${file}`);
  assert.deepEqual(half, {
    code: 4,
    out: 'service "web" created at revision 7\n',
    err: 'fairlead: the service table holds 4096\n',
  });
  assert.match((await run('services put -f -', { stdin: 'a: 1\na: 2\n' })).err, /^fairlead: standard input:2:1: /);
  assert.equal((await run('services put -f /nowhere/x.yaml')).code, 4);
});

test('cli: dry run, wait and the revision reach the API', async () => {
  const dry = await run('services put web --port 80 --dry-run');
  assert.deepEqual(
    [dry.out, asked()[0]],
    ['service "web": good; a dry run, nothing is stored\n', 'PUT /services/web?dryRun=true'],
  );
  const wait = await run('services put web --port 80 --wait');
  assert.equal(wait.out, 'service "web" stored at revision 7, in the kernel\n');
  assert.deepEqual(parse(asked()[0].split('?')[1] ?? ''), Object.assign(Object.create(null), { wait: 'applied' }));
  const old = await run('services rm old --if-revision 3');
  assert.equal(server.seen.at(-1)?.headers['if-match'], '"3"');
  assert.deepEqual(old, { code: 4, out: '', err: 'fairlead: If-Match "3" does not hold: it is at "4"\n' });
});

test('cli: the verbs of a backend', async () => {
  assert.equal(
    (await run('backends drain web b1')).out,
    'backend "b1" of pool "web" set to drain at revision 6; flows left: 20\n',
  );
  assert.deepEqual(asked(), ['POST /pools/web/backends/b1/drain', null]);
  assert.equal((await run('backends undrain web b1')).out, 'backend "b1" of pool "web" set to active at revision 6\n');
  assert.equal((await run('backends weight web b1 5')).out, 'backend "b1" of pool "web" weighted 5 at revision 6\n');
  assert.deepEqual(asked(), ['PATCH /pools/web/backends/b1', { weight: 5 }]);
  assert.equal((await run('backends rm web b1')).out, 'backend "b1" of pool "web" removed\n');
  assert.equal(JSON.parse((await run('backends weight web b1 5 -o json')).out).weight, 5);
});

test('cli: rm says what it removed', async () => {
  assert.deepEqual(await run('services rm web'), { code: 0, out: 'service "web" removed\n', err: '' });
});

test('cli: flows pass their filters on, and none is a remark, not a table', async () => {
  const { code, out, err } = await run('flows --service web --backend b1 --client 192.0.2.7 --sort age --limit 3');
  assert.deepEqual([code, out, err], [0, '', 'no flows\n']);
});

test('cli: 2 is for what was called wrongly, and nothing is sent', async () => {
  const before = server.seen.length;
  for (const line of [
    'frob',
    'services',
    'services frob',
    'services get',
    'services ls --frob',
    'services ls -o xml',
    'services ls --url ftp://x',
    'services ls --socket /x --url http://x',
    'services put web',
    'services put --port 80',
    'services put web --port 80 -f x',
    'services put web --port 65536',
    'services put web --protocol icmp',
    'services put web --forwarding dsr',
    'backends put web b1 --port 0',
    'pools put web --backend b1=10.0.0.1:0',
    'pools put web --backend b1=[fd00::1]:65536',
    'services put web --affinity-prefix 129',
    'services put web --rate-limit 5:',
    'services put web --rate-limit 1:2:3',
    'backends put web b1 --server-id 7:01',
    'backends put web b1 --server-id 0:01:02',
    'backends put web b1 --server-id 0:012',
    'pools put web --backend b1',
    'pools put web --backend b1=10.0.0.1@257',
    'backends weight web b1 -1',
    'backends weight web b1 257',
    'backends put web --weight 1',
    'flows --limit 0',
    'serve --set flows',
    'lab up --backends 0',
    'completion tcsh',
  ]) {
    const { code, out, err } = await run(line);
    assert.deepEqual([line, code, out], [line, 2, '']);
    assert.match(err, /^(fairlead: |Usage: )/, line);
  }
  assert.equal(server.seen.length, before);
});

test('cli: 3 is for a daemon that is not reachable', async () => {
  const { code, err } = await run('services ls --socket /nowhere/api.sock');
  assert.deepEqual(
    [code, err],
    [3, 'fairlead: reach the daemon at /nowhere/api.sock: there is no such socket; is "fairlead serve" running?\n'],
  );
});

test('cli: 4 is for what the daemon refuses, with the fields one a line', async () => {
  const refused = await Promise.all(['bad', 'taken', 'full'].map((name) => run(`services put ${name} --port 80`)));
  assert.deepEqual(refused, [
    { code: 4, out: '', err: 'fairlead: service "bad":\n  /pool: "pool" is missing\n  /x: unknown field "x"\n' },
    { code: 4, out: '', err: 'fairlead: service "taken": /address: the VIP belongs to "web"\n' },
    { code: 4, out: '', err: 'fairlead: the service table holds 4096\n' },
  ]);
  assert.equal((await run('pools get nope')).code, 4);
});

test('cli: 1 is for what failed, a write that is stored but not applied too', async () => {
  const late = await run('services put late --port 80 --wait');
  assert.deepEqual([late.code, late.err], [1, 'fairlead: revision 9 is stored, but not applied\n']);
});

test('cli: the token of a file goes along', async () => {
  const file = join(server.directory, 'token');
  writeFileSync(file, 'secret\n');
  await run(`drops --token-file ${file}`);
  assert.equal(server.seen.at(-1)?.headers.authorization, 'Bearer secret');
  assert.equal((await run('drops --token-file /nowhere/token')).code, 4);
});

test('cli: colours only on a terminal, and not with NO_COLOR', async () => {
  const yellow = '\x1b[33m';
  assert.ok((await run('backends ls', { columns: 200 })).out.includes(yellow));
  assert.ok(!(await run('backends ls', { columns: 200, env: { NO_COLOR: '1' } })).out.includes('\x1b'));
  assert.ok(!(await run('backends ls')).out.includes('\x1b'));
});

test('cli: tables without titles', async () => {
  assert.deepEqual(lines((await run('drops --no-headers')).out), ['-  malformed  3']);
});

test('cli: version does without the daemon', async () => {
  assert.match((await run('version')).out, /^fairlead {2}\d+\.\d+\.\d+\ndaemon {4}0\.1\.0\n$/);
  const alone = await run('version --socket /nowhere/api.sock -o json');
  assert.deepEqual([alone.code, JSON.parse(alone.out).daemon], [0, null]);
});

test('cli: watching draws again until it is told to stop', async () => {
  const stop = new AbortController();
  let pictures = 0;
  const onOut = () => {
    if (++pictures === 2) stop.abort();
  };
  const { code, out } = await run('drops --watch', { columns: 80, stop: stop.signal, onOut });
  assert.equal(code, 0);
  assert.equal(pictures, 2);
  const picture = '\x1b[HSERVICE  REASON     PACKETS\x1b[K\n-        malformed        3\x1b[K\n\x1b[J';
  assert.equal(out, picture + picture);
});
