// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { buildFrame } from '../../src/captures/build-frame.ts';
import { writeCapture, writePcap } from '../../src/captures/write.ts';
import { parseAddress } from '../../src/steering/rules/prefix.ts';
import { vnicctl } from '../support/cli.ts';

interface Report {
  packets: number;
  bytes: number;
  parsed: number;
  unparsed: Record<string, number>;
  flows: Record<string, unknown>[];
}

function run(...args: string[]) {
  return spawnSync(vnicctl, args, { encoding: 'utf8', maxBuffer: 2 ** 28, env: { ...process.env, NO_COLOR: '1' } });
}

function udp(src: string, dst: string, srcPort: number, dstPort: number, frameBytes: number): Uint8Array {
  return buildFrame({ src: parseAddress(src), dst: parseAddress(dst), srcPort, dstPort, proto: 17, frameBytes });
}

describe('vnicctl replay', function () {
  // Each test runs vnicctl many times, perhaps on a busy machine.
  this.timeout(300_000);
  let folder: string;
  let capture: string;
  let config: string;

  before(() => {
    folder = mkdtempSync(path.join(tmpdir(), 'vnic-replay-'));
    capture = path.join(folder, 'a.pcap');
    const frames = [
      ...Array.from({ length: 5 }, () => udp('10.1.0.5', '10.9.0.1', 1000, 53, 200)),
      ...Array.from({ length: 3 }, () => udp('10.2.0.5', '10.9.0.1', 1000, 54, 100)),
      udp('fd00:a::5', 'fd00:100::1', 7, 8, 1500),
      new Uint8Array([2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x08, 0x06, ...Buffer.alloc(28)]),
    ];
    writePcap(
      capture,
      frames.map((data, index) => ({ timeNs: BigInt(index) * 1_000_000n, data })),
    );
    config = path.join(folder, 'vnic.yaml');
    writeFileSync(
      config,
      `devices:
  eth0:
    num_queues: 8
    azs: [{name: az-a, queues: 0-3, prefixes: [10.1.0.0/16]}, {name: az-b, queues: 4-7, prefixes: [10.2.0.0/16]}]
    rules:
      - {id: 5, action: drop, match: {proto: udp, dstPort: 54}}
      - {id: 6, action: pass, match: {proto: udp, dstPort: 53}, limit: {rate: 1pps, burst: 2, scope: flow}}
`,
    );
  });
  after(() => rmSync(folder, { recursive: true, force: true }));

  it('prints one object with every flow, its queue and verdict', () => {
    const result = run('replay', capture, '--config', config, '-o', 'json');
    assert.equal(result.status, 0, result.stderr);
    const report = JSON.parse(result.stdout) as Report;
    const queues = report.flows.map(({ queue }) => queue as number);
    assert.deepEqual(report, {
      packets: 10,
      bytes: 5 * 200 + 3 * 100 + 1500 + 42,
      parsed: 9,
      unparsed: { not_ip: 1 },
      flows: [
        {
          src: 'fd00:a::5',
          dst: 'fd00:100::1',
          srcPort: 7,
          dstPort: 8,
          proto: 17,
          packets: 1,
          bytes: 1500,
          queue: queues[0],
          az: null,
          rule: null,
          verdict: 'pass',
        },
        {
          src: '10.1.0.5',
          dst: '10.9.0.1',
          srcPort: 1000,
          dstPort: 53,
          proto: 17,
          packets: 5,
          bytes: 1000,
          queue: queues[1],
          az: 'az-a',
          rule: 6,
          verdict: 'limit',
        },
        {
          src: '10.2.0.5',
          dst: '10.9.0.1',
          srcPort: 1000,
          dstPort: 54,
          proto: 17,
          packets: 3,
          bytes: 300,
          queue: queues[2],
          az: 'az-b',
          rule: 5,
          verdict: 'drop',
        },
      ],
    });
    assert.ok(queues[0]! >= 0 && queues[0]! < 8);
    assert.ok(queues[1]! >= 0 && queues[1]! < 4);
  });

  it('needs no configuration: 32 queues, no AZs, no rules', () => {
    const report = JSON.parse(run('-o', 'json', 'replay', capture).stdout) as Report;
    assert.deepEqual(
      report.flows.map(({ az, rule, verdict }) => [az, rule, verdict]),
      [
        [null, null, 'pass'],
        [null, null, 'pass'],
        [null, null, 'pass'],
      ],
    );
    const limited = JSON.parse(run('-o', 'json', 'replay', capture, '--limit', '1').stdout) as Report;
    assert.deepEqual([limited.parsed, limited.flows.length], [9, 1]);
    const text = run('replay', capture).stdout;
    assert.match(text, /10 packets, 2\.78 KiB, 9 parsed\nunparsed: not_ip 1\n3 flows\n/);
  });

  it('asks which device is meant when the configuration has several', () => {
    const two = path.join(folder, 'two.yaml');
    writeFileSync(two, 'devices:\n  eth0: {num_queues: 1}\n  eth1: {num_queues: 2}\n');
    const result = run('replay', capture, '--config', two);
    assert.equal(result.status, 2);
    assert.match(result.stderr, /eth0, eth1/);
    const report = JSON.parse(
      run('replay', capture, '--config', two, '--device', 'eth0', '-o', 'json').stdout,
    ) as Report;
    assert.ok(report.flows.every(({ queue }) => queue === 0));
    assert.equal(run('replay', capture, '--config', two, '--device', 'eth7').status, 4);
  });

  it('reports what stood before the damage, then fails with exit 1 and the byte', () => {
    const cut = path.join(folder, 'cut.pcap');
    writeFileSync(cut, readFileSync(capture).subarray(0, 24 + 5 * (16 + 200) + 16 + 50));
    const result = run('-o', 'json', 'replay', cut);
    assert.equal(result.status, 1);
    assert.deepEqual(
      [(JSON.parse(result.stdout) as Report).packets, (JSON.parse(result.stdout) as Report).flows.length],
      [5, 1],
    );
    const problem = JSON.parse(result.stderr) as { code: string; offset: number };
    assert.equal(problem.code, 'invalid_capture');
    assert.ok(problem.offset >= 24 + 5 * (16 + 200));
  });

  it('exit 4 for no file, exit 1 for what is no capture', () => {
    assert.equal(run('replay', path.join(folder, 'nosuch.pcap')).status, 4);
    const result = run('replay', config);
    assert.equal(result.status, 1);
    assert.match(result.stderr, /not a capture/);
  });

  it('counts each of 100,000 flows, more than it makes room for at first', () => {
    const many = path.join(folder, 'many.pcapng');
    const flows = 100_000;
    writeCapture(
      many,
      (function* () {
        for (let index = 0; index < 2 * flows; index++) {
          const flow = index % flows;
          const data = udp(`10.${flow >> 16}.${(flow >> 8) & 255}.${flow & 255}`, '10.9.0.1', 1000, 53, 60);
          yield { timeNs: BigInt(index) * 1000n, data };
        }
      })(),
    );
    const result = run('-o', 'json', 'replay', many);
    assert.equal(result.status, 0, result.stderr);
    const report = JSON.parse(result.stdout) as Report;
    assert.deepEqual([report.packets, report.parsed, report.flows.length], [2 * flows, 2 * flows, flows]);
    assert.ok(report.flows.every(({ packets, bytes }) => packets === 2 && bytes === 120));
  });
});
