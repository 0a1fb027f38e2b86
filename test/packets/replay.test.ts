// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DeviceModel } from '../../src/app/device-model.ts';
import { BpfReplay } from '../../src/app/replay-dataplane.ts';
import { readCapture } from '../../src/captures/read.ts';
import { type ReplayReport, replay } from '../../src/captures/replay.ts';
import { type FrameToWrite, writeCapture, writePcap } from '../../src/captures/write.ts';
import { parseDevice } from '../../src/config/device.ts';
import { loadNative } from '../../src/loader/ffi/index.ts';
import { bucketOf, chooseQueue, flowHash } from '../../src/steering/hash.ts';
import { captureSet, framesToWrite, writeCaptureSet } from '../support/capture-set.ts';
import { udpFrame } from '../support/packet.ts';
import { addressBytes, concat } from '../support/packet-bytes.ts';
import { ReferenceDataplane } from '../support/reference-dataplane.ts';
import { skip } from '../support/skip.ts';
import { replayedFlows, tsharkFlows, tsharkMissing } from '../support/tshark.ts';

const cpus = [{ cpu: 0, numaNode: 0 }];
const plain = DeviceModel.plan(parseDevice('vnic0', { num_queues: 8 }), 8, cpus);

const config = {
  num_queues: 6,
  azs: [
    { name: 'az-a', queues: '0-2', prefixes: ['10.1.0.0/16'] },
    { name: 'az-b', queues: '3-5', prefixes: ['10.2.0.0/16'] },
  ],
  rules: [
    { id: 1, match: { src: '10.1.0.9/32' }, action: 'drop' },
    {
      id: 2,
      match: { proto: 'udp', dstPort: 53 },
      action: 'pass',
      limit: { rate: '10pps', burst: '2 pkts', scope: 'flow' },
    },
    { id: 3, match: { proto: 'udp', dstPort: 80 }, action: 'pass', queues: [4] },
  ],
};

/** Without what a model without steering cannot know. */
const unsteered = ({ flows, ...report }: ReplayReport): ReplayReport => ({
  ...report,
  flows: flows.map((flow) => ({ ...flow, queue: null })),
});

