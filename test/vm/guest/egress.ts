// SPDX-License-Identifier: Apache-2.0
/**
 * What leaves through virtio_net: the TX queue that the table says, and with it the queue that replies arrive on.
 * Follows the suite `ingress`, which attaches.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect } from 'node:net';
import { peerAzs } from '../harness/protocol.ts';
import type { Suite } from './checks.ts';
import { clearXps, grown, qdiscs, queueCounters } from './nic.ts';
import { flowsOf, SHAPED_BITS_PER_SECOND, SHAPED_BURST_BYTES, SHAPED_PORT, withDevice } from './steered.ts';
import { countByQueue, eventually, type Flow, makeFlows, queueOf, Receiver } from './traffic.ts';

const PORT = 5000;
const PACKETS = 10;
const TCP_PORT = 7000;
const TCP_BYTES = 512 * 1024;
const SHAPED_PACKETS = 60;
const SHAPED_PAYLOAD_BYTES = 958;

/** Enough that each queue has one of them. */
const candidates = makeFlows(60, PORT);

/** One flow for each queue of the table, in the order of the queues. */
function flowOfEachQueue(): { queues: number[]; flows: Flow[] } {
  const byQueue = withDevice((attached) => new Map(candidates.map((flow) => [queueOf(attached, flow), flow])));
  const queues = [...byQueue.keys()].sort((a, b) => a - b);
  return { queues, flows: queues.map((queue) => byQueue.get(queue)!) };
}

function readQueues() {
  return withDevice((attached) => {
    const queues = attached.queues();
    return {
      tx: new Map(queues.map(({ queue, txPackets }) => [queue, Number(txPackets)])),
      rx: new Map(queues.map(({ queue, rxPackets }) => [queue, Number(rxPackets)])),
      driver: queueCounters(/^tx_queue_(\d+)_packets$/),
    };
  });
}

export const suite: Suite = {
  title: 'egress on virtio_net',
  machines: ['standard'],
  short: ['standard'],
  checks: [
    {
      title:
        'flows of all queues leave on the TX queues of the table, and replies arrive on the RX queue of that number',
      async run({ ask, machine }) {
        clearXps();
        const { queues, flows } = flowOfEachQueue();
        assert.equal(queues.length, machine.nics[0]!.queues);
        using receiver = await Receiver.open(PORT);
        await ask({ do: 'open', endpoints: flows.map(({ from }) => from), echo: true });
        const before = readQueues();
        await receiver.send(flows, PACKETS, 64, 10);
        await receiver.expect(flows, PACKETS);
        const after = readQueues();
        const expected = countByQueue(queues, PACKETS);
        assert.deepEqual(grown(before.tx, after.tx), expected);
        // Since about Linux 6.10 the driver counts packets elsewhere (netdev's qstats-get).
        if (before.driver.size > 0) assert.deepEqual(grown(before.driver, after.driver), expected);
        assert.deepEqual(grown(before.rx, after.rx), expected);
      },
    },
    {
      title: 'a TCP connection carries half a megabyte in both directions unharmed',
      async run({ ask }) {
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
        const tcp = (await flowsOf('bytes')).filter(({ proto }) => proto === 6);
        assert.deepEqual(tcp.map(({ direction }) => direction).sort(), ['egress', 'ingress']);
        for (const { direction, bytes, az } of tcp) {
          assert.ok(bytes > TCP_BYTES, `${direction} counted ${bytes} bytes`);
          assert.equal(az, 'az-a');
        }
        assert.equal(new Set(tcp.map(({ queue }) => queue)).size, 1, 'the directions have two queues');
      },
    },
    {
      title: 'a shaped flow is spread over the time its rate asks for, and loses nothing',
      async run({ ask }) {
        const [flow] = makeFlows(1, SHAPED_PORT);
        assert.ok(qdiscs().includes('fq'), `qdiscs: ${qdiscs().join(', ')}`);
        const dropsBefore = withDevice((attached) => attached.status().counters.drops);
        using sender = await Receiver.open(SHAPED_PORT);
        await ask({ do: 'open', endpoints: [flow!.from], echo: false });
        await sender.send([flow!], SHAPED_PACKETS, SHAPED_PAYLOAD_BYTES, 0);
        const received = async () => (await ask({ do: 'received' })).received?.[0];
        await eventually(async () => (await received())?.packets === SHAPED_PACKETS);
        const { packets = 0, spanMs = 0 } = (await received()) ?? {};
        const drops = withDevice((attached) => attached.status().counters.drops);
        assert.deepEqual({ packets, ...drops }, { packets: SHAPED_PACKETS, ...dropsBefore });
        const frameBytes = 14 + 20 + 8 + SHAPED_PAYLOAD_BYTES;
        // The first packet, and the burst, leave at once.
        const bits = ((SHAPED_PACKETS - 1) * frameBytes - SHAPED_BURST_BYTES) * 8;
        const leastMs = (bits / SHAPED_BITS_PER_SECOND) * 1000;
        assert.ok(spanMs >= leastMs, `${SHAPED_PACKETS} packets came in ${spanMs} ms, not in ${leastMs} ms or more`);
      },
    },
  ],
};
