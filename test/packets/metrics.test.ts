// SPDX-License-Identifier: Apache-2.0
/** After known packets through the real programs, the metrics say exactly that. */
import assert from 'node:assert/strict';
import { FlowTable } from '../../src/app/flow-table.ts';
import { onlineCpus } from '../../src/app/machine.ts';
import { Fd } from '../../src/loader/fd.ts';
import { VnicLimits } from '../../src/maps/generated/abi.ts';
import type { Rule } from '../../src/steering/rules/model.ts';
import { parseAddress } from '../../src/steering/rules/prefix.ts';
import { parseBurst, parseRate } from '../../src/steering/rules/units.ts';
import { Exposition } from '../../src/telemetry/metrics/exposition.ts';
import { unavailable } from '../../src/telemetry/metrics/part.ts';
import { kernelCountsRuns, readProgramRuns } from '../../src/telemetry/metrics/programs.ts';
import { type DeviceDescription, DeviceSampler, type MetricSettings } from '../../src/telemetry/metrics/sample.ts';
import { newSwitchCounters } from '../../src/telemetry/metrics/switches.ts';
import { topFlowBytes } from '../../src/telemetry/metrics/top-flows.ts';
import { noSocketTimes } from '../../src/telemetry/traces/socket-times.ts';
import { PacketRunner, TC, TestDataplane, XDP } from '../support/dataplane.ts';
import { flowFrame } from '../support/flow-frames.ts';
import { allSamples, parseMetrics } from '../support/metrics-text.ts';
import { tableTo } from '../support/one-queue-table.ts';
import { promtoolComplaints } from '../support/promtool.ts';
import { skip } from '../support/skip.ts';

const cpus = onlineCpus();
const cpu = cpus.at(-1)!.cpu;

/** A UDP frame to a port of 10.0.1.1, on which the rules below match. */
function frameTo(dport: number, frameBytes = 100, host = 1): Uint8Array {
  const src = parseAddress(`10.0.0.${host}`);
  return flowFrame({ src, dst: parseAddress('10.0.1.1'), sport: 4000, dport, proto: 17 }, frameBytes);
}

function ruleFor(id: number, fields: Partial<Rule>, dport = id): Rule {
  const match = { proto: 17, dstPort: { first: dport, last: dport } };
  return { id, priority: 0, direction: 'ingress', match, action: 'pass', shadow: false, ...fields };
}

/** A dataplane that hands packets to one CPU, its sampler, and what the metrics say. */
class Measured implements Disposable {
  readonly test: TestDataplane;
  readonly exposition = new Exposition({ version: '0' });
  readonly sampler: DeviceSampler;

  constructor(settings: MetricSettings = { maxRules: 100, maxTopFlows: 3 }, maxRules = 16) {
    this.test = new TestDataplane({ maxFlows: 1024, maxRules, queues: 4 });
    this.test.dataplane.cpus.set(cpu, { qsize: 64, progFd: this.test.dataplane.program('vnic_cpu') });
    this.sampler = new DeviceSampler(this.test.dataplane, settings);
  }

  async text(fields: Partial<DeviceDescription> = {}): Promise<string> {
    const sample = this.sampler.read({
      device: 'vnic0',
      azs: [],
      cpuNodes: new Map(),
      topFlowBytes: unavailable('not asked for'),
      programs: unavailable('not asked for'),
      traces: unavailable('not asked for'),
      driverDrops: unavailable('not asked for'),
      socketTimes: noSocketTimes('not asked for'),
      switches: newSwitchCounters(),
      coalescing: null,
      redirect: { mode: 'cpumap', trial: null, device: null },
      ...fields,
    });
    return await this.exposition.text([sample], 'prometheus');
  }

