// SPDX-License-Identifier: Apache-2.0
/** Attached natively to virtio_net: what arrives is parsed, steered, redirected to CPUs and delivered, packet by packet. */
import assert from 'node:assert/strict';
import type { AttachedDevice } from '../../../src/app/attached-device.ts';
import { diagnose, gatherFacts, refuseIfBlocked } from '../../../src/loader/preflight/index.ts';
import { programById, programInfo } from '../../../src/loader/program.ts';
import { VnicCpuStats } from '../../../src/maps/generated/abi.ts';
import type { Guest, Suite } from './checks.ts';
import { attachedXdp, grown, nicName, qdiscs, queueCounters } from './nic.ts';
import { attach, controllerOf, device, withDevice } from './steered.ts';
import { countByQueue, eventually, type Flow, makeFlows, queueOf, Receiver, textOf } from './traffic.ts';

const PORT = 4000;
const DROPPED_PORT = 4001;
const PACKETS = 12;
const PAYLOAD_BYTES = 100;
/** Ethernet, IP, UDP. */
const HEADER_BYTES = { v4: 14 + 20 + 8, v6: 14 + 40 + 8 };
const RULES = [{ id: 9, match: { dstPort: DROPPED_PORT, proto: 'udp' }, action: 'drop' as const }];

const flows = makeFlows(6, PORT);
/** Ids of the loaded programs, to see them gone at the end. */
let programIds: number[] = [];
/** Queue of each flow before the AZ failed. */
let homeQueues: number[] = [];

const driverRedirects = (): Map<number, number> => queueCounters(/^rx_queue_(\d+)_xdp_redirects$/);
const total = (counts: ReadonlyMap<number, number>): number => [...counts.values()].reduce((sum, count) => sum + count, 0);

async function sendFromPeer({ ask }: Guest, list: readonly Flow[]): Promise<void> {
  await ask({ do: 'open', endpoints: list.map(({ from }) => from), echo: false });
  await ask({ do: 'send', flows: list, packets: PACKETS, payloadBytes: PAYLOAD_BYTES });
}

/** Packets taken from CPUMAP entries, by CPU. */
function receivedByCpu({ dataplane }: AttachedDevice): Map<number, number> {
  const { cpuStats } = dataplane;
  const cpus = Array.from({ length: cpuStats.length }, (_, cpu) => cpu);
  return new Map(cpus.map((cpu) => [cpu, Number(cpuStats.u64(cpu, VnicCpuStats.offsets.received))]));
}

function steeredByQueue(attached: AttachedDevice): Map<number, number> {
  return new Map(attached.queues().map(({ queue, steeredPackets }) => [queue, Number(steeredPackets)]));
}

/** Sends every flow and checks that each packet met the queue and the CPU that the table says, and the socket. */
async function checkSteering(guest: Guest): Promise<void> {
  using receiver = await Receiver.open(PORT);
  const read = () =>
    withDevice(guest.native, (attached) => ({
      queues: flows.map((flow) => queueOf(attached, flow)),
      queueCpus: attached.record.settings.queueCpus,
      cpus: receivedByCpu(attached),
      steered: steeredByQueue(attached),
    }));
  const before = read();
  const redirectsBefore = total(driverRedirects());
  await sendFromPeer(guest, flows);
  await receiver.expect(flows, PACKETS);
  const after = read();
  assert.deepEqual(grown(before.steered, after.steered), countByQueue(before.queues, PACKETS));
  const cpus = before.queues.map((queue) => before.queueCpus[queue]!);
  assert.deepEqual(grown(before.cpus, after.cpus), countByQueue(cpus, PACKETS));
  assert.equal(total(driverRedirects()) - redirectsBefore, flows.length * PACKETS);
}

