// SPDX-License-Identifier: Apache-2.0
/** Numbered UDP datagrams between the guest and its peer, and what became of them. */
import assert from 'node:assert/strict';
import { createSocket, type Socket } from 'node:dgram';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import type { AttachedDevice } from '../../../src/app/attached-device.ts';
import { bucketOf, chooseQueue, flowHash } from '../../../src/steering/hash.ts';
import { parseAddress } from '../../../src/steering/rules/prefix.ts';
import { type Endpoint, guestAddresses, type PeerFlow, peerAzs } from '../harness/protocol.ts';

/** IP protocol number. */
export const UDP = 17;
/** Headers below UDP's payload that count as MTU, IPv4. */
export const UDP_AND_IP_BYTES = 28;
const PATIENCE_MS = 30_000;
const BUFFER_BYTES = 8 << 20;

export interface Flow extends PeerFlow {
  /** As in the configuration; the peer's end is in it. */
  readonly az: string;
}

/** `perAz` flows of each family with each AZ, to one port of the guest. */
export function makeFlows(perAz: number, guestPort: number): Flow[] {
  return peerAzs.flatMap(({ name, ipv4, ipv6 }) =>
    [ipv4, ipv6].flatMap((address) =>
      Array.from({ length: perAz }, (_, index) => ({
        az: name,
        from: { address, port: 20_000 + index },
        to: { address: address.includes(':') ? guestAddresses.ipv6 : guestAddresses.ipv4, port: guestPort },
      })),
    ),
  );
}

export const textOf = ({ address, port }: Endpoint): string => `${address} ${port}`;

/** The queue that the active table gives a flow, by the model of the choice in TypeScript. Both directions have the same. */
export function queueOf(device: AttachedDevice, { from, to, az }: Flow): number {
  const [src, dst] = [parseAddress(from.address), parseAddress(to.address)];
  const key = { src, dst, sport: from.port, dport: to.port, proto: UDP };
  const hash = flowHash(key, device.record.settings.hashSeed);
  const generation = device.tables.active();
  assert.ok(generation !== null, 'steering is off');
  const index = device.config.azs.findIndex(({ name }) => name === az) + 1;
  return chooseQueue({ hash, bucket: bucketOf(hash), az: index, ...device.tables.read(generation) });
}

/** How much of something each queue has to get. */
export function countByQueue(queues: readonly number[], each: number): Map<number, number> {
  const counts = new Map<number, number>();
  for (const queue of queues) counts.set(queue, (counts.get(queue) ?? 0) + each);
  return new Map([...counts].sort(([a], [b]) => a - b));
}

/** The guest's sockets on one port: what arrives, by the peer's end. */
export class Receiver implements Disposable {
  readonly #sockets: Socket[] = [];
  readonly #numbers = new Map<string, number[]>();

  static async open(port: number): Promise<Receiver> {
    const receiver = new Receiver();
    for (const [type, address] of [['udp4', guestAddresses.ipv4] as const, ['udp6', guestAddresses.ipv6] as const]) {
      const socket = createSocket({ type, recvBufferSize: BUFFER_BYTES });
      socket.on('message', (message, from) => {
        const numbers = receiver.#numbers.get(textOf(from)) ?? [];
        numbers.push(message.readUInt32BE());
        receiver.#numbers.set(textOf(from), numbers);
      });
      socket.bind(port, address);
      await once(socket, 'listening');
      receiver.#sockets.push(socket);
    }
    return receiver;
  }

  get packets(): number {
    return [...this.#numbers.values()].reduce((sum, numbers) => sum + numbers.length, 0);
  }

  /** Forgets what has arrived. */
  clear(): void {
    this.#numbers.clear();
  }

  /** Sends from the sockets of this port, one datagram of each flow in turn. */
  async send(flows: readonly Flow[], packets: number, payloadBytes: number, pauseMs: number): Promise<void> {
    for (let number = 0; number < packets; number++) {
      for (const { from } of flows) {
        const data = Buffer.alloc(payloadBytes);
        data.writeUInt32BE(number);
        const socket = this.#sockets[from.address.includes(':') ? 1 : 0]!;
        await new Promise<void>((resolve, reject) => {
          socket.send(data, from.port, from.address, (error) => (error ? reject(error) : resolve()));
        });
      }
      if (pauseMs > 0) await sleep(pauseMs);
    }
  }

  /** Each flow arrived whole, once and in order; nothing else arrived. */
  async expect(flows: readonly Flow[], packets: number): Promise<void> {
    await eventually(() => this.packets >= flows.length * packets);
    const numbers = Array.from({ length: packets }, (_, number) => number);
    const expected = Object.fromEntries(flows.map(({ from }) => [textOf(from), numbers]));
    assert.deepEqual(Object.fromEntries(this.#numbers), expected);
  }

  close(): void {
    for (const socket of this.#sockets.splice(0)) socket.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** Waits until something is so, or patience has ended: what it waits for is asserted by who called it. */
export async function eventually(
  isSo: () => boolean | Promise<boolean>,
  patienceMs: number = PATIENCE_MS,
  pauseMs = 20,
): Promise<void> {
  const endMs = performance.now() + patienceMs;
  while (!(await isSo()) && performance.now() < endMs) await sleep(pauseMs);
}
