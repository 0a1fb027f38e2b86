// SPDX-License-Identifier: Apache-2.0
/** Attached natively to virtio_net: what arrives is parsed, steered, redirected to CPUs and delivered, packet by packet. */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import type { AttachedDevice } from '../../../src/app/attached-device.ts';
import { buildFrame } from '../../../src/captures/build-frame.ts';
import { DriverStatistics } from '../../../src/loader/ethtool-stats.ts';
import { programInfo } from '../../../src/loader/program.ts';
import { VnicCpuStats } from '../../../src/maps/generated/abi.ts';
import { parseAddress } from '../../../src/steering/rules/prefix.ts';
import { DriverDrops } from '../../../src/telemetry/driver-drops.ts';
import { isUnavailable } from '../../../src/telemetry/metrics/part.ts';
import type { Guest, Suite } from './checks.ts';
import { vnicctl, vnicctlProcess } from './command.ts';
import { attachedXdp, grown, nicName, qdiscs, queueCounters } from './nic.ts';
import { DROPPED_PORT, deviceSpec, flowsOf, withDevice } from './steered.ts';
import { countByQueue, eventually, type Flow, makeFlows, queueOf, Receiver, textOf, UDP } from './traffic.ts';

const CONFIG_FILE = '/tmp/vnic.json';
const PORT = 4000;
const PACKETS = 12;
const PAYLOAD_BYTES = 100;
/** Ethernet, IP, UDP. */
const HEADER_BYTES = { v4: 14 + 20 + 8, v6: 14 + 40 + 8 };

const flows = makeFlows(6, PORT);
/** Queue of each flow before the AZ failed. */
let homeQueues: number[] = [];

const queuesNow = (): number[] => withDevice((attached) => flows.map((flow) => queueOf(attached, flow)));

function driverRedirects(): number {
  const counters = queueCounters(/^rx_queue_(\d+)_xdp_redirects$/);
  return [...counters.values()].reduce((sum, count) => sum + count, 0);
}

async function sendFromPeer({ ask }: Guest, list: readonly Flow[]): Promise<void> {
  await ask({ do: 'open', endpoints: list.map(({ from }) => from), echo: false });
  await ask({ do: 'send', flows: list, packets: PACKETS, payloadBytes: PAYLOAD_BYTES });
}

/** Packets taken from CPUMAP entries, by CPU. */
function receivedByCpu({ dataplane: { cpuStats } }: AttachedDevice): Map<number, number> {
  const cpus = Array.from({ length: cpuStats.length }, (_, cpu) => cpu);
  return new Map(cpus.map((cpu) => [cpu, Number(cpuStats.u64(cpu, VnicCpuStats.offsets.received))]));
}

function readCounters() {
  return withDevice((attached) => ({
    cpus: receivedByCpu(attached),
    steered: new Map(attached.queues().map(({ queue, steeredPackets }) => [queue, Number(steeredPackets)])),
  }));
}

/** By receive queue: what the dataplane dropped, what the driver says that XDP dropped, and of that what is not ours. */
function readDrops(
  { native }: Guest,
  comparison: DriverDrops,
): Record<'own' | 'driver' | 'unexplained', Map<number, number>> {
  const statistics = new DriverStatistics(native, null, nicName).read();
  const queues = withDevice((attached) => attached.queues());
  const compared = comparison.update(statistics, queues);
  assert.ok(!isUnavailable(compared), 'the driver has no counters of what XDP dropped');
  const numbers = (field: 'driver' | 'unexplained') =>
    new Map(compared.map((entry) => [entry.queue, Number(entry[field])]));
  const own = new Map(queues.map(({ queue, droppedPackets }) => [queue, Number(droppedPackets)]));
  return { own, driver: numbers('driver'), unexplained: numbers('unexplained') };
}

/** Sends every flow and checks that each packet met the queue and the CPU that the table says, and its socket. */
async function checkSteering(guest: Guest): Promise<void> {
  using receiver = await Receiver.open(PORT);
  const queues = queuesNow();
  const queueCpus = withDevice(({ record }) => record.settings.queueCpus);
  const before = readCounters();
  const redirectsBefore = driverRedirects();
  await sendFromPeer(guest, flows);
  await receiver.expect(flows, PACKETS);
  const after = readCounters();
  assert.deepEqual(grown(before.steered, after.steered), countByQueue(queues, PACKETS));
  const cpus = queues.map((queue) => queueCpus[queue]!);
  assert.deepEqual(grown(before.cpus, after.cpus), countByQueue(cpus, PACKETS));
  assert.equal(driverRedirects() - redirectsBefore, flows.length * PACKETS);
}

