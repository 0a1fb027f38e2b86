// SPDX-License-Identifier: Apache-2.0
/** What the kernel's instruments tell, under real traffic, held against counts that do not come from them. */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { possibleCpuCount } from '../../src/app/machine.ts';
import type { PerfReport } from '../../src/app/perf-report.ts';
import { daemonDefaults } from '../../src/config/daemon.ts';
import { parseDevice } from '../../src/config/device.ts';
import { loadNative } from '../../src/loader/ffi/index.ts';
import { attachXdp } from '../../src/loader/link.ts';
import { inNetns } from '../../src/loader/netns.ts';
import { BpfObject } from '../../src/loader/object.ts';
import { ArrayMap, BpfMap, u64Codec } from '../../src/maps/index.ts';
import { isUnavailable } from '../../src/telemetry/metrics/part.ts';
import type { PerfRates } from '../../src/telemetry/perf/rates.ts';
import { exceptionActions, redirectErrors } from '../../src/telemetry/traces/model.ts';
import { Tracer } from '../../src/telemetry/traces/tracer.ts';
import { deviceInput, Setting } from '../rig/scenarios/setting.ts';
import { checkSteering, type SteeringResult } from '../rig/scenarios/steering.ts';
import { createRig, type Rig } from '../rig/topology.ts';
import { CliRig } from '../support/cli.ts';
import { SurvivalRig } from '../support/survival.ts';

const faults = path.join(import.meta.dirname, '../../build/test/perf_faults.bpf.o');
/** A NAPI poll brings up to 64 packets at once. */
const TINY_RING = 4;

function perfOf({ controller, device }: Setting): PerfReport {
  return controller.withDevice(device, (attached) => attached.perf());
}

/**
 * What the checker misses of the packets that came to the device. On a machine with more to do, the rings of the veth in
 * front of it can be full too, and what they drop no program of the device sees.
 */
function lostBehind({ controller, device }: Setting, { sent, lost }: SteeringResult): number {
  const { rxPackets } = controller.withDevice(device, (attached) => attached.status().counters);
  return lost - (sent - Number(rxPackets));
}

function ringDrops({ traces: { value } }: PerfReport): bigint {
  return value?.rings.reduce((sum, { ringFullDrops }) => sum + ringFullDrops, 0n) ?? -1n;
}

/** Entries of another size in place of those that attaching made. No packet must be on its way. */
function setRings({ controller, device }: Setting, qsize: number): void {
  controller.withDevice(device, ({ dataplane, record }) => {
    for (const cpu of new Set(record.settings.queueCpus)) {
      dataplane.cpus.delete(cpu);
      dataplane.cpus.set(cpu, { qsize, progFd: dataplane.program('vnic_cpu') });
    }
  });
}

/** Packets at a time. */
const BURST = 300;

