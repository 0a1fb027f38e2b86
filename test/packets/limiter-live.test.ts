// SPDX-License-Identifier: Apache-2.0
/** Limits on the machine's own clock, which the program reads for some packets only (vnic_recent_ns in bpf/limiter.h). */
import assert from 'node:assert/strict';
import { onlineCpus } from '../../src/app/machine.ts';
import { VnicEventType } from '../../src/maps/generated/abi.ts';
import type { Limit, Rule } from '../../src/steering/rules/model.ts';
import { parseBurst, parseRate } from '../../src/steering/rules/units.ts';
import { TestDataplane, XDP } from '../support/dataplane.ts';
import { flowFrame } from '../support/flow-frames.ts';
import { Gcra } from '../support/gcra.ts';
import { addressBytes } from '../support/packet-bytes.ts';
import { runOnCpus } from '../support/run-on-cpus.ts';

const frameBytes = 1000;
/** Packets in a row that may be judged by one reading of the clock. */
const clockReuses = 3;
const flow = { src: addressBytes('10.0.0.1'), dst: addressBytes('10.0.0.2'), sport: 1, dport: 2, proto: 17 };
const frame = flowFrame(flow, frameBytes);

interface Measured {
  accepted: number;
  sent: number;
  /** From before the first packet to after the last. */
  elapsedNs: number;
  /** What the model accepts when each packet comes when its call began. */
  modelAccepted: number;
  /** Calls during which the machine did something else: there the model cannot know the packet's time. */
  pauses: number;
}

