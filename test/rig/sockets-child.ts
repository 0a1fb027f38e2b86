// SPDX-License-Identifier: Apache-2.0
/** One end of the rig's socket traffic, in the namespace that this process was started in. Ends with its parent. */
import { createSocket, type Socket as UdpSocket } from 'node:dgram';
import { once } from 'node:events';
import { connect as connectTcp, createServer, type Socket as TcpSocket } from 'node:net';

export interface SocketPlan {
  protocol: 'tcp' | 'udp';
  /** Of the server. */
  address: string;
  port: number;
  connections: number;
  messageBytes: number;
  messagesPerSecond: number;
}

export interface SocketCounts {
  sentBytes: number;
  receivedBytes: number;
  /** Errors of sockets, e.g. resets; texts of the first ten. */
  errors: string[];
}

/** Each message is answered with one. */
export type ToSockets = { kind: 'serve' | 'connect'; plan: SocketPlan } | { kind: 'ask' } | { kind: 'finish' };

export interface FromSockets {
  counts: SocketCounts;
  /** Of the client's sockets. */
  ports: number[];
}

const counts: SocketCounts = { sentBytes: 0, receivedBytes: 0, errors: [] };
const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** A connection through an AZ that is cut never ends by itself. */
const longestDrainMs = 5000;

/** A client's connection. */
interface Connection {
  port: number;
  send(message: Uint8Array): void;
  /** Resolves when everything came back, or nothing more will. */
  finish(): Promise<void>;
}

function note(error: Error): void {
  if (counts.errors.length < 10) counts.errors.push(error.message);
}

function udpFamily(address: string): 'udp4' | 'udp6' {
  return address.includes(':') ? 'udp6' : 'udp4';
}

function countEcho(bytes: number): void {
  counts.receivedBytes += bytes;
  counts.sentBytes += bytes;
}

async function serveUdp(plan: SocketPlan): Promise<void> {
  const socket = createSocket(udpFamily(plan.address));
  socket.on('error', note);
  socket.on('message', (message, from) => {
    countEcho(message.length);
    socket.send(message, from.port, from.address);
  });
  socket.bind(plan.port, plan.address);
  await once(socket, 'listening');
}

async function serveTcp(plan: SocketPlan): Promise<void> {
  const server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
    socket.on('error', note);
    socket.on('data', (data) => {
      countEcho(data.length);
      // Not reading on while the client does not read keeps memory bounded.
      if (!socket.write(data)) {
        socket.pause();
        socket.once('drain', () => socket.resume());
      }
    });
    socket.on('end', () => socket.end());
  });
  server.listen(plan.port, plan.address);
  await once(server, 'listening');
}

async function connectUdpSocket(plan: SocketPlan): Promise<Connection> {
  const socket: UdpSocket = createSocket(udpFamily(plan.address));
  let [sent, received] = [0, 0];
  socket.on('error', note);
  socket.on('message', (message) => {
    received += message.length;
    counts.receivedBytes += message.length;
  });
  socket.connect(plan.port, plan.address);
  await once(socket, 'connect');
  return {
    port: socket.address().port,
    send(message) {
      sent += message.length;
      counts.sentBytes += message.length;
      socket.send(message);
    },
    async finish() {
      for (let waits = 0; received < sent && waits < 50; waits++) await sleep(10);
      socket.close();
    },
  };
}

async function connectTcpSocket(plan: SocketPlan): Promise<Connection> {
  const socket: TcpSocket = connectTcp({ port: plan.port, host: plan.address, noDelay: true });
  socket.on('error', note);
  socket.on('data', (data) => {
    counts.receivedBytes += data.length;
  });
  await once(socket, 'connect');
  const closed = new Promise<void>((resolve) => socket.once('close', () => resolve()));
  return {
    port: socket.localPort ?? 0,
    send(message) {
      // While an AZ is cut nothing drains; what is not written is not counted as sent.
      if (socket.writableNeedDrain || !socket.writable) return;
      counts.sentBytes += message.length;
      socket.write(message);
    },
    async finish() {
      socket.end();
      await Promise.race([closed, sleep(longestDrainMs)]);
      socket.destroy();
    },
  };
}

let connections: Connection[] = [];
let sender: NodeJS.Timeout | undefined;

async function connectAll(plan: SocketPlan): Promise<void> {
  const open = plan.protocol === 'tcp' ? connectTcpSocket : connectUdpSocket;
  connections = await Promise.all(Array.from({ length: plan.connections }, () => open(plan)));
  const message = new Uint8Array(plan.messageBytes).fill(0x76);
  const startMs = performance.now();
  let sent = 0;
  sender = setInterval(() => {
    const due = Math.floor(((performance.now() - startMs) / 1000) * plan.messagesPerSecond);
    for (; sent < due; sent++) for (const connection of connections) connection.send(message);
  }, 2);
}

async function perform(message: ToSockets): Promise<void> {
  switch (message.kind) {
    case 'serve':
      return message.plan.protocol === 'tcp' ? serveTcp(message.plan) : serveUdp(message.plan);
    case 'connect':
      return connectAll(message.plan);
    case 'finish':
      clearInterval(sender);
      await Promise.all(connections.map((connection) => connection.finish()));
      return;
    case 'ask':
      return;
  }
}

async function answer(message: ToSockets): Promise<void> {
  await perform(message);
  const reply: FromSockets = { counts, ports: connections.map((connection) => connection.port) };
  process.send?.(reply);
}

process.on('message', (message: ToSockets) => {
  // A rejection ends the process, and its parent sees that.
  void answer(message);
});
// A terminal's interrupt goes to the whole group; the parent decides when this process ends.
process.on('SIGINT', () => {});
process.on('disconnect', () => process.exit());