describe('tracepoints under traffic', function () {
  this.timeout(120_000);
  let rig: Rig;
  let setting: Setting;

  before(() => {
    rig = createRig({ id: 'perf' });
  });
  beforeEach(() => {
    setting = new Setting(rig);
    setting.controller.telemetry.configure({ ...daemonDefaults.telemetry, tracepoints: 'all' });
  });
  afterEach(() => {
    setting?.dispose();
    setting?.controller.close();
  });
  after(() => rig?.dispose());

  it('count every packet that a full ring dropped, and every one that went in', async () => {
    setting.attach();
    const before = perfOf(setting);
    assert.equal(ringDrops(before), 0n);
    setRings(setting, TINY_RING);
    const result = await checkSteering(setting, { flows: 1000, packets: 100_000, ratePps: 2_000_000 });
    const after = perfOf(setting);
    const counters = setting.controller.withDevice(setting.device, (device) => device.status().counters);
    assert.ok(ringDrops(after) > 0n, 'the rings were never full');
    assert.equal(Number(ringDrops(after)), lostBehind(setting, result), 'what the checker misses');
    assert.equal(ringDrops(after), counters.redirected - counters.received);
    const rings = after.traces.value?.rings ?? [];
    const sum = (pick: (flow: NonNullable<(typeof rings)[number]['flow']>) => bigint): bigint =>
      rings.reduce((total, { flow }) => total + (flow === null ? 0n : pick(flow)), 0n);
    assert.equal(
      sum(({ enqueued }) => enqueued),
      counters.received,
    );
    assert.equal(
      sum(({ taken }) => taken),
      counters.received,
    );
    assert.ok(sum(({ rounds }) => rounds) <= counters.received);
    assert.deepEqual(
      Object.values(after.traces.value?.redirectErrors ?? {}).filter((count) => count > 0n),
      [],
    );
    const { polls } = after.traces.value ?? {};
    assert.equal(polls?.packets, counters.rxPackets, 'what polls brought is what arrived');
    assert.ok(polls !== null && polls !== undefined && polls.exhausted <= polls.polls);
    const softirqs = setting.controller.telemetry.sample().softirqs;
    assert.ok(!isUnavailable(softirqs) && softirqs.some(({ timeNs }) => timeNs > 0n));
  });

  it('count nothing but drops where nothing else was asked for, and say so', async () => {
    setting.controller.telemetry.configure({ ...daemonDefaults.telemetry, tracepoints: 'basic' });
    setting.attach();
    perfOf(setting);
    setRings(setting, TINY_RING);
    const result = await checkSteering(setting, { flows: 1000, packets: 50_000, ratePps: 2_000_000 });
    const { traces } = perfOf(setting);
    assert.ok(ringDrops(perfOf(setting)) > 0n);
    assert.equal(Number(ringDrops(perfOf(setting))), lostBehind(setting, result));
    assert.deepEqual([traces.value?.polls, traces.value?.rings[0]?.flow], [null, null]);
    const { softirqs, tracepoints } = setting.controller.telemetry.sample();
    assert.match(isUnavailable(softirqs) ? softirqs.unavailable : '', /tracepoints: all/);
    assert.match(tracepoints.find(({ name }) => name === 'napi_poll')?.unavailable ?? '', /tracepoints: all/);
  });

  it('count each packet that generic XDP could not redirect as an error, with the reason', async () => {
    setting.controller.attach(setting.device, {
      config: parseDevice(rig.device, deviceInput(rig)),
      mode: 'generic',
      deliverMetadata: true,
    });
    perfOf(setting);
    setRings(setting, TINY_RING);
    const result = await checkSteering(setting, { flows: 1000, packets: 50_000, ratePps: 2_000_000 });
    const { redirectErrors: errors } = perfOf(setting).traces.value ?? {};
    assert.ok(errors?.['ring_full']);
    assert.equal(Number(errors['ring_full']), lostBehind(setting, result));
    assert.deepEqual(
      Object.entries(errors ?? {}).filter(([reason, count]) => reason !== 'ring_full' && count > 0n),
      [],
    );
  });
});

describe('errors of XDP', function () {
  this.timeout(60_000);
  const native = loadNative();
  let rig: CliRig;

  before(() => {
    rig = new CliRig('perf-faults');
  });
  after(() => rig?.[Symbol.dispose]());

  /** Runs a program of perf_faults on 50 packets: how often it ran, and what tracepoints told of the device. */
  function provoke(program: string): {
    ran: bigint;
    redirects: Record<string, bigint>;
    exceptions: Record<string, bigint>;
  } {
    using object = BpfObject.load(native, faults, { programs: [program] });
    using map = BpfMap.fromFd(native, object.mapFd('fault_count'));
    const count = new ArrayMap(native, map, u64Codec);
    const ifindex = Number(rig.link()['ifindex']);
    using tracer = new Tracer(native, { mode: 'basic', possibleCpus: possibleCpuCount() });
    const netns = statSync(`/run/netns/${rig.guest}`).ino;
    const tracing = tracer.trace({ mapId: map.id, netns, ifindex, ringCpus: [] });
    // Another device of the same index, in another namespace, must not be taken for it.
    const other = tracer.trace({ mapId: map.id + 1, netns: netns + 1, ifindex, ringCpus: [] });
    using fd = object.programFd(program);
    {
      using _link = inNetns(native, rig.guest, () => attachXdp(native, fd, ifindex, 'native'));
      rig.send({ fromPort: 7, toPort: 7, packets: 50, bytes: 100 });
    }
    const traces = tracing.read();
    const others = other.read();
    assert.ok(!isUnavailable(traces) && !isUnavailable(others));
    assert.ok([...others.redirectErrors, ...others.exceptions].every((errors) => errors === 0n));
    const named = (names: readonly string[], counts: readonly bigint[]) =>
      Object.fromEntries(names.map((name, index) => [name, counts[index]!]).filter(([, found]) => found !== 0n));
    return {
      ran: count.get(0),
      redirects: named(redirectErrors, traces.redirectErrors),
      exceptions: named(exceptionActions, traces.exceptions),
    };
  }

  it('are counted by what the program answered: aborted', () => {
    const { ran, redirects, exceptions } = provoke('fault_aborted');
    assert.ok(ran >= 50n);
    assert.deepEqual({ redirects, exceptions }, { redirects: {}, exceptions: { aborted: ran } });
  });

  it('are counted by what the program answered: no action at all', () => {
    const { ran, redirects, exceptions } = provoke('fault_unknown');
    assert.ok(ran >= 50n);
    assert.deepEqual({ redirects, exceptions }, { redirects: {}, exceptions: { unknown: ran } });
  });

  it('are counted by reason where a redirect has no target', () => {
    const { ran, redirects, exceptions } = provoke('fault_redirect');
    assert.ok(ran >= 50n);
    assert.deepEqual(redirects, { no_target: ran });
    assert.deepEqual(exceptions, {});
  });
});

