// SPDX-License-Identifier: Apache-2.0
/** Perf counters, driver drops and what follows from two reports, without a kernel. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import fc from 'fast-check';
import { parseMeasurement } from '../../src/cli/perf-file.ts';
import type { PerfReading } from '../../src/loader/perf-event.ts';
import { syscallNumber } from '../../src/loader/syscall.ts';
import type { VnicTraceDevice } from '../../src/maps/generated/abi.ts';
import { DriverDrops, xdpDropsOf } from '../../src/telemetry/driver-drops.ts';
import { isUnavailable } from '../../src/telemetry/metrics/part.ts';
import { type ComparedFigure, comparePerf } from '../../src/telemetry/perf/compare.ts';
import { PerfCounters, type PerfPort, ScaledCount } from '../../src/telemetry/perf/counters.ts';
import { type PerfEvent, type PerfEventName, perfEvents, refusalReason } from '../../src/telemetry/perf/events.ts';
import { NO_PACKETS, type PerfCounts, type PerfRates, perfRates } from '../../src/telemetry/perf/rates.ts';
import { tracingReason } from '../../src/telemetry/traces/load.ts';
import { deviceTraces, exceptionActions, redirectErrors } from '../../src/telemetry/traces/model.ts';
import { thrownBy } from '../support/thrown.ts';

/** A kernel that counts what it is told to, and refuses what is not there. */
class MadeKernel implements PerfPort {
  online = [0, 1];
  refused = new Map<PerfEventName, string>();
  readings = new Map<string, PerfReading>();
  readonly opened: string[] = [];
  readonly closed: string[] = [];
  ms = 0;
  reads = 0;

  onlineCpus(): number[] {
    return this.online;
  }

  paranoid(): number {
    return 3;
  }

  nowMs(): number {
    return this.ms;
  }

  open(event: PerfEvent, cpu: number) {
    const errno = this.refused.get(event.name);
    if (errno !== undefined) return errno;
    const key = `${event.name}/${cpu}`;
    this.opened.push(key);
    this.readings.set(key, { value: 0n, enabledNs: 0n, runningNs: 0n });
    return {
      read: () => {
        this.reads++;
        return this.readings.get(key) ?? null;
      },
      close: () => {
        this.closed.push(key);
      },
    };
  }

  set(key: string, value: bigint, enabledNs: bigint, runningNs = enabledNs): void {
    this.readings.set(key, { value, enabledNs, runningNs });
  }
}

const second = 1_000_000_000n;
const only = (...names: PerfEventName[]) => perfEvents.filter(({ name }) => names.includes(name));

