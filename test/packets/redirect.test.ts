// SPDX-License-Identifier: Apache-2.0
/** Handing packets to the CPU of their queue. BPF_PROG_RUN stops short of the CPUMAP itself. */
import assert from 'node:assert/strict';
import { onlineCpus } from '../../src/app/machine.ts';
import { VnicLimits, VnicMeta } from '../../src/maps/generated/abi.ts';
import { TestDataplane, XDP } from '../support/dataplane.ts';
import { flowFrame, randomFlow } from '../support/flow-frames.ts';
import { tableTo } from '../support/one-queue-table.ts';
import { randomSource } from '../support/random.ts';

function withEntries(size: ConstructorParameters<typeof TestDataplane>[0]): TestDataplane {
  const test = new TestDataplane({ maxFlows: 64, ...size });
  for (const { cpu } of onlineCpus()) {
    test.dataplane.cpus.set(cpu, { qsize: 64, progFd: test.dataplane.program('vnic_cpu') });
  }
  return test;
}

const frame = flowFrame(randomFlow(randomSource(1)), 200);
const cpu = onlineCpus().at(-1)!.cpu;

describe('handing packets to CPUs', () => {
  it('redirects to the CPU of the queue, and passes where there is none', () => {
    using test = withEntries({});
    test.setTable(tableTo(5));
    assert.equal(test.ingress(frame), XDP.pass, 'no queue has a CPU yet');
    test.dataplane.setQueueCpus([0, 0, 0, 0, 0, cpu]);
    assert.equal(test.ingress(frame), XDP.redirect);
    assert.equal(test.explain(frame).cpu, cpu);
    test.dataplane.cpus.delete(cpu);
    assert.equal(test.ingress(frame), XDP.pass, 'a CPU without an entry');
    const { redirected, passed, rxPackets } = test.counters();
    assert.deepEqual({ redirected, passed, rxPackets }, { redirected: 1n, passed: 2n, rxPackets: 3n });
    assert.equal(test.queueCounters()[5]?.steeredPackets, 3n);
  });

  it('times one packet in as many as was asked for, and leaves the others untouched', () => {
    using test = withEntries({ latencySampleShift: 3 });
    test.setTable(tableTo(5));
    test.dataplane.setQueueCpus([0, 0, 0, 0, 0, cpu]);
    const { bucket } = test.explain(frame);
    let timed = 0;
    for (let count = 0; count < 64; count++) {
      const before = process.hrtime.bigint();
      const { returnValue, output } = test.ingressWithOutput(frame);
      assert.equal(returnValue, XDP.redirect);
      if (output.length === frame.length) {
        assert.deepEqual(output, frame);
        continue;
      }
      timed++;
      assert.deepEqual(output.subarray(VnicMeta.size), frame);
      const meta = VnicMeta.decode(output);
      assert.deepEqual([meta.magic, meta.queue, meta.bucket], [VnicLimits.metaMagic, 5, bucket]);
      assert.ok(meta.rxNs >= before && meta.rxNs <= process.hrtime.bigint());
    }
    // Each CPU counts for itself, so a test that moved to another one sees a few more.
    assert.ok(timed >= 8 && timed <= 8 + onlineCpus().length, `${timed} of 64`);
    assert.equal(test.counters().metadataFailed, 0n);
  });

  it('gives every packet its metadata when it is to be delivered', () => {
    using test = withEntries({ deliverMetadata: true, latencySampleShift: 16 });
    test.setTable(tableTo(9));
    test.dataplane.setQueueCpus(Array<number>(10).fill(cpu));
    for (let count = 0; count < 20; count++) {
      const { output } = test.ingressWithOutput(frame);
      const meta = VnicMeta.decode(output);
      assert.deepEqual([meta.magic, meta.queue], [VnicLimits.metaMagic, 9]);
      assert.deepEqual(output.subarray(VnicMeta.size), frame);
    }
  });

  it('dropped packets, packets without a queue and unparsed ones are not redirected', () => {
    using test = withEntries({});
    test.dataplane.setQueueCpus(Array<number>(32).fill(cpu));
    assert.equal(test.ingress(frame), XDP.pass, 'steering is off');
    test.setTable(tableTo(0xffff));
    assert.equal(test.ingress(frame), XDP.pass, 'the bucket has no queue');
    test.setTable(tableTo(3));
    assert.equal(test.ingress(new Uint8Array(60)), XDP.pass, 'not IP');
    test.setRules([{ id: 1, priority: 0, direction: 'ingress', match: {}, action: 'drop', shadow: false }]);
    assert.equal(test.ingress(frame), XDP.drop);
    assert.equal(test.counters().redirected, 0n);
    assert.equal(test.counters().drops['rule'], 1n);
    assert.equal(test.queueCounters()[0]?.droppedPackets, 1n);
    assert.equal(test.queueCounters()[3]?.steeredPackets, 0n);
  });
});
