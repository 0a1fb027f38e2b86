// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import fc from 'fast-check';
import { Counter } from 'prom-client';
import { daemonMetrics, deviceMetrics } from '../../src/telemetry/metrics/catalogue.ts';
import { Exposition } from '../../src/telemetry/metrics/exposition.ts';
import type { JsonMetric, MetricsJson } from '../../src/telemetry/metrics/json.ts';
import type { MachineSample } from '../../src/telemetry/metrics/machine.ts';
import type { TextFormat } from '../../src/telemetry/metrics/negotiate.ts';
import { unavailable } from '../../src/telemetry/metrics/part.ts';
import { ProcessMetrics } from '../../src/telemetry/metrics/process.ts';
import type { DeviceSample } from '../../src/telemetry/metrics/sample.ts';
import { countFailover, countPlannedMoves, newSwitchCounters } from '../../src/telemetry/metrics/switches.ts';
import { textEnd } from '../../src/telemetry/metrics/text.ts';
import { madeLatency, madeMachine, madeQueue, madeSample, madeTraces } from '../support/metrics-sample.ts';
import { allSamples, parseLabels, parseMetrics, seriesKey } from '../support/metrics-text.ts';
import { promtoolComplaints } from '../support/promtool.ts';
import { skip } from '../support/skip.ts';

const newExposition = () => new Exposition({ version: '1.2.3' });

/** All of an answer. */
async function textOf(
  samples: readonly DeviceSample[],
  options: { exposition?: Exposition; format?: TextFormat; machine?: MachineSample } = {},
): Promise<string> {
  const { exposition = newExposition(), format = 'prometheus', machine } = options;
  return `${await exposition.text(samples, format, machine)}${textEnd[format]}`;
}

/** Values by series, without the prefix and the label that all have. */
async function valuesOf(sample: DeviceSample, exposition = newExposition()): Promise<Record<string, string>> {
  const body = await textOf([sample], { exposition });
  const short = [...allSamples(parseMetrics(body))].map(([key, value]): [string, string] => [
    key
      .replace(/^virtio_nic_/, '')
      .replace(/,?device="vnic0"/, '')
      .replace('{,', '{')
      .replace('{}', ''),
    value,
  ]);
  return Object.fromEntries(short);
}

/** Every series of a JSON answer, histograms taken apart, in the form of the text. */
function jsonSamples(metrics: readonly JsonMetric[]): Map<string, number> {
  const all = new Map<string, number>();
  for (const { name, series } of metrics) {
    for (const { labels, value, histogram } of series) {
      if (value !== undefined) all.set(seriesKey(name, labels), value);
      if (histogram === undefined) continue;
      for (const { le, count } of histogram.buckets) all.set(seriesKey(`${name}_bucket`, { ...labels, le }), count);
      all.set(seriesKey(`${name}_sum`, labels), histogram.sum);
      all.set(seriesKey(`${name}_count`, labels), histogram.count);
    }
  }
  return all;
}

const metricOf = ({ metrics }: MetricsJson, name: string) => metrics.find((metric) => metric.name === name);