describe('perf counters', () => {
  let kernel: MadeKernel;

  beforeEach(() => {
    kernel = new MadeKernel();
  });

  it('are counted on every CPU, as they are where nothing was shared', () => {
    using counters = new PerfCounters(kernel, only('cycles'));
    kernel.set('cycles/0', 100n, second);
    kernel.set('cycles/1', 300n, second);
    assert.deepEqual(counters.read(), [
      {
        event: 'cycles',
        kind: 'hardware',
        unavailable: null,
        cpus: [
          { cpu: 0, value: 100n },
          { cpu: 1, value: 300n },
        ],
        countedShare: 1,
      },
    ]);
  });

  it('are extrapolated where they were counted for a part of the time, and say so', () => {
    using counters = new PerfCounters(kernel, only('cycles'));
    kernel.set('cycles/0', 100n, 4n * second, second);
    kernel.set('cycles/1', 0n, 4n * second, 3n * second);
    const [cycles] = counters.read();
    assert.equal(cycles?.cpus[0]?.value, 400n);
    assert.equal(cycles?.countedShare, 0.5);
  });

  it('name the reason of what the machine does not have, and never say 0', () => {
    kernel.refused.set('cache_misses', 'ENOENT');
    kernel.refused.set('instructions', 'EACCES');
    using counters = new PerfCounters(kernel);
    const counts = new Map(counters.read().map((count) => [count.event, count]));
    assert.match(counts.get('cache_misses')?.unavailable ?? '', /no such hardware counter \(ENOENT\)/);
    assert.match(counts.get('instructions')?.unavailable ?? '', /CAP_PERFMON, as kernel\.perf_event_paranoid is 3/);
    for (const event of ['cache_misses', 'instructions'] as const) {
      assert.deepEqual([counts.get(event)?.cpus, counts.get(event)?.countedShare], [[], null]);
    }
    assert.equal(counts.get('context_switches')?.unavailable, null);
  });

  it('that the hardware never had room for are not 0 either, once there was time to count', () => {
    using counters = new PerfCounters(kernel, only('cycles'));
    assert.equal(counters.read(0)[0]?.unavailable, null, 'just opened');
    for (const cpu of [0, 1]) kernel.set(`cycles/${cpu}`, 0n, second, 0n);
    kernel.ms = 1000;
    assert.match(counters.read()[0]?.unavailable ?? '', /NMI watchdog/);
    kernel.set('cycles/0', 5n, 2n * second, second);
    kernel.ms = 2000;
    assert.equal(counters.read()[0]?.unavailable, null, 'it has room now');
  });

  it('are not read again within a second, because each read interrupts a CPU', () => {
    using counters = new PerfCounters(kernel, only('cycles'));
    counters.read();
    kernel.ms = 500;
    counters.read();
    assert.equal(kernel.reads, 2);
    kernel.ms = 1000;
    counters.read();
    assert.equal(kernel.reads, 4);
    counters.read(0);
    assert.equal(kernel.reads, 6, 'unless they are asked for');
  });

  it('keep what a CPU counted that went offline, and go on when it is back', () => {
    using counters = new PerfCounters(kernel, only('cycles'));
    kernel.set('cycles/0', 10n, second);
    kernel.set('cycles/1', 70n, second);
    counters.read(0);
    kernel.online = [0];
    kernel.ms = 1000;
    assert.equal(counters.read()[0]?.cpus[1]?.value, 70n);
    assert.deepEqual(kernel.closed, ['cycles/1']);
    kernel.online = [0, 1, 2];
    kernel.ms = 2000;
    counters.read();
    kernel.set('cycles/1', 5n, second);
    kernel.set('cycles/2', 6n, second);
    kernel.ms = 3000;
    assert.deepEqual(counters.read()[0]?.cpus, [
      { cpu: 0, value: 10n },
      { cpu: 1, value: 75n },
      { cpu: 2, value: 6n },
    ]);
  });

  it('are closed with it', () => {
    const counters = new PerfCounters(kernel);
    counters.close();
    assert.deepEqual(kernel.closed.sort(), kernel.opened.sort());
    assert.equal(kernel.opened.length, 2 * perfEvents.length);
  });

  it('never go back, whatever share of the time they were counted', () => {
    const steps = fc.array(fc.tuple(fc.bigInt(0n, 10n ** 9n), fc.bigInt(0n, second), fc.bigInt(0n, second)));
    fc.assert(
      fc.property(steps, (list) => {
        const count = new ScaledCount();
        let [value, enabledNs, runningNs] = [0n, 0n, 0n];
        for (const [counted, ran, waited] of list) {
          const before = count.value;
          if (ran > 0n) value += counted;
          enabledNs += ran + waited;
          runningNs += ran;
          count.add({ value, enabledNs, runningNs });
          assert.ok(count.value >= before);
        }
        assert.ok(count.value >= value, 'extrapolating never takes away');
      }),
    );
  });

  it('are exact where they are counted all the time, however large', () => {
    const count = new ScaledCount();
    count.add({ value: 2n ** 62n + 1n, enabledNs: second, runningNs: second });
    count.add({ value: 2n ** 63n + 3n, enabledNs: 2n * second, runningNs: 2n * second });
    assert.equal(count.value, 2n ** 63n + 3n);
  });

  it('say in words what each errno means', () => {
    const [hardware, software] = [perfEvents[0]!, perfEvents.at(-1)!];
    const expected: [PerfEvent, string, RegExp][] = [
      [hardware, 'ENOENT', /virtual machines/],
      [hardware, 'EOPNOTSUPP', /virtual machines/],
      [software, 'ENOENT', /the kernel has no such event/],
      [software, 'ENOSYS', /built without perf events/],
      [hardware, 'EMFILE', /too many files/],
      [hardware, 'EBUSY', /somebody else/],
      [hardware, 'E2BIG', /refuses it \(E2BIG\)/],
    ];
    for (const [event, errno, reason] of expected) assert.match(refusalReason(event, errno, null), reason);
    assert.doesNotMatch(refusalReason(hardware, 'EACCES', null), /paranoid/);
  });

  for (const name of ['perf_event_open', 'sched_setattr'] as const) {
    it(`are opened, and threads set, by the system call that this machine’s headers name: ${name}`, () => {
      const folder = mkdtempSync(path.join(tmpdir(), 'vnic-perf-'));
      try {
        const source = path.join(folder, 'number.c');
        writeFileSync(source, `#include <sys/syscall.h>\nnumber = __NR_${name}\n`);
        const text = execFileSync('gcc', ['-E', '-P', source], { encoding: 'utf8' });
        assert.equal(Number(/number = (\d+)/.exec(text)?.[1]), Number(syscallNumber(name)));
      } finally {
        rmSync(folder, { recursive: true, force: true });
      }
    });
  }
});

