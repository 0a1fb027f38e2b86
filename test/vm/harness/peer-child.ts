// SPDX-License-Identifier: Apache-2.0
/** The peer, in the namespace of the tap: does over UDP and TCP what it is asked over the process channel. */
import { createSocket, type Socket } from 'node:dgram';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Endpoint, HostLine, PeerReply, PeerRequest } from './protocol.ts';

/** An emulated guest is slow: a round of one datagram of each flow, then a pause. */
const PAUSE_MS = 10;

class PeerSocket {
  readonly endpoint: Endpoint;
  readonly #socket: Socket;
  packets = 0;
  #firstMs = 0;
  #lastMs = 0;

  private constructor(endpoint: Endpoint, socket: Socket, echo: boolean) {
    this.endpoint = endpoint;
    this.#socket = socket;
    socket.on('message', (message, { port, address }) => {
      this.#lastMs = performance.now();
      if (this.packets++ === 0) this.#firstMs = this.#lastMs;
      if (echo) socket.send(message, port, address);
    });
  }

  static async open(endpoint: Endpoint, echo: boolean): Promise<PeerSocket> {
    const socket = createSocket(endpoint.address.includes(':') ? 'udp6' : 'udp4');
    const opened = new PeerSocket(endpoint, socket, echo);
    socket.bind(endpoint.port, endpoint.address);
    await once(socket, 'listening');
    return opened;
  }

  get spanMs(): number {
    return this.#lastMs - this.#firstMs;
  }

  send(data: Buffer, to: Endpoint): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#socket.send(data, to.port, to.address, (error) => (error ? reject(error) : resolve()));
    });
  }

  close(): void {
    this.#socket.close();
  }
}

const sockets = new Map<string, PeerSocket>();
const nameOf = ({ address, port }: Endpoint): string => `${address} ${port}`;

function socketOf(endpoint: Endpoint): PeerSocket {
  const socket = sockets.get(nameOf(endpoint));
  if (socket === undefined) throw new Error(`the peer has no open socket at ${nameOf(endpoint)}`);
  return socket;
}

async function serve(request: PeerRequest): Promise<PeerReply> {
  switch (request.do) {
    case 'open':
      for (const socket of sockets.values()) socket.close();
      sockets.clear();
      for (const endpoint of request.endpoints) {
        sockets.set(nameOf(endpoint), await PeerSocket.open(endpoint, request.echo));
      }
      return {};
    case 'send': {
      const data = Buffer.alloc(request.payloadBytes, 'v');
      for (let number = 0; number < request.packets; number++) {
        data.writeUInt32BE(number);
        for (const { from, to } of request.flows) await socketOf(from).send(data, to);
        await sleep(PAUSE_MS);
      }
      return { sent: request.packets * request.flows.length };
    }
    case 'received':
      return {
        received: [...sockets.values()].map(({ endpoint, packets, spanMs }) => ({ ...endpoint, packets, spanMs })),
      };
    case 'echo-tcp': {
      const server = createServer((connection) => {
        connection.on('error', (error) => console.error(`peer: ${error.message}`));
        connection.pipe(connection);
      });
      server.listen(request.endpoint.port, request.endpoint.address);
      await once(server, 'listening');
      return {};
    }
  }
}

process.on('message', ({ id, request }: { id: number; request: PeerRequest }) => {
  serve(request).then(
    (reply) => process.send?.({ id, reply } satisfies HostLine),
    (error: unknown) => process.send?.({ id, error: String(error) } satisfies HostLine),
  );
});
// The host has ended.
process.on('disconnect', () => process.exit());
