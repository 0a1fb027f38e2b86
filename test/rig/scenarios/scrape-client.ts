// SPDX-License-Identifier: Apache-2.0
/** A scraper that keeps its connection, as Prometheus does, and does next to nothing itself: it shares the CPUs with what it times. */
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';

const REQUEST = 'GET /metrics HTTP/1.1\r\nHost: localhost\r\nAccept: text/plain;version=0.0.4\r\n\r\n';
const HEAD_END = '\r\n\r\n';

export interface TimedScrape {
  /** From the request to the last byte of its answer. */
  ms: number;
  body: Buffer;
}

interface Pending {
  parts: Buffer[];
  bytes: number;
  /** Of head and body; not known before the head has come. */
  expected: number;
  resolve: (answer: Buffer) => void;
  reject: (error: Error) => void;
}

export class ScrapeClient implements Disposable {
  readonly #socket: Socket;
  #pending: Pending | null = null;

  private constructor(socket: Socket) {
    this.#socket = socket;
    socket.on('data', (data: Buffer) => this.#take(data));
    socket.on('error', (error) => this.#pending?.reject(error));
    socket.on('close', () => this.#pending?.reject(new Error('the daemon closed the connection')));
  }

  static async connect(socketPath: string): Promise<ScrapeClient> {
    const socket = connect(socketPath);
    await once(socket, 'connect');
    return new ScrapeClient(socket);
  }

  /** One at a time. Throws where the answer is not 200. */
  async scrape(): Promise<TimedScrape> {
    const { promise, resolve, reject } = Promise.withResolvers<Buffer>();
    this.#pending = { parts: [], bytes: 0, expected: Number.POSITIVE_INFINITY, resolve, reject };
    const startMs = performance.now();
    this.#socket.write(REQUEST);
    const answer = await promise;
    const ms = performance.now() - startMs;
    const status = answer.toString('latin1', 9, 12);
    if (status !== '200') throw new Error(`the scrape was answered with ${status}`);
    return { ms, body: answer.subarray(answer.indexOf(HEAD_END) + HEAD_END.length) };
  }

  #take(data: Buffer): void {
    const pending = this.#pending;
    if (pending === null) return;
    pending.parts.push(data);
    pending.bytes += data.length;
    if (pending.expected === Number.POSITIVE_INFINITY) pending.expected = lengthOf(Buffer.concat(pending.parts));
    if (pending.bytes < pending.expected) return;
    this.#pending = null;
    pending.resolve(Buffer.concat(pending.parts));
  }

  [Symbol.dispose](): void {
    this.#socket.destroy();
  }
}

function lengthOf(answer: Buffer): number {
  const end = answer.indexOf(HEAD_END);
  if (end < 0) return Number.POSITIVE_INFINITY;
  const length = /content-length: (\d+)/i.exec(answer.toString('latin1', 0, end))?.[1];
  if (length === undefined) throw new Error('the answer does not say how long it is');
  return end + HEAD_END.length + Number(length);
}
