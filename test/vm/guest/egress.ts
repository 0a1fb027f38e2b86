// SPDX-License-Identifier: Apache-2.0
/** What leaves through virtio_net: the TX queue that the table says, and with it the queue that replies arrive on. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect } from 'node:net';
import { writeFileSync } from 'node:fs';
import { peerAzs } from '../harness/protocol.ts';
import type { Suite } from './checks.ts';
import { clearXps, grown, nicName, qdiscs, queueCounters, run } from './nic.ts';
import { attach, controllerOf, device, withDevice } from './steered.ts';
import { countByQueue, eventually, makeFlows, queueOf, Receiver } from './traffic.ts';

const PORT = 5000;
const SHAPED_PORT = 5001;
const TCP_PORT = 7000;
const TCP_BYTES = 512 * 1024;
const PACKETS = 10;
const SHAPED = { packets: 60, payloadBytes: 958, rate: '400kbit', bitsPerSecond: 400_000, burstBytes: 2000 };
const RULES = [
  {
    id: 11,
    direction: 'egress' as const,
    match: { srcPort: SHAPED_PORT, proto: 'udp' },
    action: 'pass' as const,
    limit: { rate: SHAPED.rate, burst: `${SHAPED.burstBytes}b`, mode: 'shape' as const },
  },
];

const flows = makeFlows(4, PORT);

const driverTx = (): Map<number, number> => queueCounters(/^tx_queue_(\d+)_packets$/);

export const suite: Suite = {
  title: 'egress on virtio_net',
  checks: [
    {
      title: 'each flow leaves on the TX queue of the table, and its replies arrive on the RX queue of that number',
      async run({ native, ask }) {
        attach(native, RULES);
        clearXps();
        using receiver = await Receiver.open(PORT);
        await ask({ do: 'open', endpoints: flows.map(({ from }) => from), echo: true });
        const read = () =>
          withDevice(native, (attached) => ({
            expected: countByQueue(
              flows.map((flow) => queueOf(attached, flow)),
              PACKETS,
            ),
            tx: new Map(attached.queues().map(({ queue, txPackets }) => [queue, Number(txPackets)])),
            rx: new Map(attached.queues().map(({ queue, rxPackets }) => [queue, Number(rxPackets)])),
          }));
        const before = read();
        const driverBefore = driverTx();
        await receiver.send(flows, PACKETS, 64, 10);
        await receiver.expect(flows, PACKETS);
        const after = read();
        assert.ok(before.expected.size > 8, `only ${before.expected.size} queues in use`);
        assert.deepEqual(grown(before.tx, after.tx), before.expected);
        assert.deepEqual(grown(driverBefore, driverTx()), before.expected);
        assert.deepEqual(grown(before.rx, after.rx), before.expected);
      },
    },
    {
      title: 'a TCP connection carries half a megabyte in both directions unharmed',
      async run({ native, ask }) {
        const [{ ipv4 }] = peerAzs;
        await ask({ do: 'echo-tcp', endpoint: { address: ipv4, port: TCP_PORT } });
        const sent = Buffer.alloc(TCP_BYTES);
        for (let at = 0; at < TCP_BYTES; at += 4) sent.writeUInt32BE(Math.imul(at, 0x9e3779b1) >>> 0, at);
        const socket = connect({ host: ipv4, port: TCP_PORT });
        const chunks: Buffer[] = [];
        socket.on('data', (chunk: Buffer) => chunks.push(chunk));
        socket.end(sent);
        await once(socket, 'end');
        assert.ok(Buffer.concat(chunks).equals(sent), 'what came back differs from what was sent');
        withDevice(native, (attached) => {
          const tcp = attached.flows(10_000, 'bytes').filter(({ proto }) => proto === 6);
          assert.deepEqual(tcp.map(({ direction }) => direction).sort(), ['egress', 'ingress']);
          for (const { direction, bytes, az } of tcp) {
            assert.ok(bytes > TCP_BYTES, `${direction} counted ${bytes} bytes`);
            assert.equal(az, 'az-a');
          }
          assert.equal(new Set(tcp.map(({ queue }) => queue)).size, 1, 'both directions have one queue');
        });
      },
    },
    {
      title: 'a shaped flow is spread over the time its rate asks for, and loses nothing',
      async run({ ask }) {
        const [flow] = makeFlows(1, SHAPED_PORT);
        writeFileSync('/proc/sys/net/core/default_qdisc', 'fq');
        run('tc', 'qdisc', 'replace', 'dev', nicName, 'root', 'handle', '1:', 'mq');
        assert.ok(qdiscs().includes('fq'), `qdiscs: ${qdiscs().join(', ')}`);
        using sender = await Receiver.open(SHAPED_PORT);
        await ask({ do: 'open', endpoints: [flow!.from], echo: false });
        await sender.send([flow!], SHAPED.packets, SHAPED.payloadBytes, 0);
        const received = async () => (await ask({ do: 'received' })).received?.[0];
        await eventually(async () => (await received())?.packets === SHAPED.packets);
        const { packets = 0, spanMs = 0 } = (await received()) ?? {};
        assert.equal(packets, SHAPED.packets);
        const frameBytes = 14 + 20 + 8 + SHAPED.payloadBytes;
        const bits = ((SHAPED.packets - 1) * frameBytes - SHAPED.burstBytes) * 8;
        const leastMs = (bits / SHAPED.bitsPerSecond) * 1000;
        assert.ok(spanMs >= leastMs, `${SHAPED.packets} packets came in ${spanMs} ms, not in ${leastMs} ms or more`);
      },
    },
    {
      title: 'detaching takes the clsact qdisc away and leaves the others',
      run({ native }) {
        controllerOf(native).detach(device);
        const left = qdiscs();
        assert.ok(!left.includes('clsact') && left.includes('mq') && left.includes('fq'), `qdiscs: ${left.join(', ')}`);
      },
    },
  ],
};