describe('metrics of a device', () => {
  it('say what the sample says', async () => {
    const values = await valuesOf(madeSample());
    const expected: Record<string, string> = {
      'rx_packets_total{queue="0"}': '10',
      'rx_packets_total{queue="1"}': '110',
      'rx_bytes_total{queue="0"}': '1000',
      'tx_packets_total{queue="1"}': '105',
      'tx_bytes_total{queue="1"}': '600',
      'steered_packets_total{queue="0"}': '9',
      'steered_bytes_total{queue="1"}': '1000',
      tx_unsteered_packets_total: '25',
      parsed_packets_total: '17',
      'unparsed_packets_total{reason="not_ip"}': '2',
      'unparsed_packets_total{reason="bad_ihl"}': '1',
      'unparsed_packets_total{reason="vlan_depth"}': '0',
      'drops_total{reason="rule"}': '2',
      'drops_total{reason="limit_rule"}': '3',
      'drops_total{reason="limit_flow"}': '4',
      redirected_packets_total: '12',
      passed_packets_total: '1',
      'queue_depth{cpu="2",queue="0,1"}': '7',
      'numa_packets_total{node="1"}': '109',
      avg_latency_ns: '401140',
      'rule_packets_total{rule="7",verdict="pass"}': '30',
      'rule_packets_total{rule="7",verdict="limit"}': '4',
      'rule_bytes_total{rule="7",verdict="limit"}': '400',
      'rule_bytes_total{rule="other",verdict="pass"}': '200',
      flow_table_entries: '5',
      flows_created_total: '8',
      flows_evicted_total: '3',
      flows_reclassified_total: '22',
      flow_table_busy_total: '21',
      limiter_contended_total: '23',
      metadata_failed_total: '24',
      'top_flow_bytes{rank="1"}': '900',
      'top_flow_bytes{rank="2"}': '800',
      'az_up{az="az-a"}': '1',
      'az_up{az="az-b"}': '0',
      coalesce_delay_seconds: '1.6e-05',
      coalesce_changes_total: '2',
      'az_queues{az="az-a"}': '1',
      'az_queues{az="az-b"}': '0',
      'failovers_total{az="az-b",cause="manual"}': '2',
      'failovers_total{az="az-a",cause="probe"}': '0',
      failover_commit_seconds: '1.5e-06',
      'buckets_moved_total{kind="forced"}': '40',
      'buckets_moved_total{kind="planned"}': '3',
      flow_moves_in_order_total: '26',
      flow_moves_forced_total: '27',
      reorder_risk_moves_total: '28',
      held_packets_total: '29',
      'program_runs_total{program="vnic_root"}': '20',
      'program_run_seconds_total{program="vnic_root"}': '1.5',
      scrape_seconds: '0.00025',
      'decode_errors_total{part="rules"}': '1',
      'decode_errors_total{part="exposition"}': '0',
      'build_info{version="1.2.3"}': '1',
    };
    assert.deepEqual(Object.fromEntries(Object.keys(expected).map((key) => [key, values[key]])), expected);
  });

  it('have the labels that the catalogue says and the device, and every metric has a series', async () => {
    const body = await textOf([madeSample()], { machine: madeMachine() });
    const families = parseMetrics(body);
    for (const { name, type, help, labels } of [...deviceMetrics, ...daemonMetrics]) {
      const family = families.get(name);
      assert.ok(family !== undefined, `${name} has no series`);
      assert.deepEqual([family.type, family.help], [type, help.replaceAll('\\', '\\\\')]);
      const own = daemonMetrics.some((metric) => metric.name === name) ? [] : ['device'];
      for (const key of family.samples.keys()) {
        const found = Object.keys(parseLabels(/\{(.*)\}$/.exec(key)?.[1] ?? '')).filter((label) => label !== 'le');
        assert.deepEqual(found.sort(), [...labels, ...own].sort(), key);
      }
    }
    assert.equal(families.size, deviceMetrics.length + daemonMetrics.length);
  });

  it('have a latency histogram that only rises, ends in the count, and puts each packet below its edge', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.integer({ min: 1, max: 2 ** 34 }), { maxLength: 40 }), async (latencies) => {
        const json = await newExposition().json([madeSample({ latency: madeLatency(latencies) })]);
        const { buckets, sum, count } = metricOf(json, 'virtio_nic_latency_seconds')!.series[0]!.histogram!;
        assert.equal(buckets.at(-1)!.le, '+Inf');
        assert.equal(buckets.at(-1)!.count, count);
        assert.equal(count, latencies.length);
        assert.ok(Math.abs(sum - latencies.reduce((total, ns) => total + ns, 0) / 1e9) < 1e-9);
        for (const { le, count: below } of buckets.slice(0, -1)) {
          const edgeNs = Math.round(Number(le) * 1e9);
          assert.equal(below, latencies.filter((ns) => ns <= edgeNs).length, `at ${le} s`);
        }
      }),
      { numRuns: 30 },
    );
  });

  it('keep the same bucket edges whatever arrives', async () => {
    const edges = async (latencies: readonly number[]) =>
      Object.keys(await valuesOf(madeSample({ latency: madeLatency(latencies) }))).filter((key) =>
        key.startsWith('latency_seconds_bucket'),
      );
    assert.deepEqual(await edges([]), await edges([20, 1_000_000]));
    assert.equal((await edges([])).length, 46);
  });

  it('stay exact above 2^53', async () => {
    const huge = 2n ** 63n + 1n;
    const queue = { ...madeQueue(0), rxBytes: huge };
    const made = madeSample();
    assert.ok('queues' in made.traffic);
    const sample = madeSample({ traffic: { ...made.traffic, queues: [queue] } });
    assert.equal((await valuesOf(sample))['rx_bytes_total{queue="0"}'], String(huge));
    const json = await newExposition().json([sample]);
    assert.equal(metricOf(json, 'virtio_nic_rx_bytes_total')!.series[0]!.value, 2 ** 63);
  });

  it('that cannot be had are left out, and the JSON says why', async () => {
    const sample = madeSample({
      programs: unavailable('the kernel does not count'),
      latency: madeLatency([]),
      azs: [{ name: 'az-a', up: true, usableQueues: null }],
      switches: newSwitchCounters(),
    });
    const values = Object.keys(await valuesOf(sample)).join('\n');
    assert.doesNotMatch(values, /program_run|avg_latency|az_queues|failover_commit/);
    assert.match(values, /latency_seconds_count/);
    const json = await newExposition().json([sample]);
    const reasons = Object.fromEntries(json.unavailable.map(({ name, reason }) => [name, reason]));
    assert.deepEqual(reasons, {
      virtio_nic_avg_latency_ns: 'no packet was timed yet',
      virtio_nic_az_queues: 'steering is off',
      virtio_nic_failover_commit_seconds: 'the daemon made no failover since it was started',
      virtio_nic_program_runs_total: 'the kernel does not count',
      virtio_nic_program_run_seconds_total: 'the kernel does not count',
    });
    for (const { name } of json.unavailable) assert.equal(metricOf(json, name), undefined);
    assert.deepEqual(new Set(json.unavailable.map(({ device }) => device)), new Set(['vnic0']));
  });

  it('of the kernel’s own instruments stand by CPU, reason, action and queue', async () => {
    const body = await textOf([madeSample()], { machine: madeMachine() });
    const found = new Map([...parseMetrics(body).values()].flatMap(({ samples }) => [...samples]));
    const expected = {
      'virtio_nic_perf_cycles_total{cpu="1"}': '6000',
      'virtio_nic_perf_counted_ratio{event="cycles"}': '0.5',
      'virtio_nic_perf_available{event="napi_poll"}': '0',
      'virtio_nic_perf_available{event="xdp_exception"}': '1',
      'virtio_nic_softirq_seconds_total{cpu="0"}': '1.5',
      'virtio_nic_softirq_runs_total{cpu="0"}': '3',
      'virtio_nic_cpumap_drops_total{cpu="2",device="vnic0",reason="ring_full"}': '70',
      'virtio_nic_cpumap_drops_total{cpu="2",device="vnic0",reason="no_memory"}': '1',
      'virtio_nic_cpumap_sleeps_total{cpu="2",device="vnic0"}': '5',
      'virtio_nic_redirect_errors_total{device="vnic0",reason="ring_full"}': '6',
      'virtio_nic_redirect_errors_total{device="vnic0",reason="other"}': '0',
      'virtio_nic_xdp_exceptions_total{action="aborted",device="vnic0"}': '9',
      'virtio_nic_napi_budget_exhausted_total{device="vnic0"}': '2',
      'virtio_nic_driver_drops_total{device="vnic0",queue="1"}': '31',
      'virtio_nic_unexplained_drops_total{device="vnic0",queue="1"}': '4',
    };
    assert.deepEqual(Object.fromEntries(Object.keys(expected).map((key) => [key, found.get(key)])), expected);
  });

  it('of a machine without such instruments are left out and never 0, and the JSON says why', async () => {
    const none = { cpus: [], countedShare: null };
    const machine = madeMachine({
      perf: [{ event: 'cache_misses', kind: 'hardware', unavailable: 'no such counter', ...none }],
      softirqs: unavailable('not traced'),
    });
    const traces = madeTraces();
    const rings = traces.rings.map((ring) => ({ ...ring, flow: null }));
    const sample = madeSample({ traces: { ...traces, rings, polls: null }, driverDrops: unavailable('no such names') });
    const json = await newExposition().json([sample], machine);
    const reasons = new Map(json.unavailable.map(({ name, reason, device }) => [name, [device, reason]]));
    const counted = 'it is counted with daemon.telemetry.tracepoints: all';
    for (const [name, expected] of Object.entries({
      virtio_nic_perf_cache_misses_total: [null, 'no such counter'],
      virtio_nic_softirq_seconds_total: [null, 'not traced'],
      virtio_nic_napi_polls_total: ['vnic0', counted],
      virtio_nic_cpumap_rounds_total: ['vnic0', counted],
      virtio_nic_driver_drops_total: ['vnic0', 'no such names'],
    })) {
      assert.deepEqual(reasons.get(name), expected, name);
      assert.equal(metricOf(json, name), undefined);
    }
    assert.equal(metricOf(json, 'virtio_nic_perf_available')?.series[0]?.value, 0);
    assert.ok(metricOf(json, 'virtio_nic_cpumap_drops_total') !== undefined, 'drops are counted all the same');
  });

  it('go through any name of an AZ or a device unharmed', async () => {
    await fc.assert(
      fc.asyncProperty(fc.string({ minLength: 1 }), fc.string({ minLength: 1 }), async (device, az) => {
        const sample = madeSample({ device, azs: [{ name: az, up: true, usableQueues: 3 }] });
        for (const format of ['prometheus', 'openmetrics'] as const) {
          const body = await textOf([sample], { format });
          const samples = allSamples(parseMetrics(body, format), 'virtio_nic_az_queues');
          assert.deepEqual([...samples], [[seriesKey('virtio_nic_az_queues', { az, device }), '3']]);
        }
      }),
      { numRuns: 50 },
    );
  });
});

