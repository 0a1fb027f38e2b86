// SPDX-License-Identifier: Apache-2.0
/** Replay of a capture recorded on the rig: real stacks' packets, held against tshark. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { replayCapture } from '../../src/app/replay-capture.ts';
import { parseDevice } from '../../src/config/device.ts';
import { startSockets } from '../rig/sockets.ts';
import { createRig, type Rig } from '../rig/topology.ts';
import { skip } from '../support/skip.ts';
import { replayedFlows, tsharkFlows, tsharkMissing } from '../support/tshark.ts';

describe('replay of a capture recorded on the rig', () => {
  const folder = mkdtempSync(path.join(tmpdir(), 'vnic-recorded-'));
  let rig: Rig;

  before(function () {
    const missing = tsharkMissing();
    if (missing !== null) skip(this, missing);
    rig = createRig({ id: 'recorded' });
  });

  after(() => {
    rig?.dispose();
    rmSync(folder, { recursive: true, force: true });
  });

  it('agrees with tshark on flows, packets and bytes of TCP and UDP over IPv4 and IPv6', async () => {
    const file = path.join(folder, 'rig.pcapng');
    const { netns, device } = rig.az('az-a');
    const args = [`--net=/run/netns/${netns}`, 'dumpcap', '-q', '-i', device, '-w', file, '-a', 'duration:30'];
    const recorder = spawn('nsenter', args, { stdio: 'ignore' });
    const ended = once(recorder, 'exit');
    await sleep(1000);
    for (const [protocol, family, port] of [
      ['tcp', 4, 9001],
      ['tcp', 6, 9002],
      ['udp', 4, 9003],
      ['udp', 6, 9004],
    ] as const) {
      const traffic = await startSockets(rig, { az: 'az-a', protocol, family, port, connections: 3 });
      await sleep(200);
      await traffic.stop();
    }
    recorder.kill('SIGINT');
    await ended;
    const { report } = replayCapture(rig.native, file, parseDevice('replay', {}));
    const theirs = tsharkFlows(file);
    const ours = replayedFlows(report);
    assert.ok(Object.keys(ours).length >= 12, `${Object.keys(ours).length} flows were recorded`);
    assert.equal(report.packets, theirs.packets);
    assert.equal(report.packets - report.parsed, theirs.unparsed);
    assert.deepEqual(ours, Object.fromEntries(theirs.flows));
  });
});
