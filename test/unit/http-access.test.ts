// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { chmodSync } from 'node:fs';
import { text } from 'node:stream/consumers';
import { type AccessRules, type Attempt, decide } from '../../src/daemon/http/access.ts';
import { VnicError } from '../../src/errors.ts';
import { requireRoot } from '../support/ffi.ts';
import { HttpRig, token } from '../support/http.ts';

const READER = 'reader-secret';
const WRITER = 'writer-secret';
const rules: AccessRules = {
  ownUid: 900,
  socketGroup: { name: 'vnic', gid: 500 },
  tokens: [token('dash', 'read', READER), token('ci', 'write', WRITER)],
};

function peer(uid: number, ...gids: number[]): Attempt['channel'] {
  return { kind: 'unix', peer: { pid: 7, uid, gids } };
}
const unknownPeer: Attempt['channel'] = { kind: 'unix', peer: null };
const loopback: Attempt['channel'] = { kind: 'tcp', remoteAddress: '127.0.0.1', tls: false };
const loopback6: Attempt['channel'] = { kind: 'tcp', remoteAddress: '::1', tls: false };
const mapped: Attempt['channel'] = { kind: 'tcp', remoteAddress: '::ffff:127.0.0.1', tls: true };
const remote: Attempt['channel'] = { kind: 'tcp', remoteAddress: '192.0.2.7', tls: true };
const remotePlain: Attempt['channel'] = { kind: 'tcp', remoteAddress: '192.0.2.7', tls: false };

function outcome(attempt: Partial<Attempt> & Pick<Attempt, 'channel' | 'access'>, given = rules): string {
  try {
    const found = decide({ authorization: undefined, host: '127.0.0.1:9090', origin: undefined, ...attempt }, given);
    return found === null ? 'allowed' : `allowed as ${found.name}`;
  } catch (error) {
    assert.ok(error instanceof VnicError, String(error));
    assert.notEqual(error.remedy, undefined);
    return error.code;
  }
}

const bearer = (secret: string) => ({ authorization: `Bearer ${secret}` });