/** Ids of the programs behind the raw tracepoints that the process has attached to. */
function tracingProgramsOf(pid: number): number[] {
  return readdirSync(`/proc/${pid}/fdinfo`).flatMap((fd) => {
    const info = readFileSync(`/proc/${pid}/fdinfo/${fd}`, 'utf8');
    const id = /^link_type:\traw_tracepoint$/m.test(info) ? /^prog_id:\t(\d+)$/m.exec(info)?.[1] : undefined;
    return id === undefined ? [] : [Number(id)];
  });
}

describe('vnicctl perf', function () {
  this.timeout(120_000);
  let rig: SurvivalRig;

  before(async () => {
    rig = await SurvivalRig.start('perf');
    await rig.attach({
      azs: [{ name: 'az-a', queues: '0-31' }],
      rules: [{ id: 1, action: 'drop', match: { proto: 'udp', dstPort: 7001 } }],
    });
  });
  after(async () => await rig?.[Symbol.asyncDispose]());

  const socket = () => ['--socket', rig.daemon.socket];

  it('says what packets cost over the time asked for, and names the reason of what is not available', async () => {
    const { done } = rig.rig.start([...socket(), '-o', 'json', 'perf', 'vnic0', '--seconds', '2']);
    // All the while: nobody knows when it has begun to measure.
    let isDone = false;
    void done.then(() => (isDone = true));
    while (!isDone) {
      rig.rig.send({ fromPort: 41_000, toPort: 7000, packets: BURST, bytes: 100 });
      await sleep(20);
    }
    const { code, stdout, stderr } = await done;
    assert.equal(code, 0, stderr);
    const rates = JSON.parse(stdout) as PerfRates & { device: string };
    assert.ok(rates.seconds >= 2);
    // Each burst is a process that starts: on a busy machine there are few.
    const { received } = rates.packets;
    assert.ok(received >= 3 * BURST, `${received} packets`);
    const switches = rates.events.find(({ event }) => event === 'context_switches');
    assert.ok((switches?.perSecond.value ?? 0) > 0);
    assert.ok((switches?.perPacket.value ?? 0) > 0);
    for (const { kind, perSecond } of rates.events) {
      assert.equal(perSecond.value === null, perSecond.unavailable !== null);
      if (kind === 'software') assert.equal(perSecond.unavailable, null);
    }
    const root = rates.programs.find(({ program }) => program === 'vnic_root');
    assert.ok((root?.nsPerPacket.value ?? 0) > 0, JSON.stringify(root));
    const runs = (root?.runsPerSecond.value ?? 0) * rates.seconds;
    // Packets may come between the two readings, at the beginning and at the end.
    assert.ok(Math.abs(runs - received) <= 2 * BURST, `${runs} runs of ${received}`);
    assert.equal(rates.traces.find(({ name }) => name === 'ring_full_drops')?.perSecond.value, 0);
  });

  it('leaves run times out where they are not wanted, because taking them costs time', () => {
    const { programs } = rig.rig.json<PerfRates>([...socket(), 'perf', 'vnic0', '--skip-run-times']);
    assert.match(programs[0]?.nsPerRun.unavailable ?? '', /not asked for/);
  });

  it('is held against a measurement that was kept, figure by figure, with the reason where there is none', () => {
    const kept = path.join(rig.rig.folder, 'before.json');
    writeFileSync(kept, rig.rig.ok([...socket(), '-o', 'json', 'perf', 'vnic0']));
    const text = rig.rig.ok([...socket(), 'perf', 'vnic0', '--compare', kept]);
    assert.match(text, /^before: vnic0@.*\nafter: {2}vnic0@/);
    assert.match(text, /^cache_misses, a packet +\S.*$/m);
    assert.match(text, /^ring_full_drops, a second +0 +0 +0\.0 %$/m);
    assert.match(text, /^\[\d\] .*no packet was received meanwhile/m);
    rig.rig.refused(2, [...socket(), 'perf', 'vnic0', '--compare', path.join(import.meta.dirname, 'perf.test.ts')]);
  });

  it('prints reasons below its tables', () => {
    const text = rig.rig.ok([...socket(), 'perf', 'vnic0']);
    assert.match(text, /^context_switches +[\d,.]+ +/m);
    assert.match(text, /napi_polls +not available \[\d\]/);
    assert.match(text, /^\[\d\] .*daemon\.telemetry\.tracepoints: all/m);
  });

  it('measures without a daemon what needs none', () => {
    const alone = new CliRig('perf-alone');
    try {
      alone.ok(['attach', 'vnic0']);
      const { events, traces } = alone.json<PerfRates>(['perf', 'vnic0']);
      assert.ok((events.find(({ event }) => event === 'context_switches')?.perSecond.value ?? 0) > 0);
      const drops = traces.find(({ name }) => name === 'ring_full_drops');
      assert.match(drops?.perSecond.unavailable ?? '', /only the daemon traces/);
      alone.ok(['detach', 'vnic0']);
    } finally {
      alone[Symbol.dispose]();
    }
  });

  it('holds the driver’s drops against those of the rules', async () => {
    const drops = async (): Promise<{ driver: number; unexplained: number }> => {
      const { driverDrops } = await rig.ask<{
        driverDrops: { value: { driver: number; unexplained: number }[] };
      }>('GET', rig.url('/perf'));
      const sum = (field: 'driver' | 'unexplained') =>
        driverDrops.value.reduce((total, entry) => total + entry[field], 0);
      return { driver: sum('driver'), unexplained: sum('unexplained') };
    };
    await sleep(1000);
    const before = await drops();
    rig.rig.send({ fromPort: 41_001, toPort: 7001, packets: 200, bytes: 100 });
    await sleep(1000);
    const after = await drops();
    assert.equal(after.driver - before.driver, 200);
    assert.equal(after.unexplained, before.unexplained);
  });

  it('is in the metrics: series of what there is, and the reason of what there is not', async () => {
    const text = (await rig.daemon.send('GET', '/metrics')).text;
    assert.match(text, /^virtio_nic_perf_context_switches_total\{cpu="0"\} \d+$/m);
    assert.match(text, /^virtio_nic_perf_available\{event="context_switches"\} 1$/m);
    assert.match(text, /^virtio_nic_perf_available\{event="xdp_cpumap_enqueue"\} 1$/m);
    assert.match(text, /^virtio_nic_perf_available\{event="napi_poll"\} 0$/m);
    assert.match(text, /^virtio_nic_cpumap_drops_total\{device="[^"]+",cpu="0",reason="ring_full"\} 0$/m);
    assert.match(text, /^virtio_nic_driver_drops_total\{device="[^"]+",queue="0"\} \d+$/m);
    const { unavailable } = (await rig.daemon.send('GET', '/api/v1/metrics')).json<{
      unavailable: { name: string; reason: string; device: string | null }[];
    }>();
    const missing = /^virtio_nic_perf_available\{event="cache_misses"\} 0$/m.test(text);
    const reason = unavailable.find(({ name }) => name === 'virtio_nic_perf_cache_misses_total');
    assert.equal(reason !== undefined, missing, 'a counter that is not there says why');
    assert.equal(/^virtio_nic_perf_cache_misses_total/m.test(text), !missing);
    assert.ok(unavailable.some(({ name, reason: why }) => name === 'virtio_nic_napi_polls_total' && /all/.test(why)));
  });

  it('takes another setting of tracepoints and run times when the configuration is read again', async () => {
    const all = '  telemetry: {tracepoints: all, program_stats: true}';
    rig.daemon.configure({ daemon: all });
    process.kill(rig.daemon.pid, 'SIGHUP');
    const seen = async (series: RegExp): Promise<boolean> => {
      for (let tries = 0; tries < 50; tries++) {
        if (series.test((await rig.daemon.send('GET', '/metrics')).text)) return true;
        await sleep(100);
      }
      return false;
    };
    assert.ok(await seen(/^virtio_nic_perf_available\{event="napi_poll"\} 1$/m));
    assert.ok(await seen(/^virtio_nic_napi_polls_total\{/m));
    assert.ok(await seen(/^virtio_nic_program_runs_total\{/m));
    rig.daemon.configure({ daemon: '  telemetry: {tracepoints: off}' });
    process.kill(rig.daemon.pid, 'SIGHUP');
    assert.ok(await seen(/^virtio_nic_perf_available\{event="xdp_cpumap_enqueue"\} 0$/m));
    assert.deepEqual(tracingProgramsOf(rig.daemon.pid), []);
    rig.daemon.configure({});
    process.kill(rig.daemon.pid, 'SIGHUP');
    assert.ok(await seen(/^virtio_nic_perf_available\{event="xdp_cpumap_enqueue"\} 1$/m));
  });

  it('ends with the daemon: its tracepoint programs are gone, killed or not', async () => {
    const programs = tracingProgramsOf(rig.daemon.pid);
    assert.equal(programs.length, 4);
    await rig.daemon.kill();
    assert.ok(await rig.rig.areGone(programs));
    await rig.daemon.run();
  });
});
