// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { CliRig } from '../support/cli.ts';

interface Latency {
  rtt: { mode: string; remark: string | null; azs: { az: string | null; rtt: { count: number; p50Ns: number } }[] };
}

/** Answers each byte after a while; the acknowledgement waits for the answer, as in any request and response. */
const serverScript = `
  require('node:net').createServer((socket) => {
    socket.setNoDelay(true);
    socket.on('data', (data) => {
      const delayMs = data[0];
      if (delayMs === 0) socket.write(data);
      else setTimeout(() => socket.write(data), delayMs);
    });
    socket.on('error', () => {});
  }).listen(7000, '0.0.0.0', () => console.log('ready'));`;

/** One request after the other; then what the kernel says of the connection: its smoothed RTT in ms. */
const clientScript = `
  const [host, delayMs, forMs] = process.argv.slice(1);
  const socket = require('node:net').connect(7000, host, () => {
    socket.setNoDelay(true);
    const end = performance.now() + Number(forMs);
    socket.on('data', () => {
      if (performance.now() < end) return socket.write(Buffer.from([Number(delayMs)]));
      const text = require('node:child_process').execFileSync('ss', ['-tinH', 'sport', '=', String(socket.localPort)], { encoding: 'utf8' });
      console.log(/ rtt:([0-9.]+)/.exec(text)[1]);
      socket.destroy();
    });
    socket.write(Buffer.from([Number(delayMs)]));
  });`;

describe('round-trip times of real TCP connections', function () {
  this.timeout(120_000);
  let rig: CliRig;
  let server: ChildProcess;

  before(async () => {
    rig = new CliRig('rtt');
    // What a veth sends leaves its checksum to the receiver, which a packet that was redirected no longer knows.
    execFileSync('nsenter', [`--net=/run/netns/${rig.peer}`, 'ethtool', '-K', 'peer0', 'tx', 'off'], {
      stdio: 'ignore',
    });
    server = spawn('nsenter', [`--net=/run/netns/${rig.peer}`, process.execPath, '-e', serverScript], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    await once(server.stdout!, 'data');
  });
  after(() => {
    server?.kill();
    rig?.[Symbol.dispose]();
  });
  afterEach(() => void rig.run(['detach', 'vnic0']));

  function attach(...args: string[]): void {
    const file = path.join(rig.folder, 'config.json');
    const azs = [{ name: 'az-a', queues: '0-15', prefixes: ['10.9.0.0/16'] }];
    writeFileSync(file, JSON.stringify({ devices: { vnic0: { rtt_sample: 1, azs } } }));
    rig.ok(['attach', 'vnic0', '--config', file, ...args]);
  }

  /** From the guest: ms as the kernel smooths them. */
  function talk(delayMs: number, forMs: number): number {
    return Number(rig.inGuest(process.execPath, '-e', clientScript, '10.9.0.2', String(delayMs), String(forMs)));
  }

  const measured = (): { count: number; p50Ms: number; latency: Latency } => {
    const latency = rig.json<Latency>(['latency', 'vnic0']);
    const { count, p50Ns } = latency.rtt.azs.find(({ az }) => az === 'az-a')!.rtt;
    return { count, p50Ms: p50Ns / 1e6, latency };
  };

  for (const delayMs of [0, 25]) {
    it(`agree with the kernel's own${delayMs === 0 ? '' : `, with ${delayMs} ms on the way`}`, () => {
      attach();
      const kernelMs = talk(delayMs, 2500);
      const { count, p50Ms, latency } = measured();
      assert.equal(latency.rtt.mode, 'timestamps');
      assert.ok(count >= 5, `${count} answers`);
      // What lies between the two points of measurement is this machine's own work, which a busy one stretches.
      const slackMs = 2;
      const told = `${p50Ms} ms, and the kernel says ${kernelMs} ms`;
      assert.ok(p50Ms <= kernelMs * 1.5 + slackMs, told);
      assert.ok(p50Ms >= kernelMs / 1.5 - slackMs, told);
      if (delayMs > 0) assert.ok(p50Ms >= delayMs, told);
      assert.match(rig.ok(['az', 'list', '-d', 'vnic0']), /RTT P50\/P99/);
    });
  }

  it('are not there without the egress program but for handshakes to this machine, and the reason is told', () => {
    attach('--egress', 'off');
    talk(0, 100);
    const { count, latency } = measured();
    assert.equal(count, 0);
    assert.equal(latency.rtt.mode, 'handshakes');
    assert.match(rig.ok(['latency', 'vnic0']), /egress is off/);
    // A connection to the guest.
    const guest = spawn('nsenter', [`--net=/run/netns/${rig.guest}`, process.execPath, '-e', serverScript], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    try {
      execFileSync('nsenter', [
        `--net=/run/netns/${rig.peer}`,
        'sh',
        '-c',
        `for i in 1 2 3 4 5 6 7 8 9 10; do ${process.execPath} -e 'const s = require("node:net").connect(7000, "10.9.0.1", () => process.exit(0)); s.on("error", () => process.exit(1))' && exit 0; sleep 0.2; done; exit 1`,
      ]);
    } finally {
      guest.kill();
    }
    assert.ok(measured().count >= 1);
  });
});
