// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { networkInterfaces, tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { connect as connectTls } from 'node:tls';
import type { VnicError } from '../../src/errors.ts';
import { HttpRig, parseRaw, type RigOptions, token, until } from '../support/http.ts';
import { skip } from '../support/skip.ts';

const RULES = '/api/v1/devices/eth0/rules';
const tokens = [token('dash', 'read', 'reader-secret'), token('ci', 'write', 'writer-secret')];
const bearer = (secret: string) => ({ authorization: `Bearer ${secret}` });

describe('HTTP over TCP', () => {
  let rig: HttpRig;
  const start = async (options: RigOptions = {}): Promise<void> => {
    rig = await HttpRig.startTcp({ ...options, config: { tokens, ...options.config } });
  };
  afterEach(() => rig.stop());

  const ask = (target: string, method = 'GET', headers: Record<string, string> = {}) =>
    rig.ask(target, { tcp: true, method, headers });

  it('reads without a token and writes with one', async () => {
    await start();
    assert.equal((await ask(RULES)).status, 200);
    const without = await ask(RULES, 'PUT');
    assert.deepEqual([without.status, without.json['code']], [401, 'unauthorized']);
    assert.equal(without.headers['www-authenticate'], 'Bearer realm="vnicd"');
    assert.equal((await ask(RULES, 'PUT', bearer('reader-secret'))).status, 403);
    assert.equal((await ask(RULES, 'PUT', bearer('writer-secret'))).status, 200);
    assert.equal((await ask(RULES, 'GET', bearer('wrong-secret'))).status, 401);
    assert.deepEqual(
      rig.engine.calls.map(({ id }) => id),
      ['listRules', 'replaceRules'],
    );
  });

  it('keeps tokens out of the log and of its answers', async () => {
    await start();
    const answers = [
      await ask(RULES, 'PUT', bearer('writer-secret')),
      await ask(RULES, 'PUT', bearer('reader-secret')),
      await ask(RULES, 'GET', bearer('wrong-secret')),
      await ask('/nothing', 'GET', bearer('writer-secret')),
    ];
    rig.engine.answer = () => {
      throw new Error('broken');
    };
    answers.push(await ask(RULES, 'PUT', bearer('writer-secret')));
    await rig.raw(`GET ${RULES} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer writer-secret\r\nbroken\r\n\r\n`, {
      tcp: true,
    });
    await until(() => (rig.log.length >= 6 ? true : undefined));
    assert.doesNotMatch(rig.logText, /-secret/);
    for (const { text, headers } of answers) assert.doesNotMatch(text + JSON.stringify(headers), /-secret/);
    for (const { sha256 } of tokens) assert.equal(rig.logText.includes(sha256), false);
    assert.deepEqual(
      rig.log.slice(0, 4).map(({ token: name }) => name),
      ['ci', undefined, undefined, 'ci'],
    );
    assert.equal(rig.log[0]!['remote'], '127.0.0.1');
  });

  it('refuses names that others could have made to point here', async () => {
    await start();
    const rebound = await ask(RULES, 'GET', { host: 'evil.example' });
    assert.deepEqual([rebound.status, rebound.json['code']], [403, 'not_permitted']);
    assert.equal((await ask('/nothing', 'GET', { host: 'evil.example' })).status, 403);
    assert.equal((await ask(RULES, 'OPTIONS', { host: 'evil.example' })).status, 403);
    assert.equal((await ask('/api/v1/events', 'GET', { host: 'evil.example' })).status, 403);
    assert.equal((await ask(RULES, 'GET', { host: `localhost:${rig.port}` })).status, 200);
    assert.equal((await ask('/healthz', 'GET', { host: 'probe.example' })).status, 200);
    assert.equal(rig.engine.calls.length, 1);
  });

  it('refuses writes of other sites’ pages, token or not', async () => {
    await start();
    const write = (origin: string) => ask(RULES, 'PUT', { ...bearer('writer-secret'), origin });
    assert.equal((await write('http://evil.example')).status, 403);
    assert.equal((await write(`http://127.0.0.1:${rig.port}`)).status, 200);
    const read = await ask(RULES, 'GET', { origin: 'http://evil.example' });
    assert.equal(read.headers['access-control-allow-origin'], undefined);
  });

  it('limits the requests of an address in a second, but not those on the Unix socket', async () => {
    await start({ limits: { requestsPerSecond: 5 } });
    // A burst that falls into several windows of a second may pass; not every one does.
    const refused: Awaited<ReturnType<typeof ask>>[] = [];
    while (refused.length === 0) {
      const answers = await Promise.all(Array.from({ length: 11 }, () => ask(RULES)));
      refused.push(...answers.filter(({ status }) => status === 429));
    }
    assert.equal(refused[0]!.json['code'], 'too_many_requests');
    assert.ok(Number(refused[0]!.headers['retry-after']) >= 1);
    for (let round = 0; round < 12; round++) assert.equal((await rig.ask(RULES)).status, 200);
  });

  it('limits connections', async () => {
    await start({ limits: { connections: 2 } });
    const first = rig.connect({ tcp: true });
    const second = rig.connect({ tcp: true });
    await until(() => (first.socket.readyState === 'open' && second.socket.readyState === 'open' ? true : undefined));
    const third = rig.connect({ tcp: true });
    await third.closed();
    const line = await rig.logged(({ msg }) => /too many/.test(String(msg)));
    assert.equal(line['remote'], '127.0.0.1');
    first.socket.destroy();
    await until(() => (rig.log.length > 0 ? true : undefined));
    for (;;) {
      const answer = await rig.raw('GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n', {
        tcp: true,
      });
      if (answer !== '') {
        assert.equal(parseRaw(answer).status, 200);
        break;
      }
      await sleep(5);
    }
  });

  it('takes over tokens and limits while it runs', async () => {
    await start();
    const follower = rig.connect({ tcp: true });
    const events = 'GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\n';
    follower.socket.write(`${events}Authorization: Bearer reader-secret\r\n\r\n`);
    const anonymous = rig.connect({ tcp: true });
    anonymous.socket.write(`${events}\r\n`);
    const kept = rig.connect({ tcp: true });
    kept.socket.write('GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n');
    await Promise.all([follower.has(/retry/), anonymous.has(/retry/), kept.has(/"ok"/)]);

    const restart = rig.server.reload({
      ...rig.config,
      tokens: [token('new', 'write', 'new-secret')],
      limits: { ...rig.config.limits, bodyBytes: 10 },
    });
    assert.deepEqual(restart, []);
    assert.equal((await ask(RULES, 'PUT', bearer('writer-secret'))).status, 401);
    assert.equal((await ask(RULES, 'PUT', bearer('new-secret'))).status, 200);
    assert.equal((await rig.ask(RULES, { method: 'PUT', body: 'x'.repeat(11) })).status, 413);
    assert.equal((await rig.ask(RULES, { method: 'PUT', body: 'x'.repeat(10) })).status, 200);
    await follower.closed();
    kept.received = '';
    kept.socket.write('GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n');
    await kept.has(/"ok"/);
    rig.events.publish({ type: 'still', device: null, data: {} });
    await anonymous.has(/event: still/);
  });

  it('names what takes a restart', async () => {
    await start();
    const { config } = rig;
    assert.deepEqual(rig.server.reload({ ...config, listen: { host: '127.0.0.1', port: 1 } }), ['daemon.listen']);
    assert.deepEqual(rig.server.reload({ ...config, socket: { ...config.socket, mode: 0o600 } }), ['daemon.socket']);
    assert.deepEqual(rig.server.reload({ ...config, listen: null }), ['daemon.listen']);
    assert.equal((await ask('/healthz')).status, 200);
  });
});

