// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { connect, createServer, type Server } from 'node:net';
import path from 'node:path';
import { findGroupId, groupId } from '../../src/daemon/http/unix-socket.ts';
import { VnicError } from '../../src/errors.ts';
import { requireRoot } from '../support/ffi.ts';
import { HttpRig, parseRaw, type RigOptions, until } from '../support/http.ts';

const RULES = '/api/v1/devices/eth0/rules';

describe('HTTP connections', () => {
  let rig: HttpRig;
  const start = async (options: RigOptions = {}): Promise<HttpRig> => {
    rig = await HttpRig.start(options);
    return rig;
  };
  afterEach(() => rig.stop());

  function assertRefused(answer: string, status: number, code: string): void {
    const parsed = parseRaw(answer);
    assert.deepEqual({ status: parsed.status, code: parsed.json['code'] }, { status, code }, answer);
    assert.equal(parsed.json['status'], status);
    assert.match(parsed.headers, /connection: close/);
    assert.match(parsed.headers, /cache-control: no-store/);
  }

  it('that do not speak HTTP get a problem object and end', async () => {
    await start();
    const malformed = [
      'hello\r\n\r\n',
      'GET / HTTP/9.9\r\n\r\n',
      `GET ${RULES} HTTP/1.1\r\nHost: x\r\nno colon here\r\n\r\n`,
      `GET ${RULES} HTTP/1.1\r\nHost: x\r\nA: b\x00c\r\n\r\n`,
      `GET ${RULES} HTTP/1.1\r\nHost : x\r\n\r\n`,
      `GET ${RULES} HTTP/1.1\nHost: x\n\n`,
      // Two ways to say how long the body is: the classic of request smuggling.
      `PUT ${RULES} HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`,
      `PUT ${RULES} HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\n`,
      `PUT ${RULES} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, gzip\r\n\r\n`,
      '\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03',
    ];
    for (const text of malformed) assertRefused(await rig.raw(Buffer.from(text, 'latin1')), 400, 'usage');
    assert.deepEqual(rig.engine.calls, []);
    const line = await rig.logged(({ msg }) => msg === 'request refused');
    assert.deepEqual([line['status'], line['remote']], [400, `unix uid=${process.geteuid!()} pid=${process.pid}`]);
  });

  it('whose body is malformed get a problem object and end', async () => {
    await start();
    const answer = await rig.raw(`PUT ${RULES} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc`);
    assertRefused(answer, 400, 'usage');
    assert.equal((await rig.logged(({ msg }) => msg === 'request'))['status'], 400);
    assert.deepEqual(rig.engine.calls, []);
  });

  it('without a Host header, or with two, get 400', async () => {
    await start();
    for (const hosts of ['', 'Host: a\r\nHost: b\r\n', 'Host: a\r\nhost: a\r\n']) {
      const answer = await rig.raw(`GET ${RULES} HTTP/1.1\r\n${hosts}Connection: close\r\n\r\n`);
      assert.equal(parseRaw(answer).json['code'], 'usage', answer);
    }
    assert.equal(parseRaw(await rig.raw(`GET ${RULES} HTTP/1.0\r\n\r\n`)).status, 200);
  });

  it('with too large a header get 431, by bytes and by fields', async () => {
    await start();
    const get = `GET ${RULES} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n`;
    assertRefused(await rig.raw(`${get}A: ${'a'.repeat(20_000)}\r\n\r\n`), 431, 'too_large');
    assertRefused(await rig.raw(`GET /${'a'.repeat(20_000)} HTTP/1.1\r\nHost: x\r\n\r\n`), 431, 'too_large');
    // More than any buffer on the way holds: the client is read out, so that it sees the answer.
    assertRefused(await rig.raw(`${get}A: ${'a'.repeat(4_000_000)}\r\n\r\n`), 431, 'too_large');
    const fields = (count: number) => Array.from({ length: count }, (_, index) => `A${index}: b\r\n`).join('');
    assertRefused(await rig.raw(`${get}${fields(63)}\r\n`), 431, 'too_large');
    assertRefused(await rig.raw(`${get}${fields(1000)}\r\n`), 431, 'too_large');
    assert.equal(parseRaw(await rig.raw(`${get}${fields(62)}\r\n`)).status, 200);
  });

  it('that are slow with their header, or say nothing at all, get 408', async () => {
    await start({ timings: { headersTimeoutMs: 150 } });
    assertRefused(await rig.raw(`GET ${RULES} HTTP/1.1\r\nHost: x\r\n`), 408, 'request_timeout');
    assertRefused(await rig.raw(''), 408, 'request_timeout');
    const dripping = rig.connect();
    const drip = setInterval(() => dripping.socket.write('A: b\r\n'), 20);
    dripping.socket.write(`GET ${RULES} HTTP/1.1\r\n`);
    await dripping.closed();
    clearInterval(drip);
    assert.equal(parseRaw(dripping.received).status, 408);
  });

  for (const bytes of [1000, 3_000_000]) {
    it(`that are slow with their body of ${bytes} bytes get 408`, async () => {
      await start({ limits: { requestTimeoutMs: 200 } });
      const connection = rig.connect();
      connection.socket.write(`PUT ${RULES} HTTP/1.1\r\nHost: x\r\nContent-Length: ${bytes}\r\n\r\n`);
      const drip = setInterval(() => connection.socket.write(' '), 20);
      await connection.closed();
      clearInterval(drip);
      assertRefused(connection.received, 408, 'request_timeout');
      const line = await rig.logged(({ msg }) => msg === 'request');
      assert.deepEqual([line['status'], line['method']], [408, 'PUT']);
      assert.deepEqual(rig.engine.calls, []);
    });
  }

  it('hand over a large body as it is, on memory of its own, and the next request is read behind it', async () => {
    await start();
    const body = Buffer.alloc(3_000_000);
    for (let at = 0; at < body.length; at += 4) body.writeUInt32LE(at, at);
    for (const headers of [{}, { 'transfer-encoding': 'chunked' }, { 'content-encoding': 'identity' }]) {
      const { status } = await rig.ask(RULES, { method: 'PUT', body, headers });
      assert.equal(status, 200);
      const got = rig.engine.calls.pop()!.request.body!;
      assert.ok(body.equals(got));
      assert.equal(got.buffer.byteLength, body.length);
    }
    const connection = rig.connect();
    const head = (close: string) =>
      `PUT ${RULES} HTTP/1.1\r\nHost: x\r\n${close}Content-Length: ${body.length}\r\n\r\n`;
    connection.socket.write(head(''));
    connection.socket.write(body);
    connection.socket.write(head('Connection: close\r\n'));
    connection.socket.write(body);
    await connection.closed();
    assert.equal(rig.engine.calls.length, 2);
    for (const { request } of rig.engine.calls) assert.ok(body.equals(request.body!));
  });

  for (const bytes of [900_000, 3_000_000]) {
    it(`that go away in the middle of a body of ${bytes} bytes change nothing`, async () => {
      await start();
      const connection = rig.connect();
      connection.socket.write(`PUT ${RULES} HTTP/1.1\r\nHost: x\r\nContent-Length: ${bytes}\r\n\r\n`);
      connection.socket.write(Buffer.alloc(bytes / 2), () => connection.socket.destroy());
      const line = await rig.logged(({ msg }) => msg === 'request');
      assert.deepEqual([line['status'], line['err']], [400, undefined]);
      assert.deepEqual(rig.engine.calls, []);
    });
  }

  it('that are half closed are closed', async () => {
    await start();
    const silent = connect({ path: rig.socketPath, allowHalfOpen: true });
    silent.end();
    silent.resume();
    await once(silent, 'close');
    const halfway = connect({ path: rig.socketPath, allowHalfOpen: true });
    halfway.end(`PUT ${RULES} HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc`);
    halfway.resume();
    await once(halfway, 'close');
    assert.deepEqual(rig.engine.calls, []);
  });

  it('that wait for nothing are closed', async () => {
    await start({ timings: { keepAliveTimeoutMs: 50 } });
    const connection = rig.connect();
    connection.socket.write(`GET ${RULES} HTTP/1.1\r\nHost: x\r\n\r\n`);
    await connection.closed();
    assert.equal(parseRaw(connection.received).status, 200);
  });

  it('whose client does not read its answer are cut off', async () => {
    await start({ timings: { idleTimeoutMs: 150 } });
    rig.engine.answer = () => ({ status: 200, headers: {}, body: Buffer.alloc(20_000_000) });
    const connection = rig.connect();
    connection.socket.pause();
    connection.socket.write(`GET ${RULES} HTTP/1.1\r\nHost: x\r\n\r\n`);
    const line = await rig.logged(({ msg }) => msg === 'request');
    assert.equal(line['cutOff'], true);
  });

  it('carry several requests, each answered in its turn', async () => {
    await start();
    rig.engine.answer = (_, { query }) => ({ status: 200, headers: {}, body: Buffer.from(`<${query['n']}>`) });
    const request = (n: number, more = '') => `GET ${RULES}?n=${n} HTTP/1.1\r\nHost: x\r\n${more}\r\n`;
    const answer = await rig.raw(request(1) + request(2) + request(3, 'Connection: close\r\n'));
    assert.deepEqual(answer.match(/<\d>/g), ['<1>', '<2>', '<3>']);
  });

  it('never get the refusal of a later request as the answer to an earlier one', async () => {
    await start();
    const pending = Promise.withResolvers<void>();
    rig.engine.answer = async () => {
      await pending.promise;
      return { status: 200, headers: {}, body: null };
    };
    const answer = await rig.raw(`GET ${RULES} HTTP/1.1\r\nHost: x\r\n\r\nrubbish\r\n\r\n`);
    pending.resolve();
    assert.equal(answer, '');
  });

  it('share a limit of requests at a time, which holds for as long as the engine works', async () => {
    await start({ limits: { openRequests: 2 } });
    const pending = Promise.withResolvers<void>();
    const { answer } = rig.engine;
    rig.engine.answer = async () => {
      await pending.promise;
      return { status: 200, headers: {}, body: null };
    };
    const first = rig.ask(RULES);
    const gone = rig.connect();
    gone.socket.write(`GET ${RULES}?gone HTTP/1.1\r\nHost: x\r\n\r\n`);
    await until(() => (rig.engine.calls.length === 2 ? true : undefined));
    gone.socket.destroy();
    await rig.logged(({ path: target }) => target === `${RULES}?gone`);
    const refused = await rig.ask(RULES);
    assert.deepEqual([refused.status, refused.json['code']], [429, 'too_many_requests']);
    assert.equal(refused.headers['retry-after'], '1');
    assert.equal((await rig.ask('/healthz')).status, 200);
    pending.resolve();
    rig.engine.answer = answer;
    assert.equal((await first).status, 200);
    assert.equal((await rig.ask(RULES)).status, 200);
    for (let round = 0; round < 5; round++) assert.equal((await rig.ask('/nothing')).status, 404);
    assert.equal((await rig.ask(RULES)).status, 200);
  });

  it('let what they ask for finish when the server closes, and end soon after', async () => {
    await start();
    const pending = Promise.withResolvers<void>();
    rig.engine.answer = async () => {
      await pending.promise;
      return { status: 200, headers: {}, body: Buffer.from('done') };
    };
    const kept = rig.connect();
    kept.socket.write(`GET ${RULES} HTTP/1.1\r\nHost: x\r\n\r\n`);
    await until(() => rig.engine.calls[0]);
    const closing = rig.server.close(3_600_000);
    const late = connect(rig.socketPath);
    const [error] = (await once(late, 'error')) as [NodeJS.ErrnoException];
    assert.ok(['ENOENT', 'ECONNREFUSED'].includes(error.code!), error.code);
    pending.resolve();
    await Promise.all([closing, kept.closed()]);
    assert.match(kept.received, /done$/);
    assert.equal(existsSync(rig.socketPath), false);
  });

  it('are cut off when the grace is over', async () => {
    await start();
    rig.engine.answer = () => new Promise(() => {});
    const stuck = rig.connect();
    stuck.socket.write(`GET ${RULES} HTTP/1.1\r\nHost: x\r\n\r\n`);
    const silent = rig.connect();
    await until(() => rig.engine.calls[0]);
    await rig.server.close(50);
    await Promise.all([stuck.closed(), silent.closed()]);
  });
});