describe('access', () => {
  const table: [string, Partial<Attempt> & Pick<Attempt, 'channel' | 'access'>, string][] = [
    ['anybody on the socket reads', { channel: peer(4242, 4242), access: 'read' }, 'allowed'],
    ['root on the socket writes', { channel: peer(0, 0), access: 'write' }, 'allowed'],
    ["the daemon's user writes", { channel: peer(900, 1), access: 'write' }, 'allowed'],
    ['another user does not write', { channel: peer(4242, 4242), access: 'write' }, 'not_permitted'],
    ['a member by first group writes', { channel: peer(4242, 500), access: 'write' }, 'allowed'],
    ['a member by a later group writes', { channel: peer(4242, 4242, 9, 500), access: 'write' }, 'allowed'],
    ['a user whose uid is the gid does not write', { channel: peer(500, 4242), access: 'write' }, 'not_permitted'],
    ['an unknown peer reads', { channel: unknownPeer, access: 'read' }, 'allowed'],
    ['an unknown peer does not write', { channel: unknownPeer, access: 'write' }, 'not_permitted'],
    [
      'a token does not widen what a user may on the socket',
      { channel: peer(4242, 1), access: 'write', ...bearer(WRITER) },
      'not_permitted',
    ],
    ['a wrong token on the socket', { channel: peer(0), access: 'read', ...bearer('x') }, 'unauthorized'],

    ['reading on loopback', { channel: loopback, access: 'read' }, 'allowed'],
    ['reading on IPv6 loopback', { channel: loopback6, access: 'read', host: '[::1]:9090' }, 'allowed'],
    ['reading on loopback through a dual-stack socket', { channel: mapped, access: 'read' }, 'allowed'],
    ['writing on loopback', { channel: loopback, access: 'write' }, 'unauthorized'],
    ['writing with a token', { channel: loopback, access: 'write', ...bearer(WRITER) }, 'allowed as ci'],
    ['writing with a reader’s token', { channel: loopback, access: 'write', ...bearer(READER) }, 'not_permitted'],
    ['reading with a token', { channel: loopback, access: 'read', ...bearer(READER) }, 'allowed as dash'],
    ['reading with a writer’s token', { channel: loopback, access: 'read', ...bearer(WRITER) }, 'allowed as ci'],
    ['reading with a wrong token', { channel: loopback, access: 'read', ...bearer('nope') }, 'unauthorized'],
    [
      'the hash in place of the token',
      { channel: loopback, access: 'write', ...bearer(rules.tokens[1]!.sha256) },
      'unauthorized',
    ],
    ['another scheme', { channel: loopback, access: 'read', authorization: 'Basic dTpw' }, 'unauthorized'],
    ['an empty token', { channel: loopback, access: 'read', authorization: 'Bearer ' }, 'unauthorized'],
    ['an empty header', { channel: loopback, access: 'read', authorization: '' }, 'unauthorized'],
    [
      'scheme in lower case',
      { channel: loopback, access: 'read', authorization: `bearer ${READER}` },
      'allowed as dash',
    ],

    ['reading from elsewhere', { channel: remote, access: 'read' }, 'unauthorized'],
    ['reading from elsewhere with a token', { channel: remote, access: 'read', ...bearer(READER) }, 'allowed as dash'],
    ['writing from elsewhere', { channel: remote, access: 'write', ...bearer(WRITER) }, 'allowed as ci'],
    ['writing from elsewhere to read', { channel: remote, access: 'write', ...bearer(READER) }, 'not_permitted'],
    ['elsewhere without TLS', { channel: remotePlain, access: 'read', ...bearer(WRITER) }, 'not_permitted'],
    ['health from elsewhere', { channel: remote, access: 'open' }, 'allowed'],
    ['health with a wrong token', { channel: loopback, access: 'open', ...bearer('x') }, 'allowed'],

    [
      'a name that is not ours on loopback',
      { channel: loopback, access: 'read', host: 'evil.example:9090' },
      'not_permitted',
    ],
    [
      'a name that begins with an address',
      { channel: loopback, access: 'read', host: '127.0.0.1.evil.example' },
      'not_permitted',
    ],
    ['an address with a user before it', { channel: loopback, access: 'read', host: 'a@127.0.0.1' }, 'not_permitted'],
    ['an empty host', { channel: loopback, access: 'read', host: '' }, 'not_permitted'],
    ['localhost', { channel: loopback, access: 'read', host: 'LocalHost:9090' }, 'allowed'],
    ['an address without a port', { channel: loopback, access: 'read', host: '127.0.0.1' }, 'allowed'],
    ['HTTP/1.0 without a host', { channel: loopback, access: 'read', host: undefined }, 'allowed'],
    [
      'a name from elsewhere',
      { channel: remote, access: 'read', host: 'gw1.example', ...bearer(READER) },
      'allowed as dash',
    ],
    ['a name on the socket', { channel: peer(0), access: 'write', host: 'anything' }, 'allowed'],
  ];
  for (const [name, attempt, expected] of table) {
    it(`${name}: ${expected}`, () => assert.equal(outcome(attempt), expected));
  }

  it('of a page: writes only from the daemon’s own', () => {
    const write = { channel: loopback, access: 'write' as const, ...bearer(WRITER) };
    const from = (origin: string, host = '127.0.0.1:9090') => outcome({ ...write, origin, host });
    assert.equal(from('http://127.0.0.1:9090'), 'allowed as ci');
    assert.equal(from('http://localhost', 'localhost'), 'allowed as ci');
    assert.equal(from('http://localhost', 'localhost:80'), 'allowed as ci');
    assert.equal(from('https://[::1]', '[::1]:443'), 'allowed as ci');
    for (const origin of [
      'http://evil.example',
      'http://127.0.0.1:9091',
      'http://localhost:9090',
      'null',
      '',
      'file://',
    ]) {
      assert.equal(from(origin), 'not_permitted', origin);
    }
    assert.equal(outcome({ channel: loopback, access: 'read', origin: 'http://evil.example' }), 'allowed');
  });

  it('without a group is for root and the daemon’s user', () => {
    const without = { ...rules, socketGroup: null };
    assert.equal(outcome({ channel: peer(4242, 500), access: 'write' }, without), 'not_permitted');
    assert.equal(outcome({ channel: peer(0), access: 'write' }, without), 'allowed');
  });

  it('finds each of many tokens, by its own scope', () => {
    const many = Array.from({ length: 50 }, (_, index) =>
      token(`t${index}`, index % 2 ? 'write' : 'read', `secret-${index}`),
    );
    for (const [index, { name, scope }] of many.entries()) {
      const write: Parameters<typeof outcome>[0] = { channel: loopback, access: 'write', ...bearer(`secret-${index}`) };
      assert.equal(
        outcome(write, { ...rules, tokens: many }),
        scope === 'write' ? `allowed as ${name}` : 'not_permitted',
      );
    }
  });

  it('errors do not repeat the token', () => {
    for (const access of ['read', 'write'] as const) {
      for (const secret of ['wrong-secret', READER]) {
        try {
          decide({ channel: loopback, access, host: 'localhost', origin: undefined, ...bearer(secret) }, rules);
        } catch (error) {
          assert.doesNotMatch(JSON.stringify((error as VnicError).toProblem()), /secret/);
        }
      }
    }
  });
});

