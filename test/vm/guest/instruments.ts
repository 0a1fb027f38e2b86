// SPDX-License-Identifier: Apache-2.0
/** The kernel's own instruments on the guest's kernel: tracepoints, perf events, the statistics of virtio_net. */
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { onlineCpus, possibleCpuCount } from '../../../src/app/machine.ts';
import { DriverStatistics } from '../../../src/loader/ethtool-stats.ts';
import { xdpDropsOf } from '../../../src/telemetry/driver-drops.ts';
import { PerfCounters } from '../../../src/telemetry/perf/counters.ts';
import { kernelPerf } from '../../../src/telemetry/perf/kernel.ts';
import { SocketTimer } from '../../../src/telemetry/traces/socket-times.ts';
import { Tracer } from '../../../src/telemetry/traces/tracer.ts';
import type { Suite } from './checks.ts';
import { nicName } from './nic.ts';

export const suite: Suite = {
  title: 'the instruments of its kernel',
  machines: ['standard'],
  short: ['standard'],
  checks: [
    {
      title: 'every tracepoint program loads and attaches',
      run({ native }) {
        using tracer = new Tracer(native, { mode: 'all', possibleCpus: possibleCpuCount() });
        const missing = [...tracer.state].filter(([, reason]) => reason !== null);
        assert.deepEqual(missing, []);
      },
    },
    {
      title: 'the programs that time packets up to their sockets load and attach',
      run({ native }) {
        using timer = new SocketTimer(native, { possibleCpus: possibleCpuCount() });
        assert.deepEqual(timer.state, { tcp: null, udp: null });
      },
    },
    {
      title: 'context switches are counted on each CPU, and what is not counted has a reason',
      async run({ native }) {
        const cpus = onlineCpus().map(({ cpu }) => cpu);
        using counters = new PerfCounters(kernelPerf(native, () => cpus));
        await sleep(200);
        const counts = counters.read();
        for (const { event, unavailable } of counts) console.log(`perf: ${event}: ${unavailable ?? 'counted'}`);
        const switches = counts.find(({ event }) => event === 'context_switches');
        assert.deepEqual(
          switches?.cpus.map(({ cpu }) => cpu),
          cpus,
        );
        assert.ok(switches.cpus.some(({ value }) => value > 0n));
        for (const { cpus: counted, unavailable } of counts) assert.equal(counted.length === 0, unavailable !== null);
      },
    },
    {
      title: 'virtio_net tells by queue what XDP dropped',
      run({ native }) {
        const statistics = new DriverStatistics(native, null, nicName);
        const found = statistics.read();
        assert.ok(typeof found !== 'string', 'the driver has no statistics');
        const queues = [...xdpDropsOf(found).keys()];
        assert.ok(queues.length > 0, [...found.keys()].join(' '));
        assert.deepEqual(
          queues,
          queues.map((_, index) => index),
        );
      },
    },
  ],
};