describe('the Unix socket', () => {
  const rigs: HttpRig[] = [];
  const servers: Server[] = [];
  const make = (options: RigOptions = {}): HttpRig => {
    const rig = new HttpRig(options);
    rigs.push(rig);
    return rig;
  };
  afterEach(async () => {
    for (const rig of rigs.splice(0)) await rig.stop();
    for (const server of servers.splice(0)) server.close();
  });

  const failureOf = async (rig: HttpRig): Promise<VnicError> => {
    try {
      await rig.server.listen();
    } catch (error) {
      assert.ok(error instanceof VnicError, String(error));
      return error;
    }
    return assert.fail('it listens');
  };

  it('has the mode and the group that are configured, in a folder that is made', async function () {
    requireRoot(this);
    const before = process.umask(0o007);
    try {
      const rig = make({ socket: { mode: 0o640, group: '61235' } });
      await rig.server.listen();
      const { mode, gid } = statSync(rig.socketPath);
      assert.deepEqual([(mode & 0o7777).toString(8), gid], ['640', 61_235]);
      assert.equal(process.umask(), 0o007);
    } finally {
      process.umask(before);
    }
    assert.equal(statSync(path.dirname(rigs[0]!.socketPath)).isDirectory(), true);
  });

  it('is made anew where a daemon that died has left one', async () => {
    const rig = make();
    mkdirSync(path.dirname(rig.socketPath));
    const script = `require('node:net').createServer().listen(process.argv[1], () => process.kill(process.pid, 'SIGKILL'))`;
    const child = spawn(process.execPath, ['-e', script, rig.socketPath], { stdio: 'inherit' });
    await once(child, 'exit');
    assert.ok(existsSync(rig.socketPath));
    await rig.server.listen();
    assert.equal((await rig.ask('/healthz')).status, 200);
  });

  it('is left to a daemon that answers on it', async () => {
    const rig = make();
    await rig.server.listen();
    const second = make({ socket: { path: rig.socketPath } });
    const error = await failureOf(second);
    assert.equal(error.code, 'conflict');
    assert.match(error.message, new RegExp(rig.socketPath));
    assert.equal((await rig.ask('/healthz')).status, 200);
  });

  it('does not replace a file of another kind', async () => {
    const rig = make();
    mkdirSync(path.dirname(rig.socketPath));
    writeFileSync(rig.socketPath, 'precious');
    assert.equal((await failureOf(rig)).code, 'conflict');
    assert.equal(readFileSync(rig.socketPath, 'utf8'), 'precious');
  });

  it('with a path that no socket can have, or a group that is not there, is one clear error', async () => {
    const long = make({ socket: { path: `/tmp/${'x'.repeat(150)}.sock` } });
    assert.match((await failureOf(long)).remedy!, /107/);
    const group = await failureOf(make({ socket: { group: 'no-such-group-here' } }));
    assert.equal(group.code, 'invalid_config');
    assert.match(group.message, /no-such-group-here/);
  });

  it('finds groups by whole names', () => {
    const text = 'root:x:0:\nvnic2:x:12:a,b\nvnic:x:11:\nbroken\nodd:x:y:\n';
    assert.deepEqual(
      ['root', 'vnic', 'vnic2', 'vni', 'broken', 'odd', ''].map((name) => findGroupId(text, name)),
      [0, 11, 12, null, null, null, null],
    );
    assert.equal(groupId('root'), 0);
    assert.equal(groupId('61234'), 61_234);
  });

  it('closes again when the port is in use, which is one error that names it and its variable', async () => {
    const holder = createServer().listen(0, '127.0.0.1');
    servers.push(holder);
    await once(holder, 'listening');
    const { port } = holder.address() as { port: number };
    const rig = make({ config: { listen: { host: '127.0.0.1', port } } });
    const error = await failureOf(rig);
    assert.equal(error.code, 'conflict');
    assert.match(error.message, new RegExp(`127\\.0\\.0\\.1:${port}`));
    assert.match(error.remedy!, /EXPORTER_PORT/);
    assert.equal(existsSync(rig.socketPath), false);
  });

  it('names an address that is not this machine’s', async () => {
    const error = await failureOf(make({ config: { listen: { host: '192.0.2.1', port: 9 } } }));
    assert.equal(error.code, 'invalid_config');
    assert.match(error.message, /192\.0\.2\.1/);
  });

  it('cannot be opened by others while it is being made', async function () {
    requireRoot(this);
    // The mode is set last, so a mode that lets everybody in is only seen on a socket that is ready.
    const rig = make({ socket: { mode: 0o666 } });
    chmodSync(rig.folder, 0o755);
    const listening = rig.server.listen();
    const seen = new Set<string>();
    const watch = setInterval(() => {
      const found = statSync(rig.socketPath, { throwIfNoEntry: false });
      if (found !== undefined) seen.add((found.mode & 0o777).toString(8));
    });
    await listening;
    clearInterval(watch);
    seen.add((statSync(rig.socketPath).mode & 0o777).toString(8));
    assert.ok(
      [...seen].every((mode) => mode === '0' || mode === '666'),
      [...seen].join(),
    );
  });
});