  /** Values by series, without prefix and device; only those that are not 0. */
  async values(fields: Partial<DeviceDescription> = {}, prefix = ''): Promise<Record<string, number>> {
    const short = [...allSamples(parseMetrics(await this.text(fields)), `virtio_nic_${prefix}`)].map(
      ([key, value]): [string, number] => [
        key
          .replace(/^virtio_nic_/, '')
          .replace(/,?device="vnic0"/, '')
          .replace('{,', '{')
          .replace('{}', ''),
        Number(value),
      ],
    );
    return Object.fromEntries(short.filter(([, value]) => value !== 0));
  }

  async topFlows(count: number): Promise<bigint[]> {
    using table = new FlowTable(this.test.dataplane);
    return await topFlowBytes(table, count);
  }

  send(frame: Uint8Array, count: number): void {
    for (let sent = 0; sent < count; sent++) this.test.ingress(frame);
  }

  [Symbol.dispose](): void {
    this.test.close();
  }
}

describe('metrics of a dataplane', () => {
  it('are all 0 before the first packet, every reason included', async () => {
    using measured = new Measured();
    assert.deepEqual(await measured.values({}, 'rx'), {});
    const text = await measured.text();
    const names = [...allSamples(parseMetrics(text)).keys()];
    assert.equal(names.filter((name) => name.startsWith('virtio_nic_unparsed_packets_total')).length, 17);
    assert.equal(names.filter((name) => name.startsWith('virtio_nic_rx_packets_total')).length, 4);
  });

  it('say exactly which packets arrived, were steered, dropped, limited, left', async () => {
    using measured = new Measured();
    const { test } = measured;
    test.setTable(tableTo(2, 0b0111n));
    test.dataplane.setQueueCpus([0, 0, cpu, cpu]);
    const rate = parseRate('1kbit'); // the next packet conforms after more than half a second
    test.setRules([
      ruleFor(53, { action: 'drop' }),
      ruleFor(80, { limit: { rate, burst: parseBurst('300b', rate), scope: 'rule', mode: 'police' } }),
      ruleFor(81, { action: 'drop', shadow: true }),
      ruleFor(90, {}),
    ]);
    measured.send(frameTo(53), 4);
    measured.send(frameTo(80), 8);
    measured.send(frameTo(81), 2);
    measured.send(frameTo(90, 200), 5);
    measured.send(frameTo(1000, 300, 7), 6);
    measured.send(new Uint8Array(60), 3);
    const egress = new PacketRunner(test.native, test.dataplane.program('vnic_egress'));
    for (let sent = 0; sent < 7; sent++) assert.equal(egress.run(frameTo(70)), TC.next);

    const values = await measured.values({
      azs: [
        { name: 'az-a', queues: [0, 1], up: true },
        { name: 'az-b', queues: [2, 3], up: false },
      ],
      cpuNodes: new Map([[cpu, 1]]),
      topFlowBytes: await measured.topFlows(10),
    });
    const { scrape_seconds: scrapeSeconds, ...rest } = values;
    assert.ok(scrapeSeconds! > 0);
    const passed = 3 + 2 + 5 + 6;
    assert.deepEqual(rest, {
      'rx_packets_total{queue="0"}': 28,
      'rx_bytes_total{queue="0"}': 14 * 100 + 5 * 200 + 6 * 300 + 3 * 60,
      'steered_packets_total{queue="2"}': passed,
      // All arrived on NIC queue 0.
      'steering_misses_total{queue="2"}': passed,
      'redirect_mode{mode="cpumap"}': 1,
      'steered_bytes_total{queue="2"}': 5 * 100 + 5 * 200 + 6 * 300,
      'tx_packets_total{queue="2"}': 7,
      'tx_bytes_total{queue="2"}': 700,
      parsed_packets_total: 25,
      'unparsed_packets_total{reason="not_ip"}': 3,
      'drops_total{reason="rule"}': 4,
      'drops_total{reason="limit_rule"}': 5,
      redirected_packets_total: passed,
      [`queue_depth{cpu="${cpu}",queue="2,3"}`]: passed,
      'numa_packets_total{node="1"}': passed,
      'rule_packets_total{rule="53",verdict="drop"}': 4,
      'rule_bytes_total{rule="53",verdict="drop"}': 400,
      'rule_packets_total{rule="80",verdict="pass"}': 3,
      'rule_bytes_total{rule="80",verdict="pass"}': 300,
      'rule_packets_total{rule="80",verdict="limit"}': 5,
      'rule_bytes_total{rule="80",verdict="limit"}': 500,
      'rule_packets_total{rule="81",verdict="shadow"}': 2,
      'rule_bytes_total{rule="81",verdict="shadow"}': 200,
      'rule_packets_total{rule="90",verdict="pass"}': 5,
      'rule_bytes_total{rule="90",verdict="pass"}': 1000,
      flow_table_entries: 6,
      flows_created_total: 6,
      'top_flow_bytes{rank="1"}': 1800,
      'top_flow_bytes{rank="2"}': 1000,
      'top_flow_bytes{rank="3"}': 800,
      'az_up{az="az-a"}': 1,
      'az_queues{az="az-a"}': 2,
      'az_queues{az="az-b"}': 1,
      'build_info{version="0"}': 1,
    });
  });

  it('a packet that its CPU took is no longer in the queue, and its latency is in the histogram', async () => {
    using measured = new Measured();
    const { test } = measured;
    test.setTable(tableTo(2));
    test.dataplane.setQueueCpus([cpu, cpu, cpu, cpu]);
    measured.send(frameTo(90), 10);
    test.dataplane.cpuStats.put(cpu, { received: 6n });
    const bucket = new BigUint64Array(VnicLimits.latencyBuckets);
    bucket[79] = 5n; // up to 255 ns
    bucket[80] = 1n; // from 256 ns
    test.dataplane.latency.write(cpu, { count: 6n, sumNs: 1500n, bucket });
    const values = await measured.values();
    assert.equal(values[`queue_depth{cpu="${cpu}",queue="0,1,2,3"}`], 4);
    const buckets = ['2.55e-07', '3.83e-07', '+Inf'].map((le) => values[`latency_seconds_bucket{le="${le}"}`]);
    assert.deepEqual(buckets, [5, 6, 6]);
    assert.equal(values['latency_seconds_sum'], 1.5e-6);
    assert.equal(values['latency_seconds_count'], 6);
    assert.equal(values['avg_latency_ns'], 250);
  });

  it('a bounded number of rules have series; the others are summed, and nothing is lost', async () => {
    using measured = new Measured({ maxRules: 2, maxTopFlows: 0 });
    const { test } = measured;
    test.setTable(tableTo(1));
    const ids = [40, 10, 30, 20, 50];
    test.setRules(ids.map((id) => ruleFor(id, id === 50 ? { action: 'drop' } : {})));
    for (const id of ids) measured.send(frameTo(id), id / 10);
    assert.deepEqual(await measured.values({}, 'rule_packets'), {
      'rule_packets_total{rule="10",verdict="pass"}': 1,
      'rule_packets_total{rule="20",verdict="pass"}': 2,
      'rule_packets_total{rule="other",verdict="pass"}': 7,
      'rule_packets_total{rule="other",verdict="drop"}': 5,
    });
    assert.deepEqual(await measured.values({ topFlowBytes: await measured.topFlows(3) }, 'top_flow'), {});
  });

  it('follow a change of the rules, and a rule that stays keeps its counts', async () => {
    using measured = new Measured();
    const { test } = measured;
    test.setRules([ruleFor(7, {}), ruleFor(8, {})]);
    measured.send(frameTo(7), 3);
    measured.send(frameTo(8), 2);
    assert.deepEqual(await measured.values({}, 'rule_packets'), {
      'rule_packets_total{rule="7",verdict="pass"}': 3,
      'rule_packets_total{rule="8",verdict="pass"}': 2,
    });
    test.setRules([ruleFor(8, { action: 'drop' }), ruleFor(9, {})]);
    measured.send(frameTo(8), 4);
    measured.send(frameTo(9), 1);
    assert.deepEqual(await measured.values({}, 'rule_packets'), {
      'rule_packets_total{rule="8",verdict="pass"}': 2,
      'rule_packets_total{rule="8",verdict="drop"}': 4,
      'rule_packets_total{rule="9",verdict="pass"}': 1,
    });
    test.setRules([]);
    assert.deepEqual(await measured.values({}, 'rule_packets'), {});
  });

  it('the largest flows are found among many, in order', async () => {
    using measured = new Measured();
    for (let host = 1; host <= 200; host++) measured.send(frameTo(host, 60 + host, host), 1);
    const wanted = [260n, 259n, 258n, 257n];
    assert.deepEqual(await measured.topFlows(4), wanted);
    assert.deepEqual(await measured.topFlows(0), []);
    assert.equal((await measured.topFlows(500)).length, 200);
  });

  it('two entries of one flow are one flow', async () => {
    using measured = new Measured();
    measured.send(frameTo(5, 100), 3);
    measured.send(frameTo(6, 200), 1);
    const { flows, flowSets } = measured.test.dataplane;
    const entry = Array.from({ length: flows.length }, (_, index) => index).find(
      (index) => flows.read(index).packets === 3n,
    )!;
    // What two CPUs that meet a flow at once leave behind.
    const free = (entry + VnicLimits.flowWays) % flows.length;
    flows.bytes(free).set(flows.bytes(entry));
    const tagAt = (index: number) =>
      [Math.floor(index / VnicLimits.flowWays), 4 * (index % VnicLimits.flowWays)] as const;
    assert.equal(flowSets.u32(...tagAt(free)), 0);
    flowSets.storeU32(...tagAt(free), flowSets.u32(...tagAt(entry)));
    assert.deepEqual(await measured.topFlows(2), [600n, 200n]);
  });

  it('runs of programs are counted while the kernel counts them, else it is said that it does not', async () => {
    using measured = new Measured();
    const { native, dataplane } = measured.test;
    const ingress = [['vnic_ingress', dataplane.program('vnic_ingress')] as const];
    if (!kernelCountsRuns()) {
      const programs = readProgramRuns(native, ingress);
      assert.ok('unavailable' in programs && programs.unavailable.includes('sysctl kernel.bpf_stats_enabled=1'));
    }
    const fd = new Fd(native, native.check(native.libbpf.bpf_enable_stats(0), 'bpf_enable_stats'));
    try {
      measured.send(frameTo(90), 25);
      const values = await measured.values({ programs: readProgramRuns(native, ingress, true) }, 'program');
      assert.equal(values['program_runs_total{program="vnic_ingress"}'], 25);
      assert.ok(values['program_run_seconds_total{program="vnic_ingress"}']! > 0);
    } finally {
      fd.close();
    }
  });

  it('a device whose maps cannot be read does not fail the scrape; each part that is missing is counted', async () => {
    const measured = new Measured();
    measured.test.close();
    const reading = { azs: [{ name: 'az-a', queues: [0], up: true }] };
    await measured.text(reading);
    const values = await measured.values(reading);
    delete values['scrape_seconds'];
    assert.deepEqual(values, {
      'redirect_mode{mode="cpumap"}': 1,
      'decode_errors_total{part="traffic"}': 2,
      'decode_errors_total{part="latency"}': 2,
      'decode_errors_total{part="rules"}': 2,
      'decode_errors_total{part="azs"}': 2,
      'build_info{version="0"}': 1,
    });
  });

  it('pass promtool with traffic', async function () {
    using measured = new Measured();
    measured.test.setTable(tableTo(2));
    measured.test.setRules([ruleFor(7, {})]);
    assert.equal(measured.test.ingress(frameTo(7)), XDP.pass);
    const complaints = promtoolComplaints(await measured.text());
    if (complaints === null) skip(this, 'promtool is not installed (Debian: prometheus)');
    assert.deepEqual(complaints, []);
  });
});