describe('replaying captures through the program', () => {
  const native = loadNative();
  let folder: string;
  before(() => {
    folder = mkdtempSync(join(tmpdir(), 'vnic-replay-'));
  });
  after(() => rmSync(folder, { recursive: true, force: true }));

  function run(path: string, model = plain): ReplayReport {
    using dataplane = new BpfReplay(native, model, 4096);
    const report = replay(readCapture(path), dataplane);
    assert.equal(dataplane.evicted, 0);
    return report;
  }

  it('reports each file of the capture set as the reference dataplane does', function () {
    this.timeout(120_000);
    const files = writeCaptureSet(folder);
    assert.ok(files.length > 10);
    let packets = 0;
    for (const { path, theme } of files) {
      const report = run(path);
      assert.deepEqual(unsteered(report), replay(readCapture(path), new ReferenceDataplane()), theme);
      for (const { queue } of report.flows) assert.ok(queue !== null && queue < 8, theme);
      packets += report.packets;
    }
    assert.equal(packets, captureSet.length);
  });

  it('agrees with tshark on packets, flows and bytes, whatever the link type', function () {
    this.timeout(120_000);
    const missing = tsharkMissing();
    if (missing !== null) skip(this, missing);
    const good = captureSet.filter(({ wellFormed }) => wellFormed);
    const untagged = framesToWrite(
      good.filter(({ frame, expect }) => !('unparsed' in expect) && frame[12] !== 0x81 && frame[12] !== 0x88),
    );
    const converted = (header: (etherType: Uint8Array) => Uint8Array) =>
      untagged.map(({ timeNs, data, wireBytes }) => {
        const link = header(data.subarray(12, 14));
        return { timeNs, data: concat(link, data.subarray(14)), wireBytes: wireBytes! - 14 + link.length };
      });
    const linkTypes: readonly (readonly [number, readonly FrameToWrite[]])[] = [
      [1, framesToWrite(good)],
      [101, converted(() => new Uint8Array(0))],
      [0, converted((type) => Uint8Array.of(type[0] === 8 ? 2 : 30, 0, 0, 0))],
      [108, converted((type) => Uint8Array.of(0, 0, 0, type[0] === 8 ? 2 : 24))],
      [113, converted((type) => concat(Uint8Array.of(0, 0, 0, 1, 0, 6), new Uint8Array(8), type))],
      [276, converted((type) => concat(type, new Uint8Array(6), Uint8Array.of(0, 1, 0, 6), new Uint8Array(8)))],
    ];
    for (const [linkType, list] of linkTypes) {
      const path = join(folder, `link-${linkType}.pcap`);
      writePcap(path, list, { linkType });
      const report = run(path);
      const theirs = tsharkFlows(path);
      const title = `link type ${linkType}`;
      assert.equal(report.packets, theirs.packets, title);
      assert.equal(report.packets - report.parsed, theirs.unparsed, title);
      const ours = replayedFlows(report);
      assert.deepEqual(ours, Object.fromEntries(theirs.flows), title);
      assert.ok(Object.keys(ours).length > 20, title);
    }
  });

  it('counts as many packets as tshark in every file, damaged frames included', function () {
    this.timeout(120_000);
    const missing = tsharkMissing();
    if (missing !== null) skip(this, missing);
    for (const { path, theme } of writeCaptureSet(folder))
      assert.equal(run(path).packets, tsharkFlows(path).packets, theme);
  });

  it('applies rules, limits by the time of the capture, AZs and queues', () => {
    const second = 1_000_000_000n;
    const list: FrameToWrite[] = [
      ...[0n, 1n, 2n].map((time) => ({ timeNs: time, data: udpFrame('10.1.0.9', '10.9.0.1', 1, 2) })),
      // Two at once, then one each 50 ms where one each 100 ms conforms; then after a pause.
      ...[0n, 0n, 0n, 5n, 10n, 15n, 20n, 300n].map((tens) => ({
        timeNs: (tens * second) / 100n,
        data: udpFrame('10.2.0.5', '10.9.0.1', 4000, 53),
      })),
      { timeNs: 4n * second, data: udpFrame('192.0.2.1', '10.9.0.1', 5, 80) },
      { timeNs: 4n * second, data: udpFrame('10.1.0.1', '10.9.0.1', 5, 81) },
    ];
    const path = join(folder, 'rules.pcapng');
    writeCapture(path, list);
    const model = DeviceModel.plan(parseDevice('vnic0', config), 6, cpus);
    const { flows } = run(path, model);
    const of = (src: string) => flows.find((flow) => flow.src === src)!;
    const brief = (src: string) => {
      const { packets, az, rule, verdict } = of(src);
      return { packets, az, rule, verdict };
    };
    assert.deepEqual(brief('10.1.0.9'), { packets: 3, az: 'az-a', rule: 1, verdict: 'drop' });
    assert.deepEqual(brief('10.2.0.5'), { packets: 8, az: 'az-b', rule: 2, verdict: 'limit' });
    assert.deepEqual(brief('192.0.2.1'), { packets: 1, az: null, rule: 3, verdict: 'pass' });
    assert.deepEqual(brief('10.1.0.1'), { packets: 1, az: 'az-a', rule: null, verdict: 'pass' });
    assert.equal(of('192.0.2.1').queue, 4);
    const { rows, usableQueues } = model.homeState().current;
    for (const { src, dst, srcPort: sport, dstPort: dport, proto, queue, az } of flows) {
      if (src === '192.0.2.1') continue;
      const hash = flowHash({ src: addressBytes(src), dst: addressBytes(dst), sport, dport, proto }, 0);
      const azIndex = az === null ? 0 : model.azIndex(az);
      assert.equal(queue, chooseQueue({ hash, bucket: bucketOf(hash), az: azIndex, rows, usableQueues }), src);
      assert.ok(az !== 'az-a' || queue! <= 2);
      assert.ok(az !== 'az-b' || queue! >= 3);
    }
  });

  it('drops exactly the packets of a flow that come too early', () => {
    const model = DeviceModel.plan(parseDevice('vnic0', config), 6, cpus);
    using dataplane = new BpfReplay(native, model, 64);
    const frame = udpFrame('10.2.0.5', '10.9.0.1', 4000, 53);
    const times = [0, 0, 0, 50, 100, 150, 200, 250, 3000, 3000, 3000];
    for (const ms of times) dataplane.run(frame, 1_000_000_000n + BigInt(ms) * 1_000_000n, frame.length);
    const [flow] = [...dataplane.flows()];
    // Pass: both of the burst, one each at 100 and 200 ms, and two at 3 s.
    assert.deepEqual([flow?.packets, flow?.droppedPackets], [11n, 5n]);
  });

  it('says when flows did not fit', () => {
    using dataplane = new BpfReplay(native, plain, 8);
    for (let port = 0; port < 100; port++) {
      const frame = udpFrame('10.2.0.5', '10.9.0.1', port, 53);
      dataplane.run(frame, 1_000_000_000n, frame.length);
    }
    assert.ok(dataplane.evicted > 0);
  });
});