export const suite: Suite = {
  title: 'ingress on virtio_net',
  machines: ['standard'],
  short: ['standard'],
  checks: [
    {
      title: 'vnicctl doctor finds nothing that blocks attaching',
      async run() {
        const { verdict, findings } = await vnicctl<{ verdict: string; findings: object[] }>('doctor', nicName);
        assert.notEqual(verdict, 'blocked', JSON.stringify(findings));
      },
    },
    {
      title: 'vnicctl attach puts the root program on the device in native mode',
      run({ native }) {
        writeFileSync(CONFIG_FILE, JSON.stringify({ devices: { [nicName]: deviceSpec } }));
        const { performed, egress } = vnicctlProcess<{ performed: boolean; egress: string }>(
          'attach',
          nicName,
          '--config',
          CONFIG_FILE,
        );
        assert.equal(performed, true);
        assert.deepEqual(attachedXdp(), { mode: 1, name: 'vnic_root' });
        assert.equal(qdiscs().includes('clsact'), egress === 'clsact', `qdiscs: ${qdiscs().join(', ')}`);
        withDevice(({ dataplane }) => {
          assert.equal(programInfo(native, dataplane.program('vnic_root')).name, 'vnic_root');
        });
      },
    },
    {
      title: 'every packet meets the queue and the CPU of its flow and reaches its socket, in order',
      run: checkSteering,
    },
    {
      title: 'the flow table has each flow with its packets, bytes, queue and AZ',
      async run() {
        const expected = withDevice((attached) =>
          flows.map((flow) => {
            const header = flow.from.address.includes(':') ? HEADER_BYTES.v6 : HEADER_BYTES.v4;
            const bytes = PACKETS * (header + PAYLOAD_BYTES);
            const queue = queueOf(attached, flow);
            return [textOf(flow.from), { packets: PACKETS, bytes, queue, az: flow.az, verdict: 'pass' }] as const;
          }),
        );
        const actual = (await flowsOf('packets'))
          .filter(({ dstPort }) => dstPort === PORT)
          .map(({ src, srcPort, packets, bytes, queue, az, verdict }) => {
            return [textOf({ address: src, port: srcPort }), { packets, bytes, queue, az, verdict }] as const;
          });
        assert.deepEqual(Object.fromEntries(actual), Object.fromEntries(expected));
        assert.equal(actual.length, expected.length);
      },
    },
    {
      title: 'explaining a packet says the queue, the AZ and the CPU that the packets of a flow met',
      run() {
        const flow = flows.at(-1)!;
        const frame = buildFrame({
          src: parseAddress(flow.from.address),
          dst: parseAddress(flow.to.address),
          srcPort: flow.from.port,
          dstPort: flow.to.port,
          proto: UDP,
        });
        const { queue, az, cpu, verdict, flowKnown } = withDevice((attached) => attached.explain(frame, 'ingress'));
        const expected = withDevice((attached) => queueOf(attached, flow));
        const expectedCpu = withDevice(({ record }) => record.settings.queueCpus[expected]);
        assert.deepEqual(
          { queue, az, cpu, verdict, flowKnown },
          { queue: expected, az: flow.az, cpu: expectedCpu, verdict: 'pass', flowKnown: true },
        );
      },
    },
    {
      title: 'a rule drops its packets, counts them, and lets the others pass',
      async run(guest) {
        const dropped = makeFlows(2, DROPPED_PORT);
        const passing = makeFlows(2, PORT).map((flow) => ({
          ...flow,
          from: { ...flow.from, port: flow.from.port + 100 },
        }));
        using receiver = await Receiver.open(PORT);
        using refused = await Receiver.open(DROPPED_PORT);
        const drops = () => Number(withDevice((attached) => attached.status().counters.drops['rule']));
        const before = drops();
        const comparison = new DriverDrops();
        const byQueueBefore = readDrops(guest, comparison);
        await sendFromPeer(guest, [...dropped, ...passing]);
        await receiver.expect(passing, PACKETS);
        assert.equal(refused.packets, 0);
        assert.equal(drops() - before, dropped.length * PACKETS);
        const byQueue = readDrops(guest, comparison);
        const own = grown(byQueueBefore.own, byQueue.own);
        assert.equal(
          [...own.values()].reduce((sum, count) => sum + count, 0),
          dropped.length * PACKETS,
        );
        assert.deepEqual(grown(byQueueBefore.driver, byQueue.driver), own, 'the driver counts what the rule dropped');
        assert.deepEqual([...byQueue.unexplained.values()].filter(Boolean), []);
      },
    },
    {
      title: 'when an AZ fails its flows move to other queues, no other flow does, and nothing is lost',
      async run(guest) {
        homeQueues = queuesNow();
        const lost = withDevice(({ config }) => config.azs.find(({ name }) => name === 'az-b')!.queues);
        withDevice((attached) => attached.failAz('az-b'));
        const queues = queuesNow();
        flows.forEach((flow, index) => {
          const [home, queue] = [homeQueues[index]!, queues[index]!];
          if (lost.includes(home))
            assert.ok(!lost.includes(queue), `a flow of ${flow.az} stays on lost queue ${queue}`);
          else assert.equal(queue, home, `a flow of ${flow.az} moved`);
        });
        assert.ok(homeQueues.some((queue) => lost.includes(queue)));
        await checkSteering(guest);
      },
    },
    {
      title: 'when the AZ recovers every flow is back where it was, and nothing is lost',
      async run(guest) {
        withDevice((attached) => attached.recoverAz('az-b'));
        assert.deepEqual(queuesNow(), homeQueues);
        await checkSteering(guest);
      },
    },
    {
      title: 'no packet was lost between the CPUs, unparsed or without a flow entry',
      async run() {
        const counters = () => withDevice((attached) => attached.status().counters);
        await eventually(() => counters().notReceived === 0n);
        const { notReceived, metadataFailed, unparsed, flowsEvicted, flowTableBusy } = counters();
        assert.deepEqual(
          { notReceived, metadataFailed, unparsed, flowsEvicted, flowTableBusy },
          { notReceived: 0n, metadataFailed: 0n, unparsed: {}, flowsEvicted: 0n, flowTableBusy: 0n },
        );
      },
    },
  ],
};
