// SPDX-License-Identifier: Apache-2.0
/** A real Prometheus that scrapes a real daemon: everything that is shipped for them finds something there. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { isDeepStrictEqual } from 'node:util';
import { conditionalMetrics } from '../../scripts/dashboards/index.ts';
import { checkExpressions, type Result } from '../../scripts/monitoring/check.ts';
import { shippedExpressions, shippedRules } from '../../scripts/monitoring/expressions.ts';
import { findTool, Prometheus } from '../../scripts/monitoring/prometheus.ts';
import { freePort } from '../support/daemon.ts';
import { skip } from '../support/skip.ts';
import { SurvivalRig, until } from '../support/survival.ts';

const script = path.join(import.meta.dirname, '../../scripts/monitoring.ts');

const azs = [
  { name: 'az-a', queues: '0-15' },
  { name: 'az-b', queues: '16-31' },
];
const rules = [
  { id: 1, action: 'drop', match: { proto: 'udp', dstPort: 7001 } },
  {
    id: 2,
    action: 'pass',
    match: { proto: 'udp', dstPort: 7002 },
    limit: { rate: '1mbit', burst: '16kb', scope: 'rule' },
  },
];

/** UDP from several ports of the peer to 7000 to 7003 of the device, about 1000 packets a second, until it is ended. */
function startTraffic(netns: string): ChildProcess {
  const program = `
    const { createSocket } = require('node:dgram');
    const sockets = Array.from({ length: 8 }, (_, i) => createSocket('udp4').bind(40000 + i, '10.9.0.2'));
    const data = Buffer.alloc(400);
    setInterval(() => sockets.forEach((socket, i) => socket.send(data, 7000 + (i & 3), '10.9.0.1')), 8);
    for (const socket of sockets) socket.on('error', () => {});`;
  return spawn('nsenter', [`--net=/run/netns/${netns}`, process.execPath, '-e', program], { stdio: 'ignore' });
}

