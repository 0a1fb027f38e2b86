// SPDX-License-Identifier: Apache-2.0
/**
 * Limits against the real clock: the programs run flat out on one CPU and on two, and what passes in five seconds, the
 * initial burst set aside, is held against the rate that was asked.
 */
import assert from 'node:assert/strict';
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, rmSync } from 'node:fs';
import { constants, setPriority } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Dataplane } from '../../src/app/dataplane.ts';
import { RuleStore } from '../../src/app/rule-store.ts';
import { loadNative } from '../../src/loader/ffi/index.ts';
import { BpfObject } from '../../src/loader/object.ts';
import { BPFFS, ensureBpffs } from '../../src/loader/pins.ts';
import { ProgramRunner } from '../../src/loader/program.ts';
import { BpfMap, ProgArray } from '../../src/maps/index.ts';
import { parseRules } from '../../src/steering/rules/parse.ts';
import type { LoadPlan } from '../support/load-child.ts';
import { packet } from '../support/packet.ts';

const SECONDS = 5;
const FRAME_BYTES = 1000;
const TOLERANCE = 0.01;
const FIRST_PORT = 7000;
/** Never reached: the children are ended by a signal. */
const REPEAT = 2_000_000_000;
/** Of each counter, of which the quickest counts. */
const READINGS = 10;

interface Reading {
  passed: bigint;
  offered: bigint;
  ns: bigint;
}

interface LimitCase {
  rate: string;
  /** Frames of FRAME_BYTES a second. */
  framesPerSecond: number;
  burst: string;
}

const bits = (rate: string, perSecond: number, burst: string): LimitCase => ({
  rate,
  framesPerSecond: perSecond / (8 * FRAME_BYTES),
  burst,
});
const packets = (rate: string, perSecond: number, burst: string): LimitCase => ({
  rate,
  framesPerSecond: perSecond,
  burst,
});

/** Bursts of half a second: that the load is not scheduled for a moment must not cost credit. They are used up first. */
const moderate: readonly LimitCase[] = [
  bits('100kbit', 1e5, '6250'),
  bits('1mbit', 1e6, '62500'),
  bits('10mbit', 1e7, '625000'),
  bits('100mbit', 1e8, '6250000'),
  bits('1gbit', 1e9, '62500000'),
  packets('1kpps', 1e3, '500 pkts'),
  packets('10kpps', 1e4, '5000 pkts'),
  packets('100kpps', 1e5, '50000 pkts'),
];
const fast: readonly LimitCase[] = [packets('1mpps', 1e6, '500000 pkts')];

