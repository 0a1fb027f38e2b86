// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { loadConfig } from '../../src/config/config.ts';
import { daemonDefaults, formatListen, isLoopback, parseListen } from '../../src/config/daemon.ts';
import { readSettings } from '../../src/daemon/settings.ts';

const daemonOf = (section: unknown) => loadConfig(JSON.stringify({ daemon: section }), 'x.json').daemon;
const hash = 'a'.repeat(64);

describe('the daemon section of the configuration', () => {
  it('has defaults that need nothing to be said: loopback, no token, a socket of its group', () => {
    assert.deepEqual(loadConfig('{}', 'x.json').daemon, daemonDefaults);
    assert.deepEqual(daemonDefaults.tokens, []);
  });
  it('is read', () => {
    const daemon = daemonOf({
      listen: '[::1]:9191',
      socket: { path: '/run/x.sock', mode: '0600', group: 'net' },
      tokens: [{ name: 'grafana', sha256: hash, scope: 'read' }],
      limits: { body_bytes: 2048 },
    });
    assert.deepEqual(daemon.listen, { host: '::1', port: 9191 });
    assert.deepEqual(daemon.socket, { path: '/run/x.sock', mode: 0o600, group: 'net' });
    assert.deepEqual(daemon.tokens, [{ name: 'grafana', sha256: hash, scope: 'read' }]);
    assert.equal(daemon.limits.bodyBytes, 2048);
    assert.equal(daemon.limits.connections, daemonDefaults.limits.connections);
  });
  const refused: [string, unknown, RegExp][] = [
    ['an address off loopback without TLS', { listen: '10.0.0.1:9090' }, /TLS/],
    ['all addresses without TLS', { listen: '0.0.0.0:9090' }, /TLS/],
    ['a host name', { listen: 'localhost:9090' }, /IP address/],
    ['no port', { listen: '127.0.0.1' }, /IP address and port/],
    ['a token in the clear', { tokens: [{ name: 'a', token: 'secret', scope: 'read' }] }, /unknown field|sha256/],
    ['a hash that is none', { tokens: [{ name: 'a', sha256: 'abc', scope: 'read' }] }, /hexadecimal/],
    ['a token name used twice', { tokens: [1, 2].map(() => ({ name: 'a', sha256: hash, scope: 'read' })) }, /twice/],
    ['a mode that is none', { socket: { mode: '888' } }, /octal/],
    ['a way to trace that there is not', { telemetry: { tracepoints: 'some' } }, /basic, all, off/],
    ['an unknown field', { listne: '127.0.0.1:1' }, /unknown field "listne"/],
  ];
  for (const [what, section, message] of refused) {
    it(`refuses ${what}`, () => assert.throws(() => daemonOf(section), { code: 'invalid_config', message }));
  }
  it('takes an address off loopback with TLS', () => {
    const { listen } = daemonOf({ listen: '10.0.0.1:9090', tls: { cert: '/c', key: '/k' } });
    assert.deepEqual(listen, { host: '10.0.0.1', port: 9090 });
  });
  it('writes addresses as it reads them', () => {
    for (const text of ['127.0.0.1:9090', '[::1]:1']) assert.equal(formatListen(parseListen(text)!), text);
  });
  it('knows loopback', () => {
    for (const address of ['127.0.0.1', '127.9.9.9', '::1', '::ffff:127.0.0.1']) assert.ok(isLoopback(address));
    for (const address of ['10.0.0.1', '::', '::ffff:10.0.0.1', '128.0.0.1', '127.0.0.1.evil']) {
      assert.ok(!isLoopback(address), address);
    }
  });
});

describe('settings of the daemon', () => {
  let folder: string;
  before(() => {
    folder = mkdtempSync(path.join(tmpdir(), 'vnic-settings-'));
  });
  after(() => rmSync(folder, { recursive: true }));

  it('come from the environment over the file, and from the command line over both', async () => {
    const file = path.join(folder, 'vnic.yaml');
    writeFileSync(file, 'daemon: {listen: "127.0.0.1:1000"}\n');
    const listenOf = async (listen: string | undefined, environment: NodeJS.ProcessEnv) =>
      (await readSettings(file, listen, environment)).daemon.listen;
    assert.deepEqual(await listenOf(undefined, {}), { host: '127.0.0.1', port: 1000 });
    assert.deepEqual(await listenOf(undefined, { EXPORTER_PORT: '2000' }), { host: '127.0.0.1', port: 2000 });
    assert.equal(await listenOf(undefined, { EXPORTER_PORT: '0' }), null);
    assert.deepEqual(await listenOf('[::1]:3000', { EXPORTER_PORT: '2000' }), { host: '::1', port: 3000 });
    assert.equal(await listenOf('off', {}), null);
    const { daemon, metricsCacheMs } = await readSettings(file, undefined, {
      VNIC_SOCKET: '/run/other.sock',
      METRICS_CACHE_TTL: '0.5',
    });
    assert.equal(daemon.socket.path, '/run/other.sock');
    assert.equal(metricsCacheMs, 500);
  });
  it('name the variable that is wrong', async () => {
    await assert.rejects(readSettings(undefined, undefined, { EXPORTER_PORT: 'abc' }), {
      code: 'usage',
      message: /EXPORTER_PORT/,
    });
    await assert.rejects(readSettings(undefined, undefined, { EXPORTER_PORT: '70000' }), { code: 'usage' });
  });
});