async function runScript(...args: string[]): Promise<{ code: number | null; output: string }> {
  const child = spawn(process.execPath, [script, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (data: Buffer) => (output += data.toString()));
  return await new Promise((resolve) => child.once('close', (code) => resolve({ code, output })));
}

describe('Prometheus beside the daemon', function () {
  this.timeout(180_000);
  let rig: SurvivalRig;
  let traffic: ChildProcess;
  let prometheus: Prometheus;
  let target: string;

  before(async function () {
    if (findTool('prometheus') === null) skip(this, 'prometheus is not installed');
    const daemon = '  telemetry: {tracepoints: all, program_stats: true, socket_latency: true}';
    rig = await SurvivalRig.start('monitoring', { daemon });
    await rig.attach({ azs, rules });
    traffic = startTraffic(rig.rig.peer);
    target = `127.0.0.1:${rig.daemon.port}`;
    prometheus = await Prometheus.start({ target, port: await freePort() });
  });
  after(async () => {
    await prometheus?.[Symbol.asyncDispose]();
    traffic?.kill();
    await rig?.[Symbol.asyncDispose]();
  });

  /** Why some of what is shipped has no samples here. */
  async function reasonsExpected(): Promise<Set<string | undefined>> {
    const [hasCycles] = await until('what perf offers', async () => {
      const values = await prometheus.values('max(virtio_nic_perf_available{event="cycles"})');
      return values.length > 0 ? values : null;
    });
    return new Set([
      // The traffic is UDP, which has no round-trip times, and nobody listens for it.
      conditionalMetrics['virtio_nic_rtt_seconds_bucket'],
      conditionalMetrics['virtio_nic_socket_latency_seconds_bucket'],
      conditionalMetrics['virtio_nic_fleet_connected'],
      // Redirect mode cpumap asks nothing of the device.
      conditionalMetrics['virtio_nic_redirect_obeyed_ratio'],
      ...(hasCycles === 1 ? [] : ['only where the machine has hardware counters']),
    ]);
  }

  it('has samples for every panel, mark, variable and rule', async () => {
    await rig.ask('POST', rig.url('/azs/az-b/fail'));
    const expressions = shippedExpressions();
    const expected = await reasonsExpected();
    let result: Result = { checked: 0, findings: [], empty: [] };
    const reasons = () => new Set(result.empty.map(({ problem }) => problem));
    // What is recorded needs a few evaluations, which come every 5 s; what may be missing can be as late as the rest.
    for (let round = 0; round < 15; round++) {
      await new Promise((resolve) => setTimeout(resolve, 3000));
      result = await checkExpressions(expressions, prometheus, conditionalMetrics);
      if (result.findings.length === 0 && isDeepStrictEqual(reasons(), expected)) break;
    }
    assert.deepEqual(result.findings, []);
    assert.equal(result.checked, expressions.length);
    assert.deepEqual(reasons(), expected);
    console.log(
      `      ${result.checked} expressions, ${result.empty.length} of them without samples for a known reason`,
    );
  });

  it('evaluates every rule without an error', async () => {
    const states = await prometheus.rules();
    assert.equal(states.length, shippedRules().length);
    for (const { name, health, lastError } of states)
      assert.equal(health, 'ok', `${name}: ${health} ${lastError ?? ''}`);
  });

  it('records under the original driver’s names what the daemon counts', async () => {
    const [recorded] = await prometheus.values('virtio_nic_rx_packets');
    const [counted] = await prometheus.values('sum(virtio_nic_rx_packets_total)');
    assert.ok(recorded !== undefined && recorded > 0);
    assert.ok(counted !== undefined && counted >= recorded, `recorded ${recorded} of ${counted}`);
    assert.equal((await prometheus.values('virtio_nic_queue_stats{stat="rx_packets"}')).length, 32);
  });

  it('raises the alerts about a failed AZ, and takes back what is over', async () => {
    const firing = async (name: string) =>
      (await prometheus.values(`ALERTS{alertname="${name}",alertstate="firing"}`)).length > 0;
    await until('VnicAzDown', () => firing('VnicAzDown'));
    await until('VnicLastAz', () => firing('VnicLastAz'));
    assert.equal(await firing('VnicDaemonDown'), false);
    await rig.ask('POST', rig.url('/azs/az-b/recover'));
    await until('the end of VnicAzDown', async () => !(await firing('VnicAzDown')));
    await until('the end of VnicLastAz', async () => !(await firing('VnicLastAz')));
  });

  it('finds an expression with a mistake in a name, a label or the language', async () => {
    const mistakes = [
      'rate(virtio_nic_rx_packet_total[1m])',
      'virtio_nic_drops_total{reason="no_such_reason"}',
      'rate(virtio_nic_az_up)',
    ];
    const expressions = mistakes.map((promql) => ({ kind: 'panel' as const, where: promql, promql }));
    const { findings } = await checkExpressions(expressions, prometheus, conditionalMetrics);
    assert.deepEqual(
      findings.map(({ where }) => where),
      mistakes,
    );
  });

  it('is run by make monitoring until Ctrl-C, with a daemon if there is none, and leaves nothing behind', async () => {
    const folder = mkdtempSync(path.join(tmpdir(), 'vnic-monitoring-'));
    const [daemonPort, port] = [await freePort(), await freePort()];
    const pages = [`http://127.0.0.1:${daemonPort}/healthz`, `http://127.0.0.1:${port}/-/ready`];
    const args = ['--serve', '--target', `127.0.0.1:${daemonPort}`, '--port', String(port)];
    const temporary = path.join(folder, 'tmp');
    mkdirSync(temporary);
    try {
      const child = spawn(process.execPath, [script, ...args], {
        stdio: ['ignore', 'pipe', 'inherit'],
        env: {
          ...process.env,
          TMPDIR: temporary,
          VNIC_STATE_DIR: path.join(folder, 'state'),
          VNIC_SOCKET: path.join(folder, 'vnicd.sock'),
        },
      });
      const ended = new Promise((resolve) => child.once('exit', resolve));
      const lines: string[] = [];
      for await (const line of createInterface({ input: child.stdout })) {
        lines.push(line);
        if (!line.startsWith('Ctrl-C')) continue;
        for (const page of pages) assert.equal((await fetch(page)).status, 200, page);
        assert.match(readdirSync(temporary).join(' '), /vnic-prometheus-/);
        child.kill('SIGINT');
      }
      assert.equal(await ended, 0);
      assert.ok(
        lines.some((line) => line.includes(`http://127.0.0.1:${port}`)),
        lines.join('\n'),
      );
      assert.doesNotMatch(readdirSync(temporary).join(' '), /vnic-prometheus-/);
      for (const page of pages) await assert.rejects(fetch(page), page);
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  });

  it('fails the check while there is nothing to see, and says where', async () => {
    const port = String(await freePort());
    const { code, output } = await runScript('--target', target, '--port', port, '--check', '--seconds', '0');
    assert.equal(code, 1, output);
    assert.match(output, /^failed {2}overview\.json: /m);
    assert.match(output, /^\d+ expressions: [1-9]\d* failed/m);
  });

  it('is not started without a daemon, and the message says so', async () => {
    const { code, output } = await runScript('--target', `127.0.0.1:${await freePort()}`, '--port', '1');
    assert.equal(code, 1);
    assert.match(output, /no daemon answers at 127\.0\.0\.1:\d+: start vnicctl serve/);
  });

  it('says what Prometheus says when its port is taken', async () => {
    const { code, output } = await runScript('--target', target, '--port', String(rig.daemon.port));
    assert.equal(code, 1);
    assert.match(output, /prometheus did not start: .*address already in use/s);
  });
});