export const suite: Suite = {
  title: 'ingress on virtio_net',
  checks: [
    {
      title: 'preflight finds nothing that blocks attaching',
      run({ native }) {
        const facts = gatherFacts(native, nicName, { pinFolder: controllerOf(native).pins(device).path });
        assert.equal(facts.link?.driver, 'virtio_net');
        refuseIfBlocked(diagnose(facts, { mode: 'native', queues: 32 }));
      },
    },
    {
      title: 'attaching puts the root program on the device in native mode',
      run({ native }) {
        attach(native, RULES);
        assert.deepEqual(attachedXdp(), { mode: 1, name: 'vnic_root' });
        assert.deepEqual(
          qdiscs().filter((kind) => kind === 'clsact'),
          ['clsact'],
        );
        withDevice(native, ({ dataplane, ...attached }) => {
          programIds = (['vnic_root', 'vnic_ingress', 'vnic_cpu', 'vnic_egress'] as const).map(
            (name) => programInfo(native, dataplane.program(name)).id,
          );
          assert.ok(attached !== undefined);
        });
      },
    },
    {
      title: 'every packet meets the queue and the CPU of its flow and reaches its socket, in order',
      run: checkSteering,
    },
    {
      title: 'the flow table has each flow with its packets, bytes, queue and AZ',
      run({ native }) {
        withDevice(native, (attached) => {
          const seen = attached.flows(10_000, 'packets').filter(({ dstPort }) => dstPort === PORT);
          const row = (src: string, port: number, rest: object) => [textOf({ address: src, port }), rest] as const;
          const expected = flows.map((flow) => {
            const header = flow.from.address.includes(':') ? HEADER_BYTES.v6 : HEADER_BYTES.v4;
            const bytes = PACKETS * (header + PAYLOAD_BYTES);
            return row(flow.from.address, flow.from.port, {
              ...{ packets: PACKETS, bytes, queue: queueOf(attached, flow), az: flow.az, verdict: 'pass' },
            });
          });
          const actual = seen.map(({ src, srcPort, packets, bytes, queue, az, verdict }) =>
            row(src, srcPort, { packets, bytes, queue, az, verdict }),
          );
          assert.deepEqual(Object.fromEntries(actual), Object.fromEntries(expected));
          assert.equal(actual.length, expected.length);
        });
      },
    },
    {
      title: 'a rule drops its packets, counts them, and lets the others pass',
      async run(guest) {
        const dropped = makeFlows(2, DROPPED_PORT);
        const passing = makeFlows(2, PORT).map((flow) => ({ ...flow, from: { ...flow.from, port: flow.from.port + 100 } }));
        using receiver = await Receiver.open(PORT);
        using refused = await Receiver.open(DROPPED_PORT);
        const dropsOf = () => withDevice(guest.native, (attached) => attached.status().counters.drops['rule']);
        const before = dropsOf();
        const all = [...dropped, ...passing];
        await sendFromPeer(guest, all);
        await receiver.expect(passing, PACKETS);
        assert.equal(refused.packets, 0);
        assert.equal(Number(dropsOf()! - before!), dropped.length * PACKETS);
      },
    },
    {
      title: 'when an AZ fails its flows move to other queues, no other flow does, and nothing is lost',
      async run(guest) {
        homeQueues = withDevice(guest.native, (attached) => flows.map((flow) => queueOf(attached, flow)));
        const lost = withDevice(guest.native, (attached) => {
          attached.failAz('az-b');
          return attached.config.azs.find(({ name }) => name === 'az-b')!.queues;
        });
        const queues = withDevice(guest.native, (attached) => flows.map((flow) => queueOf(attached, flow)));
        flows.forEach((flow, index) => {
          const [home, queue] = [homeQueues[index]!, queues[index]!];
          if (lost.includes(home)) assert.ok(!lost.includes(queue), `${flow.az} flow stays on lost queue ${queue}`);
          else assert.equal(queue, home, `${flow.az} flow moved`);
        });
        assert.ok(homeQueues.some((queue) => lost.includes(queue)));
        await checkSteering(guest);
      },
    },
    {
      title: 'when the AZ recovers every flow is back where it was, and nothing is lost',
      async run(guest) {
        withDevice(guest.native, (attached) => attached.recoverAz('az-b'));
        const queues = withDevice(guest.native, (attached) => flows.map((flow) => queueOf(attached, flow)));
        assert.deepEqual(queues, homeQueues);
        await checkSteering(guest);
      },
    },
    {
      title: 'no packet was lost between the CPUs or left over',
      async run({ native }) {
        const counters = () => withDevice(native, (attached) => attached.status().counters);
        await eventually(() => counters().notReceived === 0n);
        const { notReceived, metadataFailed, unparsed, flowsEvicted, flowTableBusy } = counters();
        assert.deepEqual(
          { notReceived, metadataFailed, unparsed, flowsEvicted, flowTableBusy },
          { notReceived: 0n, metadataFailed: 0n, unparsed: {}, flowsEvicted: 0n, flowTableBusy: 0n },
        );
      },
    },
    {
      title: 'detaching leaves no XDP program, no clsact qdisc, no pins and no loaded program',
      async run({ native }) {
        const controller = controllerOf(native);
        controller.detach(device);
        assert.equal(attachedXdp(), null);
        assert.ok(!qdiscs().includes('clsact'), `qdiscs: ${qdiscs().join(', ')}`);
        assert.deepEqual(controller.devices(), []);
        assert.ok(!controller.pins(device).exists());
        const left = () =>
          programIds.filter((id) => {
            using program = programById(native, id);
            return program !== null;
          });
        // The kernel frees programs after a grace period.
        await eventually(() => left().length === 0);
        assert.equal(programIds.length, 4);
        assert.deepEqual(left(), []);
      },
    },
    {
      title: 'after detaching packets reach their sockets as before',
      async run(guest) {
        using receiver = await Receiver.open(PORT);
        await sendFromPeer(guest, flows);
        await receiver.expect(flows, PACKETS);
      },
    },
  ],
};