describe('drops of the driver', () => {
  const of = (entries: Record<string, bigint>) => new Map(Object.entries(entries));
  const ours = (...dropped: bigint[]) => dropped.map((droppedPackets, queue) => ({ queue, droppedPackets }));

  it('are found under the names of virtio_net, old and new, and of veth', () => {
    const old = of({
      rx_queue_0_packets: 9n,
      rx_queue_0_xdp_drops: 3n,
      rx_queue_11_xdp_drops: 4n,
      tx_queue_0_xdp_tx_drops: 8n,
    });
    assert.deepEqual(
      [...xdpDropsOf(old)],
      [
        [0, 3n],
        [11, 4n],
      ],
    );
    const recent = of({
      rx_xdp_drops: 7n,
      rx0_xdp_drops: 3n,
      rx12_xdp_drops: 4n,
      rx0_hw_drops: 1n,
      tx0_xdp_tx_drops: 2n,
    });
    assert.deepEqual(
      [...xdpDropsOf(recent)],
      [
        [0, 3n],
        [12, 4n],
      ],
    );
    const veth = of({ peer_ifindex: 2n, rx_queue_0_drops: 5n, rx_queue_0_xdp_drops: 6n });
    assert.deepEqual([...xdpDropsOf(veth)], [[0, 6n]]);
  });

  it('are explained by what rules dropped since the first look, and the rest is not', () => {
    const drops = new DriverDrops();
    const look = (driver: bigint, ...dropped: bigint[]) =>
      drops.update(of({ rx_queue_0_xdp_drops: driver }), ours(...dropped));
    assert.deepEqual(look(1000n, 10n), [{ queue: 0, driver: 1000n, unexplained: 0n }], 'what was before is not known');
    assert.deepEqual(look(1005n, 15n), [{ queue: 0, driver: 1005n, unexplained: 0n }]);
    assert.deepEqual(look(1012n, 19n), [{ queue: 0, driver: 1012n, unexplained: 3n }]);
    assert.deepEqual(look(1012n, 21n), [{ queue: 0, driver: 1012n, unexplained: 3n }], 'a drop that came in between');
    assert.deepEqual(look(1014n, 21n), [{ queue: 0, driver: 1014n, unexplained: 3n }]);
    assert.deepEqual(look(2n, 21n), [{ queue: 0, driver: 2n, unexplained: 3n }], 'a new device');
    assert.deepEqual(look(4n, 21n), [{ queue: 0, driver: 4n, unexplained: 5n }]);
  });

  it('that the driver does not count are not there, with the reason', () => {
    const drops = new DriverDrops();
    const without = drops.update(of({ rx_packets: 1n }), ours(0n));
    assert.match(isUnavailable(without) ? without.unavailable : '', /does not count by queue/);
    assert.deepEqual(drops.update('the device is gone', []), { unavailable: 'the device is gone' });
  });
});

