// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { onlineCpus } from '../../src/app/machine.ts';
import { VnicLimits } from '../../src/maps/generated/abi.ts';
import { parseRules } from '../../src/steering/rules/parse.ts';
import { RuleCounters } from '../../src/telemetry/rule-counters.ts';
import { TestDataplane, XDP } from '../support/dataplane.ts';
import { packet } from '../support/packet.ts';
import { runOnCpus } from '../support/run-on-cpus.ts';

/** A rule of its own for each UDP port. */
const ruleTo = (port: number, id = port, action = 'pass') => ({ id, action, match: { proto: 'udp', dstPort: port } });
const frameTo = (port: number) =>
  packet().ethernet().ipv4({ src: '10.0.0.1', dst: '10.0.1.1' }).udp({ sport: 4000, dport: port }).padTo(64).build();

describe('counters of rules', () => {
  const cpus = onlineCpus().map(({ cpu }) => cpu);
  let test: TestDataplane;
  afterEach(() => {
    runOnCpus({ native: test.native, cpus });
    test.close();
  });

  const set = (...rules: unknown[]) => test.setRules(parseRules(rules));
  const send = (port: number, times: number) => {
    for (let count = 0; count < times; count++) test.ingress(frameTo(port));
  };

  it('are exact in slots with cells of each CPU and in those without, from all CPUs', () => {
    const count = VnicLimits.ruleCells + 8;
    test = new TestDataplane({ maxRules: count });
    const rules = Array.from({ length: count }, (_, index) =>
      ruleTo(1000 + index, 1 + index, index % 2 === 0 ? 'pass' : 'drop'),
    );
    const { slots } = set(...rules);
    for (const cpu of cpus) {
      runOnCpus({ native: test.native, cpus: [cpu] });
      for (const { id, match } of rules) send(match.dstPort, 1 + (id % 3));
    }
    using all = new RuleCounters(test.dataplane, count);
    for (const { id, action } of rules) {
      const slot = slots.get(id)!;
      const packets = BigInt(cpus.length * (1 + (id % 3)));
      const dropped = action === 'drop' ? packets : 0n;
      const expected = {
        packets,
        bytes: packets * 64n,
        droppedPackets: dropped,
        droppedBytes: dropped * 64n,
      };
      assert.deepEqual(test.dataplane.ruleCounters(slot), expected, `rule ${id}`);
      assert.equal(all.sum(slot, id, 'packets'), packets);
      assert.equal(all.sum(slot, id, 'droppedBytes'), dropped * 64n);
    }
  });

  it('begin anew for a rule that takes the slot of another, also one that had it before', () => {
    test = new TestDataplane({ maxRules: 1 });
    for (const id of [9, 4, 9]) {
      const slot = set(ruleTo(53, id)).slots.get(id)!;
      assert.equal(test.dataplane.ruleCounters(slot).packets, 0n, `rule ${id}`);
      // The CPUs that carry a packet of it are others each time.
      runOnCpus({ native: test.native, cpus: [id === 9 ? cpus.at(-1)! : cpus[0]!] });
      send(53, id);
      assert.equal(test.dataplane.ruleCounters(slot).packets, BigInt(id));
    }
  });

  it('begin anew for a rule that was away', () => {
    test = new TestDataplane({ maxRules: 4 });
    set(ruleTo(53, 9));
    send(53, 5);
    set();
    const slot = set(ruleTo(53, 9)).slots.get(9)!;
    assert.equal(test.dataplane.ruleCounters(slot).packets, 0n);
    send(53, 2);
    assert.equal(test.dataplane.ruleCounters(slot).packets, 2n);
  });

  it('of a limit say what it dropped, on which CPU ever', () => {
    test = new TestDataplane({ maxRules: 4 });
    const limit = { rate: '1kpps', burst: '10 pkts', scope: 'rule' };
    const slot = set({ ...ruleTo(53), limit }).slots.get(53)!;
    let dropped = 0n;
    for (const cpu of cpus) {
      runOnCpus({ native: test.native, cpus: [cpu] });
      for (let count = 0; count < 100; count++) if (test.ingress(frameTo(53)) === XDP.drop) dropped++;
    }
    const { packets, droppedPackets } = test.dataplane.ruleCounters(slot);
    assert.deepEqual([packets, droppedPackets], [BigInt(100 * cpus.length), dropped]);
    assert.ok(dropped > 0n);
  });
});