describe('limits on the real clock', () => {
  let dataplane: TestDataplane;
  before(() => {
    dataplane = new TestDataplane({ maxFlows: 8, maxRules: 1 });
    // Each CPU has its own reading of the clock; the bound below is for one.
    runOnCpus({ native: dataplane.native, cpus: [dataplane.native.libc.sched_getcpu()] });
  });
  after(() => {
    runOnCpus({ native: dataplane.native, cpus: onlineCpus().map((online) => online.cpu) });
    dataplane.close();
  });

  function start(rateText: string, burstText: string, scope: 'rule' | 'flow'): Limit {
    const rate = parseRate(rateText);
    const limit: Limit = { rate, burst: parseBurst(burstText, rate), scope, mode: 'police' };
    const rule: Rule = { id: 7, priority: 0, direction: 'ingress', match: {}, action: 'pass', limit, shadow: false };
    dataplane.setRules([]);
    dataplane.clear();
    dataplane.setRules([rule]);
    return limit;
  }

  /** Sends for a while, as fast as it can. */
  function flood(forNs: number, model: Gcra): Measured {
    const packetNs = model.meanPacketNs(frameBytes);
    const begin = process.hrtime.bigint();
    let now = begin;
    const measured: Measured = { accepted: 0, sent: 0, elapsedNs: 0, modelAccepted: 0, pauses: 0 };
    while (measured.elapsedNs < forNs) {
      if (model.take(now, frameBytes)) measured.modelAccepted++;
      if (dataplane.ingress(frame) === XDP.pass) measured.accepted++;
      measured.sent++;
      const after = process.hrtime.bigint();
      if (Number(after - now) > packetNs) measured.pauses++;
      now = after;
      measured.elapsedNs = Number(now - begin);
    }
    return measured;
  }

  for (const [rate, burst] of [
    ['10mbit', '10000b'],
    ['100mbit', '64kb'],
    ['1kpps', '5 pkts'],
    ['20kpps', '200 pkts'],
  ] as const) {
    for (const scope of ['rule', 'flow'] as const) {
      it(`${rate} with a burst of ${burst} of the ${scope} is never exceeded and is used up`, () => {
        const model = new Gcra(start(rate, burst, scope));
        const packetNs = model.meanPacketNs(frameBytes);
        const burstPackets = Math.floor(model.burstNs / packetNs);
        const { accepted, sent, elapsedNs, modelAccepted, pauses } = flood(300e6, model);
        const most = burstPackets + elapsedNs / packetNs + clockReuses;
        assert.ok(accepted <= most, `${accepted} of ${sent} packets, at most ${most.toFixed(1)}`);
        const least = modelAccepted - pauses - 2;
        assert.ok(accepted >= least, `${accepted} of ${sent} packets, at least ${least}`);
        const { drops } = dataplane.counters();
        assert.equal(drops[`limit_${scope}`], BigInt(sent - accepted));
      });
    }
  }

  it('after each of many idle times gives a burst, and at most three packets more', () => {
    const model = new Gcra(start('10mbit', '10000b', 'rule'));
    const packetNs = model.meanPacketNs(frameBytes);
    const sleeper = new Int32Array(new SharedArrayBuffer(4));
    for (let round = 0; round < 20; round++) {
      // Longer than the burst takes, and not in step with the kernel's tick.
      Atomics.wait(sleeper, 0, 0, 9 + (round % 7));
      const { accepted, sent, elapsedNs } = flood(1e6, model);
      const most = 10 + elapsedNs / packetNs + clockReuses;
      assert.ok(
        accepted >= Math.min(10, sent) && accepted <= most,
        `round ${round}: ${accepted} packets, at most ${most.toFixed(1)}`,
      );
    }
  });

  it('a clock reading that is reused after a pause gives away three packets and no more', () => {
    const model = new Gcra(start('20kpps', '10 pkts', 'rule'));
    const packetNs = model.meanPacketNs(frameBytes);
    // Longer than the burst, and shorter than a tick of any kernel.
    const pause = () => {
      const end = process.hrtime.bigint() + 700_000n;
      while (process.hrtime.bigint() < end);
    };
    // Rounds in which a reading was used again: eight of ten at 250 ticks a second, three at 1000.
    let used = 0;
    for (let round = 0; round < 60; round++) {
      // A packet that would have to wait asks the exact clock.
      pause();
      // The program reads the clock here and may use that reading until the kernel's next tick.
      dataplane.ingress(frame);
      pause();
      const begin = process.hrtime.bigint();
      let accepted = 0;
      for (let count = 0; count < 60; count++) if (dataplane.ingress(frame) === XDP.pass) accepted++;
      const most = 10 + Number(process.hrtime.bigint() - begin) / packetNs + clockReuses;
      assert.ok(accepted >= 10 && accepted <= most, `round ${round}: ${accepted} packets, at most ${most.toFixed(1)}`);
      if (accepted > most - clockReuses) used++;
    }
    assert.ok(used > 0, 'no reading was used again');
  });

  it('says that a limit began to drop, at most once a second', () => {
    const model = new Gcra(start('1kpps', '5 pkts', 'rule'));
    dataplane.events(VnicEventType.limit);
    const { elapsedNs } = flood(200e6, model);
    const events = dataplane.events(VnicEventType.limit);
    assert.ok(events.length >= 1 && events.length <= 1 + elapsedNs / 1e9, `${events.length} events`);
    assert.ok(events.every((ruleId) => ruleId === 7));
  });

  it('the explanation says what is owed, and charges nothing', () => {
    start('1mbit', '10000b', 'rule');
    while (dataplane.ingress(frame) === XDP.pass);
    const first = dataplane.explain(frame);
    assert.equal(first.limited, 1);
    assert.equal(first.dropped, 1);
    assert.equal(first.returnValue, XDP.drop);
    // 10000 bytes at 1 Mbit/s are 80 ms.
    assert.ok(first.limiterDebtNs > 0n && first.limiterDebtNs <= 80_000_000n, `${first.limiterDebtNs}`);
    for (let count = 0; count < 100; count++) dataplane.explain(frame);
    assert.ok(dataplane.explain(frame).limiterDebtNs < first.limiterDebtNs, 'time passes, nothing is charged');
  });
});
