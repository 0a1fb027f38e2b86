// SPDX-License-Identifier: Apache-2.0
/**
 * Ordinary sockets between an AZ and the host: a client in the AZ's namespace sends, a server in the host's sends
 * everything back, both in processes of their own. With TCP every byte must come back; with UDP those that arrive.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { join } from 'node:path';

import { VnicError } from '../../src/errors.ts';
import type { FromSockets, SocketCounts, SocketPlan, ToSockets } from './sockets-child.ts';
import type { Rig } from './topology.ts';

export type { SocketCounts } from './sockets-child.ts';

export interface SocketOptions {
  /** Name of the AZ that the clients are in. */
  az: string;
  protocol: 'tcp' | 'udp';
  /** Default 4. */
  family?: 4 | 6;
  /** Port of the server. Default 9000. */
  port?: number;
  /** Client sockets, each with a port of its own: flows. Default 1. */
  connections?: number;
  /** Bytes of a TCP write or a UDP datagram. Default 1000. */
  messageBytes?: number;
  /** Messages a second of each connection. Default 100. */
  messagesPerSecond?: number;
}

export interface SocketReport {
  client: SocketCounts;
  server: SocketCounts;
}

export interface SocketTraffic {
  /** Client ports by connection: with the addresses, the flows. */
  readonly clientPorts: readonly number[];
  /** Counts so far. */
  progress(): Promise<SocketReport>;
  /** Stops sending, waits for what is under way (UDP: at most half a second), ends both processes. */
  stop(): Promise<SocketReport>;
}

const script = join(import.meta.dirname, 'sockets-child.ts');

class Endpoint {
  readonly #child: ChildProcess;
  readonly #waiting: PromiseWithResolvers<FromSockets>[] = [];
  #error: VnicError | null = null;

  constructor(rig: Rig, netns: string) {
    this.#child = spawn('nsenter', [`--net=/run/netns/${netns}`, process.execPath, script], {
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    });
    rig.own(this.#child);
    this.#child.on('message', (message: FromSockets) => this.#waiting.shift()?.resolve(message));
    const fail = (reason: string): void => {
      this.#error = new VnicError('failed', `A process with sockets in ${netns} ${reason}.`);
      for (const waiting of this.#waiting.splice(0)) waiting.reject(this.#error);
    };
    this.#child.once('error', (error) => fail(`could not be started: ${error.message}`));
    this.#child.once('exit', (code, signal) => fail(`ended with ${signal ?? `code ${code}`}`));
  }

  /** The child answers each message with one. */
  ask(message: ToSockets): Promise<FromSockets> {
    if (this.#error !== null) return Promise.reject(this.#error);
    const waiting = Promise.withResolvers<FromSockets>();
    this.#waiting.push(waiting);
    this.#child.send(message);
    return waiting.promise;
  }

  end(): void {
    if (this.#child.connected) this.#child.disconnect();
  }
}

/** Resolves when all connections are there and send. */
export async function startSockets(rig: Rig, options: SocketOptions): Promise<SocketTraffic> {
  const { protocol, family = 4, port = 9000, connections = 1, messageBytes = 1000, messagesPerSecond = 100 } = options;
  const address = family === 4 ? rig.host.ipv4 : rig.host.ipv6;
  const plan: SocketPlan = { protocol, address, port, connections, messageBytes, messagesPerSecond };
  const server = new Endpoint(rig, rig.netns);
  const client = new Endpoint(rig, rig.az(options.az).netns);
  await server.ask({ kind: 'serve', plan });
  const { ports: clientPorts } = await client.ask({ kind: 'connect', plan });

  const progress = async (): Promise<SocketReport> => {
    const [ofClient, ofServer] = await Promise.all([client.ask({ kind: 'ask' }), server.ask({ kind: 'ask' })]);
    return { client: ofClient.counts, server: ofServer.counts };
  };
  return {
    clientPorts,
    progress,
    async stop() {
      await client.ask({ kind: 'finish' });
      const report = await progress();
      client.end();
      server.end();
      return report;
    },
  };
}