describe('a scrape', () => {
  const two = [madeSample(), madeSample({ device: 'lab:vnic1', topFlowBytes: [] })];

  it('says the same in JSON and in both text formats', async () => {
    const exposition = newExposition();
    const plain = allSamples(parseMetrics(await textOf(two, { exposition })));
    const open = await textOf(two, { exposition, format: 'openmetrics' });
    const json = jsonSamples((await exposition.json(two)).metrics);
    assert.deepEqual(new Map([...plain].map(([key, value]) => [key, Number(value.replace('Inf', 'Infinity'))])), json);
    assert.deepEqual(allSamples(parseMetrics(open, 'openmetrics')), plain);
  });

  it('names families, types and units as OpenMetrics wants them, and ends in # EOF', async () => {
    const body = await textOf(two, { format: 'openmetrics' });
    assert.ok(body.endsWith('\n# EOF\n'));
    const families = parseMetrics(body, 'openmetrics');
    const rx = families.get('virtio_nic_rx_bytes')!;
    assert.deepEqual([rx.type, rx.unit], ['counter', 'bytes']);
    assert.equal(rx.samples.get('virtio_nic_rx_bytes_total{device="vnic0",queue="1"}'), '1100');
    assert.equal(families.get('virtio_nic_latency_seconds')!.unit, 'seconds');
    assert.equal(families.get('virtio_nic_queue_depth')!.unit, null);
    for (const [name, { type }] of families) assert.ok(type !== 'counter' || !name.endsWith('_total'), name);
  });

  it('of no device has what is known of the daemon', async () => {
    const exposition = newExposition();
    const families = parseMetrics(await textOf([], { exposition }));
    assert.deepEqual([...families.keys()], ['virtio_nic_build_info']);
    assert.deepEqual((await exposition.json([])).unavailable, []);
  });

  it('at the same time as another one does not mix with it', async () => {
    const exposition = newExposition();
    const devices = Array.from({ length: 20 }, (_, index) => madeSample({ device: `vnic${index}` }));
    const bodies = await Promise.all(devices.map((sample) => textOf([sample], { exposition })));
    bodies.forEach((body, index) => {
      const samples = [...allSamples(parseMetrics(body), 'virtio_nic_rx_packets').keys()];
      assert.deepEqual(
        samples,
        [0, 1].map((queue) =>
          seriesKey('virtio_nic_rx_packets_total', { device: `vnic${index}`, queue: String(queue) }),
        ),
      );
    });
  });

  it('goes on with a damaged sample, counts it, and leaves the other devices whole', async () => {
    const exposition = newExposition();
    const { traffic: _, ...rest } = madeSample({ device: 'hurt' });
    const damaged = [rest as DeviceSample, null as unknown as DeviceSample];
    const alone = parseMetrics(await textOf([madeSample()]));
    for (let scrape = 1; scrape <= 2; scrape++) {
      const families = parseMetrics(await textOf([...damaged, madeSample()], { exposition }));
      const samples = allSamples(families);
      for (const [key, value] of allSamples(alone)) assert.equal(samples.get(key), value, key);
      assert.equal(samples.get('virtio_nic_az_up{az="az-a",device="hurt"}'), '1');
      assert.equal(samples.has('virtio_nic_rx_packets_total{device="hurt",queue="0"}'), false);
      const errors = Number(samples.get('virtio_nic_decode_errors_total{device="hurt",part="exposition"}'));
      const ofTraffic = deviceMetrics.filter(({ series }) => {
        try {
          return series(rest as DeviceSample, { malformed: 0 }) === null;
        } catch {
          return true;
        }
      });
      assert.ok(ofTraffic.length > 10);
      assert.equal(errors, scrape * ofTraffic.length);
    }
    const { unavailable: reasons } = await exposition.json(damaged);
    assert.match(reasons.find(({ device }) => device === 'hurt')?.reason ?? '', /damaged/);
    assert.ok(reasons.some(({ device }) => device === 'unknown'));
  });

  it('refuses to pass on a value that is no number', async () => {
    const made = madeSample();
    assert.ok('queues' in made.traffic);
    const queues = [{ ...madeQueue(0), rxPackets: '12\nevil 1' as unknown as bigint }];
    const values = await valuesOf(madeSample({ traffic: { ...made.traffic, queues } }));
    assert.equal(values['rx_packets_total{queue="0"}'], undefined);
    assert.equal(values['rx_bytes_total{queue="0"}'], '1000');
    assert.equal(values['decode_errors_total{part="exposition"}'], '1');
  });
});