describe('HTTP over TLS', () => {
  const folder = mkdtempSync(path.join(tmpdir(), 'vnic-tls-'));
  let rig: HttpRig;
  after(() => rmSync(folder, { recursive: true }));
  afterEach(() => rig.stop());

  function makeCertificate(name: string): { cert: string; key: string } {
    const [cert, key] = [path.join(folder, `${name}.crt`), path.join(folder, `${name}.key`)];
    const args = ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2'];
    execFileSync('openssl', [...args, '-subj', `/CN=${name}`, '-out', cert, '-keyout', key], { stdio: 'ignore' });
    return { cert, key };
  }

  const start = async (tls: { cert: string; key: string }, host = '127.0.0.1', timings = {}): Promise<void> => {
    rig = await HttpRig.start({ config: { listen: { host, port: 0 }, tls, tokens }, timings });
  };

  it('answers with the certificate, and takes a new one without dropping connections', async () => {
    const first = makeCertificate('first');
    const second = makeCertificate('second');
    await start(first);
    const [caOfFirst, caOfSecond] = [readFileSync(first.cert), readFileSync(second.cert)];
    assert.equal((await rig.ask(RULES, { ca: caOfFirst })).status, 200);
    await assert.rejects(rig.ask(RULES, { ca: caOfSecond }), /self-signed|unable to verify/);

    const kept = connectTls({ host: '127.0.0.1', port: rig.port, ca: caOfFirst, checkServerIdentity: () => undefined });
    let received = '';
    kept.on('data', (chunk: Buffer) => {
      received += chunk.toString();
    });
    const get = 'GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n';
    kept.write(get);
    await until(() => (/"ok"/.test(received) ? true : undefined));

    writeFileSync(first.key, 'rubbish');
    assert.throws(
      () => rig.server.reload({ ...rig.config, tokens: [] }),
      (error: VnicError) => error.code === 'invalid_config' && error.remedy!.includes(first.key),
    );
    assert.equal((await rig.ask(RULES, { ca: caOfFirst, headers: bearer('reader-secret') })).status, 200);

    rig.server.reload({ ...rig.config, tls: second });
    assert.equal((await rig.ask(RULES, { ca: caOfSecond })).status, 200);
    received = '';
    kept.write(get);
    await until(() => (/"ok"/.test(received) ? true : undefined));
    kept.destroy();
  });

  it('does not answer in the clear, and closes connections that never shake hands', async () => {
    await start(makeCertificate('third'), '127.0.0.1', { headersTimeoutMs: 100 });
    assert.doesNotMatch(await rig.raw('GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n', { tcp: true }), /"ok"/);
    assert.equal(await rig.raw('', { tcp: true }), '');
    const line = await rig.logged(({ msg }) => /handshake/.test(String(msg)));
    assert.equal(line['level'], 20);
  });

  it('closes within its grace while a handshake hangs', async () => {
    await start(makeCertificate('fourth'));
    const hanging = rig.connect({ tcp: true });
    await until(() => (hanging.socket.readyState === 'open' ? true : undefined));
    await sleep(20);
    await rig.server.close(20);
    await hanging.closed();
  });

  it('off loopback takes a token for everything but health and the page, which asks for one itself', async function () {
    const own = Object.values(networkInterfaces())
      .flatMap((list) => list ?? [])
      .find(({ family, internal }) => family === 'IPv4' && !internal);
    const tls = makeCertificate('fifth');
    await start(tls, '0.0.0.0');
    if (own === undefined) skip(this, 'this machine has only a loopback address');
    const ask = (target: string, method = 'GET', headers = {}) =>
      rig.ask(target, { host: own.address, ca: readFileSync(tls.cert), method, headers });
    for (const target of [
      RULES,
      '/metrics',
      '/api/v1/metrics',
      '/api/v1/openapi.json',
      '/api/v1/reference',
      '/api/v1/events',
      '/page/nothing',
      '/nothing',
    ]) {
      const { status, json } = await ask(target);
      assert.deepEqual([status, json['code']], [401, 'unauthorized'], target);
    }
    assert.equal((await ask(RULES, 'OPTIONS')).status, 401);
    assert.equal((await ask('/metrics', 'POST')).status, 401);
    assert.equal((await ask('/healthz')).status, 200);
    assert.equal((await ask('/readyz')).status, 200);
    assert.equal((await ask('/')).status, 200);
    assert.equal((await ask('/page/main.mjs')).status, 200);
    assert.equal((await ask(RULES, 'GET', bearer('reader-secret'))).status, 200);
    assert.equal((await ask(RULES, 'GET', { ...bearer('reader-secret'), host: 'gw1.example' })).status, 200);
    assert.equal((await ask(RULES, 'PUT', bearer('reader-secret'))).status, 403);
    assert.equal((await ask(RULES, 'PUT', bearer('writer-secret'))).status, 200);
  });
});
