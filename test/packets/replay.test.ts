// SPDX-License-Identifier: Apache-2.0
/** Replay through the real programs: held against tshark for every capture of the set, and against the plain parser. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { DeviceModel } from '../../src/app/device-model.ts';
import { onlineCpus } from '../../src/app/machine.ts';
import { BpfReplay } from '../../src/app/replay-dataplane.ts';
import { readCapture } from '../../src/captures/read.ts';
import { type ReplayReport, replay } from '../../src/captures/replay.ts';
import { writeCapture } from '../../src/captures/write.ts';
import { parseDevice } from '../../src/config/device.ts';
import { loadNative } from '../../src/loader/ffi/index.ts';
import { type CaptureSetFile, framesToWrite, writeCaptureSet } from '../support/capture-set.ts';
import { packet } from '../support/packet.ts';
import { ReferenceDataplane } from '../support/reference-dataplane.ts';
import { skip } from '../support/skip.ts';
import { tsharkFlows, tsharkMissing } from '../support/tshark.ts';

const native = loadNative();

/** Replays a capture through the programs. */
function replayFile(file: string, config: Record<string, unknown> = {}): ReplayReport {
  const model = DeviceModel.plan(parseDevice('replay', config), 32, onlineCpus());
  using dataplane = new BpfReplay(native, model, 65_536);
  const report = replay(readCapture(file), dataplane);
  assert.equal(dataplane.evicted, 0);
  return report;
}

/** What tshark can be asked about as well: no queue, AZ, rule or verdict. */
function facts(report: ReplayReport): unknown {
  return {
    ...report,
    flows: report.flows.map(({ src, dst, srcPort, dstPort, proto, packets, bytes }) =>
      [src, dst, srcPort, dstPort, proto, packets, bytes].join(' '),
    ),
  };
}

describe('replay through the programs', () => {
  const folder = mkdtempSync(path.join(tmpdir(), 'vnic-replay-'));
  let files: CaptureSetFile[] = [];

  before(() => {
    files = writeCaptureSet(folder);
  });

  after(() => rmSync(folder, { recursive: true, force: true }));

  it('finds the flows, packets, bytes and reasons that the plain parser finds, in every capture of the set', () => {
    for (const { theme, path: file } of files) {
      assert.deepEqual(facts(replayFile(file)), facts(replay(readCapture(file), new ReferenceDataplane())), theme);
    }
  });

  it('agrees with tshark on flows, packets and bytes', function () {
    const missing = tsharkMissing();
    if (missing !== null) skip(this, missing);
    for (const { theme, cases } of files) {
      const wellFormed = cases.filter((item) => item.wellFormed);
      if (wellFormed.length === 0) continue;
      const file = path.join(folder, `${theme}-well-formed.pcapng`);
      writeCapture(file, framesToWrite(wellFormed));
      const ours = replayFile(file);
      const theirs = tsharkFlows(file);
      assert.equal(ours.packets, theirs.packets, theme);
      assert.equal(ours.packets - ours.parsed, theirs.unparsed, theme);
      const counts = ours.flows.map(({ src, dst, srcPort, dstPort, proto, packets, bytes }) => [
        `${src} ${srcPort} > ${dst} ${dstPort} proto ${proto}`,
        { packets, bytes },
      ]);
      assert.deepEqual(Object.fromEntries(counts), Object.fromEntries(theirs.flows), theme);
    }
  });

  it('counts as many packets as tshark in damaged captures too', function () {
    const missing = tsharkMissing();
    if (missing !== null) skip(this, missing);
    for (const { theme, path: file } of files) assert.equal(replayFile(file).packets, tsharkFlows(file).packets, theme);
  });

  it('keeps time by the capture: a limit lets pass what its rate allows between the packets', () => {
    const frame = packet().ethernet().ipv4({ src: '10.1.0.1', dst: '10.2.0.1' }).udp({ sport: 5, dport: 6 }).build();
    const file = path.join(folder, 'limited.pcapng');
    // One packet a millisecond for ten seconds against 100 a second and a burst of 10.
    const list = Array.from({ length: 10_000 }, (_, index) => ({
      timeNs: 1_700_000_000_000_000_000n + BigInt(index) * 1_000_000n,
      data: frame,
      wireBytes: frame.length,
    }));
    writeCapture(file, list);
    const limit = { rate: '100pps', burst: '10 pkts', scope: 'flow' };
    const model = DeviceModel.plan(
      parseDevice('replay', { rules: [{ id: 3, match: { proto: 'udp' }, action: 'pass', limit }] }),
      32,
      onlineCpus(),
    );
    using dataplane = new BpfReplay(native, model, 4096);
    const report = replay(readCapture(file), dataplane);
    const [flow] = [...dataplane.flows()];
    assert.equal(report.flows[0]?.verdict, 'limit');
    assert.equal(report.flows[0]?.rule, 3);
    // 10 of the burst, then one for each 10 ms that follow.
    assert.equal(Number(flow!.packets - flow!.droppedPackets), 10 + 999);
  });
});