describe('tracepoints of a device', () => {
  const cell = (fields: Partial<VnicTraceDevice> = {}): VnicTraceDevice => ({
    enqueued: 0n,
    ringFullDrops: 0n,
    taken: 0n,
    noMemoryDrops: 0n,
    rounds: 0n,
    sleeps: 0n,
    polls: 0n,
    polledPackets: 0n,
    exhaustedPolls: 0n,
    redirectErrors: Array<bigint>(8).fill(0n),
    exceptions: Array<bigint>(6).fill(0n),
    ...fields,
  });

  it('are summed over CPUs, but for the rings, which are one for each CPU that has one', () => {
    const cells = [
      cell({ polls: 3n, exceptions: [1n, 0n, 0n, 0n, 0n, 0n] }),
      cell({ ringFullDrops: 5n, enqueued: 9n, polls: 4n, exceptions: [2n, 0n, 0n, 0n, 0n, 7n] }),
      cell(),
    ];
    const traces = deviceTraces(cells, new Set([2]), { batches: true, polls: true });
    assert.deepEqual(
      traces.rings.map(({ cpu, ringFullDrops }) => [cpu, ringFullDrops]),
      [
        [1, 5n],
        [2, 0n],
      ],
    );
    assert.equal(traces.rings[0]?.flow?.enqueued, 9n);
    assert.equal(traces.polls?.polls, 7n);
    assert.deepEqual(
      exceptionActions.map((action, index) => [action, traces.exceptions[index]]).filter(([, count]) => count !== 0n),
      [
        ['aborted', 3n],
        ['unknown', 7n],
      ],
    );
    assert.deepEqual(redirectErrors.slice(0, 3), ['ring_full', 'no_target', 'no_headroom']);
  });

  it('that are not counted are null, not 0', () => {
    const traces = deviceTraces([cell()], new Set([0]), { batches: false, polls: false });
    assert.deepEqual([traces.rings[0]?.flow, traces.polls], [null, null]);
  });

  it('that the kernel does not have are named', () => {
    const poll = { kind: 'tracepoint', name: 'napi_poll' } as const;
    assert.match(tracingReason(poll, 'bpf_object__load failed: ESRCH (x)'), /no tracepoint napi_poll/);
    assert.match(tracingReason(poll, 'bpf_link_create failed: EPERM'), /refuses the program at napi_poll: .*EPERM/);
    assert.match(
      tracingReason({ kind: 'function', name: 'udp_x' }, 'failed to find kernel BTF type ID of udp_x'),
      /no function udp_x/,
    );
  });
});

describe('rates of two perf reports', () => {
  const report = (
    takenMs: number,
    of: { packets: number; cycles: number; runs?: number; drops?: bigint },
  ): PerfCounts => ({
    takenMs,
    packets: { received: of.packets, steered: of.packets, dropped: 0 },
    events: [
      { event: 'cycles', kind: 'hardware', unavailable: null, cpus: [{ cpu: 0, value: of.cycles }], countedShare: 0.5 },
      { event: 'cache_misses', kind: 'hardware', unavailable: 'no such counter', cpus: [], countedShare: null },
    ],
    programs: { runs: [{ program: 'vnic_root', runs: of.runs ?? 0, runTimeNs: 100 * (of.runs ?? 0) }] },
    traces: {
      value: {
        rings: [{ cpu: 0, ringFullDrops: of.drops ?? 0n, noMemoryDrops: 0, flow: null }],
        redirectErrors: { no_target: 1 },
        exceptions: {},
        polls: null,
      },
      unavailable: null,
    },
    driverDrops: { value: null, unavailable: 'the driver counts nothing' },
  });
  const trace = (rates: ReturnType<typeof perfRates>, name: string) =>
    rates.traces.find((entry) => entry.name === name)?.perSecond;

  it('are a second and for each received packet', () => {
    const before = report(1000, { packets: 100, cycles: 1000, runs: 10 });
    const after = report(3000, { packets: 300, cycles: 41_000, runs: 210, drops: 2n ** 60n });
    const rates = perfRates(before, after, '');
    assert.deepEqual([rates.seconds, rates.packets.receivedPerSecond], [2, 100]);
    assert.deepEqual(rates.events[0], {
      event: 'cycles',
      kind: 'hardware',
      perSecond: { value: 20_000, unavailable: null },
      perPacket: { value: 200, unavailable: null },
      countedShare: 0.5,
      perSecondByCpu: [{ cpu: 0, value: 20_000 }],
    });
    assert.equal(rates.programs[0]?.nsPerRun.value, 100);
    assert.equal(rates.programs[0]?.nsPerPacket.value, 100);
    assert.equal(trace(rates, 'ring_full_drops')?.value, 2 ** 59);
    assert.equal(trace(rates, 'redirect_errors')?.value, 0);
  });

  it('have a reason where there is no number', () => {
    const rates = perfRates(
      report(0, { packets: 5, cycles: 0 }),
      report(1000, { packets: 5, cycles: 9 }),
      'not permitted',
    );
    const [cycles, misses] = rates.events;
    assert.deepEqual([cycles?.perSecond.value, cycles?.perPacket.unavailable], [9, NO_PACKETS]);
    assert.deepEqual(misses?.perSecond, { value: null, unavailable: 'no such counter' });
    assert.equal(rates.programs[0]?.nsPerPacket.unavailable, 'not permitted');
    assert.match(trace(rates, 'napi_polls')?.unavailable ?? '', /tracepoints: all/);
    assert.equal(trace(rates, 'driver_drops')?.unavailable, 'the driver counts nothing');
  });

  it('of programs are there although this process may not switch counting on, where somebody else did', () => {
    const rates = perfRates(
      report(0, { packets: 0, cycles: 0, runs: 0 }),
      report(1000, { packets: 4, cycles: 0, runs: 4 }),
      'not permitted',
    );
    assert.equal(rates.programs[0]?.nsPerPacket.value, 100);
  });
});

