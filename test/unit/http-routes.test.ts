// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { gzipSync } from 'node:zlib';
import { operations } from '../../src/api/operations/index.ts';
import { VnicError } from '../../src/errors.ts';
import { type Answered, HttpRig, parseRaw, until } from '../support/http.ts';

const RULES = '/api/v1/devices/eth0/rules';

function assertProblem(answer: Answered, status: number, code: string): void {
  assert.deepEqual({ status: answer.status, code: answer.json['code'] }, { status, code }, answer.text);
  assert.equal(answer.headers['content-type'], 'application/problem+json');
  assert.equal(answer.json['status'], status);
  assert.ok(answer.json['detail'] && answer.json['remedy'], answer.text);
  assert.doesNotMatch(answer.text, /node_modules|\.ts:\d|<html/);
}

describe('HTTP requests', () => {
  let rig: HttpRig;
  before(async () => {
    rig = await HttpRig.start({ limits: { bodyBytes: 100_000 } });
  });
  after(() => rig.stop());
  beforeEach(() => {
    rig.engine.calls.length = 0;
  });

  it('reach the engine, one for each operation of the table', async () => {
    for (const { id, method, path } of operations) {
      const target = path.replaceAll('{device}', 'eth0%40ns%201').replaceAll(/\{(id|az)\}/g, '7');
      const answer = await rig.ask(target, { method: method.toUpperCase() });
      assert.deepEqual({ id, status: answer.status, text: answer.text }, { id, status: 200, text: '{"ok":true}' });
      const call = rig.engine.calls.pop()!;
      assert.equal(call.id, id);
      for (const [name, value] of Object.entries(call.request.params)) {
        assert.equal(value, name === 'device' ? 'eth0@ns 1' : '7');
      }
      assert.equal(Object.keys(call.request.params).length, path.split('{').length - 1);
    }
  });

  it('carry query, headers and body to it as they are, the body on memory of its own', async () => {
    for (const size of [1, 100, 70_000]) {
      const body = Buffer.alloc(size, 0xfe);
      await rig.ask(`${RULES}?dryRun=true&x=a%20b`, {
        method: 'PUT',
        headers: { 'content-type': 'application/x-ndjson; charset=weird', 'if-match': '"v1"', cookie: 'a=b' },
        body,
      });
      const { request } = rig.engine.calls.pop()!;
      assert.deepEqual(request.params, { device: 'eth0' });
      assert.deepEqual(request.query, { dryRun: 'true', x: 'a b' });
      assert.deepEqual(request.headers, { 'content-type': 'application/x-ndjson; charset=weird', 'if-match': '"v1"' });
      assert.ok(body.equals(request.body!));
      assert.equal(request.body!.buffer.byteLength, size);
      // Node keeps small buffers in memory that they share; that cannot be handed over.
      structuredClone(request.body, { transfer: [request.body!.buffer as ArrayBuffer] });
      assert.equal(request.body!.length, 0);
    }
  });

  it('without a body have none', async () => {
    await rig.ask(RULES, { method: 'PUT' });
    assert.equal(rig.engine.calls[0]!.request.body, null);
  });

  it('get the engine’s answer byte for byte, with its headers and no others about caching', async () => {
    const body = Buffer.from([0, 255, 10, 13, 128]);
    const { answer } = rig.engine;
    rig.engine.answer = () => ({
      status: 201,
      headers: { 'content-type': 'application/yaml', etag: '"e1"', location: '/x' },
      body,
    });
    const { status, headers, body: got } = await rig.ask(RULES);
    rig.engine.answer = () => ({ status: 204, headers: {}, body: null });
    const empty = await rig.ask(RULES, { method: 'PUT', body: 'x' });
    rig.engine.answer = answer;
    assert.equal(status, 201);
    assert.ok(body.equals(got));
    const { date: _, connection: __, 'x-request-id': id, ...rest } = headers;
    assert.match(String(id), /^[\da-f-]{36}$/);
    assert.deepEqual(rest, {
      'content-type': 'application/yaml',
      'content-length': '5',
      etag: '"e1"',
      location: '/x',
      'cache-control': 'no-store',
      'x-content-type-options': 'nosniff',
      'cross-origin-resource-policy': 'same-origin',
    });
    assert.equal(empty.status, 204);
    assert.equal(empty.headers['content-length'], undefined);
  });

  it('for the header only get that', async () => {
    const { status, headers, body } = await rig.ask(RULES, { method: 'HEAD' });
    assert.deepEqual([status, headers['content-length'], body.length], [200, '11', 0]);
    assert.equal(rig.engine.calls[0]!.id, 'listRules');
    assert.equal((await rig.ask('/metrics', { method: 'HEAD' })).status, 200);
    assert.equal((await rig.ask('/api/v1/events', { method: 'HEAD' })).status, 200);
  });

  it('for methods get the ones that there are', async () => {
    const { status, headers } = await rig.ask(RULES, { method: 'OPTIONS' });
    assert.deepEqual([status, headers['allow']], [204, 'GET, PUT, PATCH, HEAD, OPTIONS']);
    for (const method of ['POST', 'DELETE', 'TRACE', 'PROPFIND']) {
      const refused = await rig.ask(RULES, { method });
      assertProblem(refused, 405, 'method_not_allowed');
      assert.equal(refused.headers['allow'], 'GET, PUT, PATCH, HEAD, OPTIONS');
    }
    assert.equal((await rig.ask('/metrics', { method: 'POST' })).headers['allow'], 'GET, HEAD, OPTIONS');
    assert.equal((await rig.ask('/api/v1/devices/eth0/plan')).headers['allow'], 'POST, OPTIONS');
    assert.deepEqual(rig.engine.calls, []);
  });

  it('for what is not there get 404', async () => {
    for (const target of [
      '/nothing',
      '/api/v1',
      `${RULES}/`,
      '/API/v1/devices',
      '/api/v1/devices//rules',
      '/%2e%2e/etc',
      '/favicon.ico',
    ]) {
      assertProblem(await rig.ask(target), 404, 'no_route');
    }
    assertProblem(await rig.ask('/nothing', { method: 'DELETE' }), 404, 'no_route');
  });

  it('with what cannot be meant get 400', async () => {
    for (const target of ['/api/v1/devices/%zz', '/api/v1/devices/%ff%fe', '/%', `${RULES}?limit=%e0%a4`]) {
      assertProblem(await rig.ask(target), 400, 'usage');
    }
    for (const query of ['limit=1&limit=2', 'limit=1&limit=1', 'a[]=1&a[]=2', 'constructor=1&constructor=2']) {
      assertProblem(await rig.ask(`${RULES}?${query}`), 400, 'usage');
    }
    assert.deepEqual(rig.engine.calls, []);
  });

  it('with names of the language in the query are like any other', async () => {
    await rig.ask(`${RULES}?__proto__=x&constructor=y`);
    const { query } = rig.engine.calls[0]!.request;
    assert.deepEqual(Object.entries(query), [
      ['__proto__', 'x'],
      ['constructor', 'y'],
    ]);
    assert.equal(Object.getPrototypeOf(query), Object.prototype);
  });

  it('whose body is too large get 413, announced or not', async () => {
    const body = Buffer.alloc(100_001);
    assertProblem(await rig.ask(RULES, { method: 'PUT', body }), 413, 'too_large');
    assertProblem(
      await rig.ask(RULES, { method: 'PUT', body, headers: { 'transfer-encoding': 'chunked' } }),
      413,
      'too_large',
    );
    assert.deepEqual(rig.engine.calls, []);
    assert.equal((await rig.ask(RULES, { method: 'PUT', body: body.subarray(1) })).status, 200);
  });

  it('that announce a body which is too large get 413 before it is sent', async () => {
    const head = `PUT ${RULES} HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n`;
    const refused = rig.connect();
    refused.socket.write(`${head}\r\n`);
    assert.match(await refused.has(/too_large/), /^HTTP\/1.1 413 /);
    const asked = await rig.raw(`${head}Expect: 100-continue\r\n\r\n`);
    assert.equal(parseRaw(asked).status, 413);
  });

  it('that ask for leave to send their body get it, if they may', async () => {
    const head = 'HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nConnection: close\r\nExpect: 100-continue\r\n';
    const connection = rig.connect();
    connection.socket.write(`PUT ${RULES} ${head}\r\n`);
    await connection.has(/^HTTP\/1.1 100 Continue\r\n\r\n$/);
    connection.socket.write('[1]');
    await connection.closed();
    assert.match(connection.received, /HTTP\/1.1 200 OK/);
    assert.equal(Buffer.from(rig.engine.calls[0]!.request.body!).toString(), '[1]');
    const refused = await rig.raw(`PUT ${RULES} ${head}Authorization: Bearer x\r\n\r\n`);
    assert.equal(parseRaw(refused).status, 401);
    assert.doesNotMatch(refused, /100 Continue/);
  });

  it('with a compressed body get 415', async () => {
    const body = gzipSync('[]');
    assertProblem(
      await rig.ask(RULES, { method: 'PUT', body, headers: { 'content-encoding': 'gzip' } }),
      415,
      'unsupported_media_type',
    );
    assert.equal(
      (await rig.ask(RULES, { method: 'PUT', body, headers: { 'content-encoding': 'identity' } })).status,
      200,
    );
  });

  it('get a problem object, and the log the reason, when the engine fails unexpectedly', async () => {
    const { answer } = rig.engine;
    rig.engine.answer = () => {
      throw new Error('the engine broke');
    };
    const failed = await rig.ask(RULES);
    rig.engine.answer = answer;
    assertProblem(failed, 500, 'failed');
    const line = await rig.logged(({ id }) => id === failed.headers['x-request-id']);
    assert.equal(line['level'], 50);
    assert.match(JSON.stringify(line['err']), /the engine broke.*stack/);
  });

  it('wait for readiness with a reason', async () => {
    rig.readiness = { ready: false, reason: 'eth0 is being verified' };
    const operation = await rig.ask(RULES);
    const ready = await rig.ask('/readyz');
    const alive = await rig.ask('/healthz');
    rig.readiness = { ready: true, reason: '' };
    for (const answer of [operation, ready]) {
      assertProblem(answer, 503, 'not_ready');
      assert.match(String(answer.json['detail']), /eth0 is being verified/);
      assert.equal(answer.headers['retry-after'], '1');
    }
    assert.deepEqual(alive.json, { status: 'ok' });
    assert.deepEqual((await rig.ask('/readyz')).json, { status: 'ready' });
    assert.deepEqual(rig.engine.calls, []);
  });

  it('for metrics are answered by the source, by what is accepted', async () => {
    const text = await rig.ask('/metrics', { headers: { accept: 'application/openmetrics-text' } });
    assert.equal(text.text, '# accept application/openmetrics-text\n');
    assert.equal(text.headers['content-type'], 'text/plain; version=0.0.4');
    assert.deepEqual((await rig.ask('/api/v1/metrics')).json, { metrics: [], unavailable: [] });
  });

  it('have one line each in the log, with what they were and cost', async () => {
    const { headers } = await rig.ask(`${RULES}?limit=5`, { headers: { 'x-request-id': 'mine' } });
    const id = headers['x-request-id'];
    const line = await rig.logged((candidate) => candidate['id'] === id);
    const { level, method, path, status, bytes, remote, durationMs, msg } = line;
    assert.deepEqual(
      { level, method, path, status, bytes, remote, msg },
      {
        level: 30,
        method: 'GET',
        path: `${RULES}?limit=5`,
        status: 200,
        bytes: 11,
        remote: `unix uid=${process.geteuid!()} pid=${process.pid}`,
        msg: 'request',
      },
    );
    assert.ok(typeof durationMs === 'number' && durationMs >= 0);
    await rig.ask('/healthz');
    assert.equal((await rig.logged((candidate) => candidate['path'] === '/healthz'))['level'], 20);
    assert.equal(rig.log.filter((candidate) => candidate['id'] === id).length, 1);
  });

  it('of clients that go away are finished by the engine all the same, and logged as cut off', async () => {
    const { answer } = rig.engine;
    const pending = Promise.withResolvers<void>();
    rig.engine.answer = async () => {
      await pending.promise;
      return { status: 200, headers: {}, body: null };
    };
    const connection = rig.connect();
    connection.socket.write(`PUT ${RULES}?gone HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n[]`);
    await until(() => rig.engine.calls[0]);
    connection.socket.destroy();
    const line = await rig.logged(({ path }) => path === `${RULES}?gone`);
    pending.resolve();
    rig.engine.answer = answer;
    assert.deepEqual([line['status'], line['cutOff']], [null, true]);
  });
});

describe('metrics that are not to be had', () => {
  it('give the error of their source', async () => {
    const fail = async () => {
      throw new VnicError('not_ready', 'No device has been read yet.', { remedy: 'Wait.' });
    };
    const rig = await HttpRig.start({ metrics: { text: fail, json: fail } });
    try {
      assertProblem(await rig.ask('/metrics'), 503, 'not_ready');
      assertProblem(await rig.ask('/api/v1/metrics'), 503, 'not_ready');
    } finally {
      await rig.stop();
    }
  });
});