/** Becomes somebody else, and asks. */
const clientScript = `
  const [socketPath, uid, gid, groups, method] = process.argv.slice(1);
  process.setgroups(JSON.parse(groups));
  process.setgid(Number(gid));
  process.setuid(Number(uid));
  const options = { socketPath, method, path: '/api/v1/devices/eth0', headers: { host: 'localhost' } };
  require('node:http').request(options, async (answer) => {
    console.log(JSON.stringify({ status: answer.statusCode, body: Buffer.concat(await answer.toArray()).toString() }));
  }).on('error', ({ code }) => console.log(JSON.stringify({ code }))).end();
`;

describe('access over the Unix socket', () => {
  const GROUP = 61_234;
  let rig: HttpRig;

  async function askAs(uid: number, gid: number, groups: number[], method: string) {
    const args = [rig.socketPath, `${uid}`, `${gid}`, JSON.stringify(groups), method];
    const child = spawn(process.execPath, ['-e', clientScript, ...args], { stdio: ['ignore', 'pipe', 'inherit'] });
    const answer = JSON.parse(await text(child.stdout)) as { status?: number; body: string; code?: string };
    return { ...answer, pid: child.pid };
  }

  before(async function () {
    requireRoot(this);
    rig = await HttpRig.start({ socket: { mode: 0o666, group: `${GROUP}` } });
    chmodSync(rig.folder, 0o755);
  });

  after(() => rig?.stop());

  it('lets another user read, and says whom it lets write', async () => {
    const read = await askAs(4242, 4343, [], 'GET');
    assert.equal(read.status, 200);
    const { status, body, pid } = await askAs(4242, 4343, [], 'DELETE');
    assert.equal(status, 403);
    const problem = JSON.parse(body) as Record<string, string>;
    assert.equal(problem['code'], 'not_permitted');
    assert.match(problem['detail']!, /root.*uid 4242/);
    assert.match(problem['remedy']!, new RegExp(`group ${GROUP}`));
    const line = await rig.logged(({ method }) => method === 'DELETE');
    assert.equal(line['remote'], `unix uid=4242 pid=${pid}`);
    assert.deepEqual(
      rig.engine.calls.map(({ id }) => id),
      ['getDevice'],
    );
  });

  it('lets members of its group write, by first or by later groups', async () => {
    assert.equal((await askAs(4242, GROUP, [], 'DELETE')).status, 200);
    assert.equal((await askAs(4242, 4343, [1, GROUP], 'DELETE')).status, 200);
    assert.equal((await askAs(0, 0, [], 'DELETE')).status, 200);
  });

  it('is closed to those outside its group where its mode says so', async () => {
    chmodSync(rig.socketPath, 0o660);
    assert.equal((await askAs(4242, 4343, [], 'GET')).code, 'EACCES');
    assert.equal((await askAs(4242, GROUP, [], 'GET')).status, 200);
  });
});
