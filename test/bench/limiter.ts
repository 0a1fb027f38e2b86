// SPDX-License-Identifier: Apache-2.0
/** `BENCH=limiter`: how far a limit is off, on packets that travel as fast as they go. */

import { LiveRig, pinSender, TARGET_CPU } from './live-rig.ts';
import { quantile, summary } from './measure.ts';
import { loadDataplane } from './packet-subjects.ts';
import type { Part } from './part.ts';
import { notMeasured, type Result } from './result.ts';

const FRAME_BYTES = 1000;
const FLOWS = 10;
const RUN_SECONDS = 0.5;
const ROUNDS = { full: 5, quick: 2 } as const;
/** Times the limit: offered less than that, nothing is said of how far it is off. */
const LEAST_OFFERED = 1.5;

/** What passes in a second with all flows together, in the limit's unit. */
const limits = [
  { rate: '10mbit', perSecond: 10e6, scope: 'rule' },
  { rate: '100mbit', perSecond: 100e6, scope: 'rule' },
  { rate: '1gbit', perSecond: 1e9, scope: 'rule' },
  { rate: '10mbit', perSecond: 10e6 * FLOWS, scope: 'flow' },
  { rate: '10kpps', perSecond: 10_000, scope: 'rule' },
] as const;

export const limiterPart: Part = {
  name: 'limiter',
  title: `what passes a limit over what it allows, burst included, ${FLOWS} flows of ${FRAME_BYTES}-byte frames`,
  digits: 4,
  inQuick: false,
  run({ native, quick, seconds: asked }) {
    using rig = new LiveRig(native);
    using _ = pinSender(native, 0);
    rig.load({ flows: FLOWS, mix: 'uniform', frames: [[FRAME_BYTES, 1]] });
    const results = limits.map(({ rate, perSecond, scope }): Result => {
      const isPps = rate.endsWith('pps');
      using dataplane = loadDataplane(native, {
        cpu: TARGET_CPU,
        rules: [
          { id: 1, match: { proto: 'udp' }, action: 'pass', limit: { rate, burst: isPps ? '64 pkts' : '64kb', scope } },
        ],
      });
      using _link = rig.attach(dataplane.program('vnic_root'));
      const count = (): { met: number; passed: number } => {
        const { packets, droppedPackets } = dataplane.ruleCounters(0);
        return { met: Number(packets), passed: Number(packets - droppedPackets) };
      };
      const rounds = Array.from({ length: quick ? ROUNDS.quick : ROUNDS.full }, () => {
        // The burst is used up first, so that what is measured is the rate.
        rig.send(20_000);
        const before = count();
        const startNs = process.hrtime.bigint();
        let seconds = 0;
        do {
          rig.send(5000);
          seconds = Number(process.hrtime.bigint() - startNs) / 1e9;
        } while (seconds < (asked ?? RUN_SECONDS));
        const after = count();
        const allowed = (perSecond * seconds) / (isPps ? 1 : FRAME_BYTES * 8);
        return { passed: (after.passed - before.passed) / allowed, offered: (after.met - before.met) / allowed };
      });
      const name = `${rate}, ${scope} scope`;
      const offered = quantile(
        rounds.map((round) => round.offered),
        0,
      );
      if (offered < LEAST_OFFERED) {
        const reason = `at times only ${offered.toFixed(2)} times the limit was offered: it had next to nothing to drop`;
        return { ...notMeasured(name, 'of rate', reason), bound: 1.02 };
      }
      const one = summary(
        { name, unit: 'of rate' },
        rounds.map(({ passed }) => passed),
        rounds.map(() => 1),
      );
      // Above it, never: that is what a limit is for. Below: a machine that stops the sender loses what was due.
      return { ...one, bound: 1.02, detail: `offered at least ${offered.toFixed(1)} times the limit` };
    });
    return { results };
  },
};