describe('metrics of the process', () => {
  const ofProcess = new ProcessMetrics({ keptForMs: 0 });
  const processText = async (format: TextFormat = 'prometheus') => `${await ofProcess.text(format)}${textEnd[format]}`;

  it('are there, and those of the daemon itself, under the same names before and after an OpenMetrics scrape', async () => {
    const requests = new Counter({
      name: 'virtio_nic_test_requests_total',
      help: 'Requests.',
      labelNames: ['code'],
      registers: [ofProcess.registry],
    });
    requests.inc({ code: '200' }, 3);
    const before = parseMetrics(await processText());
    const open = parseMetrics(await processText('openmetrics'), 'openmetrics');
    const after = parseMetrics(await processText());
    assert.deepEqual([...after.keys()], [...before.keys()]);
    for (const families of [before, open, after]) {
      const samples = allSamples(families);
      assert.equal(samples.get('virtio_nic_test_requests_total{code="200"}'), '3');
      assert.ok(Number(samples.get('process_cpu_seconds_total')) > 0);
      assert.ok(Number(samples.get('process_resident_memory_bytes')) > 1e6);
      assert.ok(samples.has('nodejs_heap_size_used_bytes'));
    }
    const json = await ofProcess.json();
    assert.equal(json.find(({ name }) => name === 'process_open_fds')!.type, 'gauge');
    ofProcess.registry.removeSingleMetric('virtio_nic_test_requests_total');
  });

  it('are kept for a second unless it is said otherwise, in every format as they were taken', async () => {
    const kept = new ProcessMetrics();
    const cpuSeconds = (text: string, format?: TextFormat) =>
      allSamples(parseMetrics(text, format)).get('process_cpu_seconds_total');
    const first = await kept.text('prometheus');
    assert.equal(await kept.text('prometheus'), first);
    assert.equal(cpuSeconds(`${await kept.text('openmetrics')}# EOF\n`, 'openmetrics'), cpuSeconds(first));
    const start = performance.now();
    while (performance.now() - start < 20);
    assert.notEqual(cpuSeconds(await processText()), cpuSeconds(first));
  });

  it('tell of the event loop how late it is, not how often it is looked at', async function () {
    this.retries(5);
    const looked = new ProcessMetrics({ keptForMs: 0 });
    await sleep(450);
    const samples = allSamples(parseMetrics(await looked.text('prometheus')));
    const lag = Number(samples.get('nodejs_eventloop_lag_p50_seconds'));
    assert.ok(lag >= 0 && lag < 0.05, `${lag} s`);
  });

  it('and all others pass promtool but for one name that is kept for old dashboards', async function () {
    const quiet = madeSample({ latency: madeLatency([]), rules: [], topFlowBytes: [], switches: newSwitchCounters() });
    const idle = promtoolComplaints(`${await textOf([quiet])}${await processText()}`);
    if (idle === null) skip(this, 'promtool is not installed (Debian: prometheus)');
    assert.deepEqual(idle, []);
    const busy = promtoolComplaints(`${await textOf([madeSample()])}${await processText()}`);
    assert.deepEqual(busy, ['virtio_nic_avg_latency_ns metric names should not contain abbreviated units']);
  });
});

describe('counting of switches', () => {
  it('adds up failovers by AZ and cause, and moves by kind', () => {
    const counters = newSwitchCounters();
    countFailover(counters, { az: 'az-b', cause: 'manual', bucketsMoved: { forced: 10, planned: 0 }, commitNs: 900 });
    countFailover(counters, { az: 'az-b', cause: 'manual', bucketsMoved: { forced: 5, planned: 0 }, commitNs: null });
    countFailover(counters, { az: 'az-b', cause: 'silence', bucketsMoved: { forced: 0, planned: 1 }, commitNs: 700 });
    countPlannedMoves(counters, 16);
    assert.deepEqual(counters, {
      failovers: [
        { az: 'az-b', cause: 'manual', count: 2 },
        { az: 'az-b', cause: 'silence', count: 1 },
      ],
      bucketsMoved: { forced: 15, planned: 17 },
      lastFailoverCommitNs: 700,
    });
  });
});