describe('two measurements held against each other', () => {
  const figureOf = (value: number | null, why = 'no such counter') => ({
    value,
    unavailable: value === null ? why : null,
  });
  /** As a machine with hardware counters gives it; null: one without. */
  const measured = (misses: number | null, references: number | null): PerfRates => ({
    seconds: 10,
    packets: { received: 1000, steered: 1000, dropped: 0, receivedPerSecond: 100 },
    events: (
      [
        ['cache_references', references],
        ['cache_misses', misses],
      ] as const
    ).map(([event, value]) => ({
      event,
      kind: 'hardware' as const,
      perSecond: figureOf(value),
      perPacket: figureOf(value === null ? null : value / 100),
      countedShare: value === null ? null : 1,
      perSecondByCpu: [],
    })),
    programs: [
      { program: 'vnic_root', runsPerSecond: figureOf(100), nsPerRun: figureOf(80), nsPerPacket: figureOf(80) },
    ],
    traces: [{ name: 'ring_full_drops', perSecond: figureOf(0) }],
  });
  const find = (figures: ComparedFigure[], name: string, unit: ComparedFigure['unit']) =>
    figures.find((figure) => figure.name === name && figure.unit === unit);

  it('say how many cache misses a packet costs in both, and the change', () => {
    const figures = comparePerf(measured(2000, 20_000), measured(1300, 26_000));
    const misses = find(figures, 'cache_misses', 'a packet');
    assert.deepEqual([misses?.before.value, misses?.after.value], [20, 13]);
    assert.ok(Math.abs(misses!.change.value! + 0.35) < 1e-9);
    const ratio = find(figures, 'cache_misses', 'of references');
    assert.deepEqual([ratio?.before.value, ratio?.after.value], [0.1, 0.05]);
    assert.equal(find(figures, 'vnic_root', 'ns a run')?.change.value, 0);
    assert.equal(find(figures, 'ring_full_drops', 'a second')?.change.value, 0);
  });

  it('say which of them could not be taken, and why', () => {
    const figures = comparePerf(measured(2000, 20_000), measured(null, null));
    assert.deepEqual(find(figures, 'cache_misses', 'a packet')?.change, {
      value: null,
      unavailable: 'after: no such counter',
    });
    assert.equal(find(figures, 'cache_misses', 'of references')?.after.unavailable, 'no such counter');
    const [packets] = comparePerf(
      { ...measured(0, 0), packets: { ...measured(0, 0).packets, receivedPerSecond: 0 } },
      measured(1, 1),
    );
    assert.equal(packets?.change.unavailable, 'it was 0 before');
  });

  it('are read from files of vnicctl perf and from nothing else', () => {
    const text = JSON.stringify({ device: 'eth0', ...measured(1, 2) });
    assert.equal(parseMeasurement(text, 'a.json').events.length, 2);
    for (const other of ['{', '{}', '[1]', text.replace('"seconds":10', '"seconds":"x"')]) {
      assert.match(thrownBy(() => parseMeasurement(other, 'a.json')).message, /a\.json is no measurement/);
    }
  });
});
