// SPDX-License-Identifier: Apache-2.0
/**
 * Plain UDP traffic for shell scripts, with a number in each datagram.
 *
 *     zone-traffic.ts send SOURCE DESTINATION PORT FLOWS PACKETS_PER_SECOND
 *     zone-traffic.ts receive ADDRESS PORT FILE     keeps FILE at what arrived, by source address
 */
import { createSocket, type Socket } from 'node:dgram';
import { renameSync, writeFileSync } from 'node:fs';
import { setPriority } from 'node:os';

const [mode, ...rest] = process.argv.slice(2);
/** A machine that is busy must not look like a zone that is silent. */
const NICE = -15;
const TICK_MS = 2;
const FIRST_PORT = 20_000;
const REPORT_MS = 50;
const RECEIVE_BUFFER_BYTES = 1 << 22;

async function bound(port: number, address: string): Promise<Socket> {
  const socket = createSocket('udp4');
  await new Promise<void>((resolve) => {
    socket.bind(port, address, resolve);
  });
  return socket;
}

async function send([source = '', destination = '', port = '', flows = '', rate = '']: string[]): Promise<void> {
  const sockets = await Promise.all(
    Array.from({ length: Number(flows) }, (_, flow) => bound(FIRST_PORT + flow, source)),
  );
  const sent = sockets.map(() => 0n);
  const run = BigInt(process.pid);
  let [due, next, before] = [0, 0, performance.now()];
  setInterval(() => {
    const now = performance.now();
    // What was due while the process could not run is not made up for by more than two turns.
    due += Math.min(now - before, 2 * TICK_MS) * (Number(rate) / 1000);
    before = now;
    for (; due >= 1; due--) {
      const payload = new DataView(new ArrayBuffer(64));
      payload.setBigUint64(0, run);
      payload.setBigUint64(8, sent[next]!++);
      sockets[next]?.send(new Uint8Array(payload.buffer), Number(port), destination);
      next = (next + 1) % sockets.length;
    }
  }, TICK_MS);
}

interface Arrived {
  flows: number;
  received: number;
  /** Numbers below the highest of their flow that did not arrive. */
  missing: number;
  reordered: number;
}

async function receive([address = '', port = '', file = '']: string[]): Promise<void> {
  const bySource: Record<string, Arrived> = {};
  const next = new Map<string, bigint>();
  const socket = await bound(Number(port), address);
  try {
    socket.setRecvBufferSize(RECEIVE_BUFFER_BYTES);
  } catch {
    // The machine's limit is lower.
  }
  socket.on('message', (data, { address: source, port: from }) => {
    bySource[source] ??= { flows: 0, received: 0, missing: 0, reordered: 0 };
    const arrived = bySource[source];
    const key = `${source} ${from} ${data.readBigUInt64BE(0)}`;
    const number = data.readBigUInt64BE(8);
    const expected = next.get(key);
    if (expected === undefined) arrived.flows++;
    arrived.received++;
    // The first that arrives is where a flow begins.
    if (expected !== undefined && number < expected) {
      arrived.reordered++;
      arrived.missing = Math.max(0, arrived.missing - 1);
      return;
    }
    if (expected !== undefined) arrived.missing += Number(number - expected);
    next.set(key, number + 1n);
  });
  setInterval(() => {
    writeFileSync(`${file}.new`, JSON.stringify(bySource));
    renameSync(`${file}.new`, file);
  }, REPORT_MS);
}

setPriority(NICE);
await (mode === 'send' ? send(rest) : receive(rest));