describe('a limit keeps its rate within 1 % over five seconds', () => {
  const native = loadNative();
  const folder = path.join(BPFFS, `vnic-limiter-test-${process.pid}`);
  const loadObject = path.join(import.meta.dirname, '../../build/test/limiter_load.bpf.o');
  let dataplane: Dataplane;
  let children: ChildProcess[] = [];

  before(() => {
    // The load has both CPUs, and who reads what it did must not wait for them.
    setPriority(constants.priority.PRIORITY_HIGHEST);
    ensureBpffs(native);
    mkdirSync(folder);
    dataplane = Dataplane.create(native, {
      queues: 1,
      maxFlows: 4096,
      maxRules: 64,
      hashSeed: 1,
      deliverMetadata: false,
      latencySampleShift: 6,
      replay: false,
    });
  });

  afterEach(async () => {
    // Waits for their end: its signal would interrupt the next test's BPF_PROG_RUN.
    const ended = children.map((child) => once(child, 'exit'));
    for (const child of children) child.kill('SIGKILL');
    await Promise.all(ended);
    children = [];
  });

  after(() => {
    dataplane.close();
    rmSync(folder, { recursive: true, force: true });
    setPriority(constants.priority.PRIORITY_NORMAL);
  });

  /** Starts one child for each CPU; its packets go round over the ports, then through the dataplane. */
  async function startLoad(cpus: readonly number[], ports: number, sport: number): Promise<void> {
    using object = BpfObject.load(native, loadObject, {
      constants: { load_ports: ports, load_first_port: FIRST_PORT },
    });
    using target = BpfMap.fromFd(native, object.mapFd('load_target'));
    new ProgArray(native, target).set(0, dataplane.program('vnic_ingress'));
    using rotate = object.programFd('load_rotate');
    const program = path.join(folder, `load_${sport}`);
    native.check(native.libbpf.bpf_obj_pin(rotate.value, program), 'bpf_obj_pin');
    target.pin(path.join(folder, `target_${sport}`));
    const frame = packet()
      .ethernet()
      .ipv4({ src: '10.1.0.1', dst: '10.2.0.1' })
      .udp({ sport, dport: FIRST_PORT })
      .payload(FRAME_BYTES - 42)
      .build();
    children = cpus.map(() =>
      fork(path.join(import.meta.dirname, '../support/load-child.ts'), { serialization: 'advanced' }),
    );
    await Promise.all(
      children.map(async (child, index) => {
        child.send({ program, cpu: cpus[index] ?? 0, frame, repeat: REPEAT } satisfies LoadPlan);
        await once(child, 'message');
      }),
    );
  }

  /**
   * Frames that passed and were offered, and when they were read. What is offered between two counters' reading counts as
   * passed, so the quickest of some readings is taken.
   */
  function readSlot(slot: number): Reading {
    const readings = Array.from({ length: READINGS }, (): Reading & { tookNs: bigint } => {
      const before = process.hrtime.bigint();
      const { packets: offered, droppedPackets } = dataplane.ruleCounters(slot);
      const after = process.hrtime.bigint();
      return { passed: offered - droppedPackets, offered, ns: (before + after) / 2n, tookNs: after - before };
    });
    return readings.reduce((quickest, one) => (one.tookNs < quickest.tookNs ? one : quickest));
  }

  for (const [group, cases] of [
    ['100 kbit/s to 1 Gbit/s and 1 to 100 kpps', moderate],
    ['1 Mpps', fast],
  ] as const) {
    for (const cpus of [[0], [0, 1]]) {
      it(`${group}, rule and flow scope, traffic from ${cpus.length} CPU(s)`, async function () {
        this.timeout(60_000);
        // A machine that stops the load for half a second spoils one measurement, a wrong limiter all of them.
        this.retries(2);
        const limits = cases.flatMap((limit) => (['rule', 'flow'] as const).map((scope) => ({ ...limit, scope })));
        const rules = new RuleStore(dataplane);
        // The empty set in between gives every rule a fresh limiter and fresh counters.
        rules.activate(rules.prepare([], []));
        const prepared = rules.prepare(
          parseRules(
            limits.map(({ rate, burst, scope }, index) => ({
              id: index + 1,
              match: { proto: 'udp', dstPort: FIRST_PORT + index },
              action: 'pass',
              limit: { rate, burst, scope },
            })),
          ),
          [],
        );
        rules.activate(prepared);
        // Flow limiters live in flow entries: another source port for each test.
        await startLoad(cpus, limits.length, 10_000 + prepared.generation);
        // Meanwhile every burst is used up.
        await sleep(1500);
        const slots = limits.map((_, index) => prepared.slots.get(index + 1) ?? -1);
        const first = slots.map(readSlot);
        await sleep(SECONDS * 1000);
        const last = slots.map(readSlot);
        limits.forEach(({ rate, scope, framesPerSecond }, index) => {
          const [from, to] = [first[index]!, last[index]!];
          const seconds = Number(to.ns - from.ns) / 1e9;
          const measured = Number(to.passed - from.passed) / seconds;
          const offered = Number(to.offered - from.offered) / seconds;
          const what = `${rate}, ${scope} scope`;
          assert.ok(offered > 1.1 * framesPerSecond, `${what}: only ${offered.toFixed(0)} frames/s were offered`);
          // One frame more or less is the grain of the measurement.
          const allowed = framesPerSecond * TOLERANCE + 1 / seconds;
          assert.ok(
            Math.abs(measured - framesPerSecond) <= allowed,
            `${what}: ${measured.toFixed(2)} frames/s passed instead of ${framesPerSecond}`,
          );
        });
      });
    }
  }

  it('lets exactly the burst pass at once', () => {
    const rules = new RuleStore(dataplane);
    rules.activate(rules.prepare([], []));
    const limit = { rate: '1pps', burst: '37 pkts', scope: 'rule' };
    const prepared = rules.prepare(
      parseRules([{ id: 1, match: { dstPort: 9000, proto: 'udp' }, action: 'pass', limit }]),
      [],
    );
    rules.activate(prepared);
    const frame = packet().ethernet().ipv4({ src: '10.1.0.1', dst: '10.2.0.1' }).udp({ sport: 1, dport: 9000 }).build();
    new ProgramRunner(native, dataplane.program('vnic_ingress'), { maxInputBytes: 2048 }).run(frame, 200);
    assert.equal(readSlot(prepared.slots.get(1) ?? -1).passed, 37n);
  });
});
