// SPDX-License-Identifier: Apache-2.0
/** A client that sends bytes as they are and reads answers strictly; for requests that no proper client would send. */
import { connect, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';

export type Endpoint = { path: string } | { host: string; port: number };

export interface WireAnswer {
  status: number;
  /** Status line and fields. */
  head: string;
  body: Buffer;
  /** The connection ends with this answer. */
  closes: boolean;
}

const END_OF_HEAD = '\r\n\r\n';

/**
 * The first answer in `bytes`; null: more has to come. 1xx answers are skipped. Throws for what is no answer at all.
 * @param isHead the request was HEAD, whose answer has no body
 */
export function readAnswer(bytes: Buffer, isHead: boolean): { answer: WireAnswer; rest: Buffer } | null {
  const end = bytes.indexOf(END_OF_HEAD);
  if (end === -1) return null;
  const head = bytes.toString('latin1', 0, end);
  const rest = bytes.subarray(end + END_OF_HEAD.length);
  const status = Number(/^HTTP\/1\.1 (\d{3}) /.exec(head)?.[1] ?? 'NaN');
  if (Number.isNaN(status)) throw new Error(`this is no HTTP answer: ${JSON.stringify(head.slice(0, 200))}`);
  if (status < 200) return readAnswer(rest, isHead);
  const closes = /\r\nconnection: *close/i.test(head);
  const length = /\r\ncontent-length: *(\d+)/i.exec(head)?.[1];
  if (length === undefined && status !== 204 && status !== 304 && !/text\/event-stream/.test(head)) {
    throw new Error(`an answer of unknown length: ${head}`);
  }
  const bodyLength = isHead ? 0 : Number(length ?? 0);
  if (rest.length < bodyLength) return null;
  return {
    answer: { status, head, body: rest.subarray(0, bodyLength), closes },
    rest: rest.subarray(bodyLength),
  };
}

interface Waiting {
  isHead: boolean;
  resolve: (answer: WireAnswer) => void;
  reject: (error: Error) => void;
}

/** One request at a time over a connection that is kept as long as the other side keeps it. */
export class KeptConnection {
  readonly #endpoint: Endpoint;
  #socket: Socket | null = null;
  #chunks: Buffer[] = [];
  #waiting: Waiting | null = null;

  constructor(endpoint: Endpoint) {
    this.#endpoint = endpoint;
  }

  /** Rejects if the connection ends before the answer. */
  async exchange(bytes: Buffer, isHead: boolean): Promise<WireAnswer> {
    const isReused = this.#socket !== null;
    try {
      return await this.#send(bytes, isHead);
    } catch (error) {
      // An idle connection may be closed by the other side just when it is used again (RFC 9112, 9.3.1).
      if (!isReused || !(error instanceof ConnectionEnded) || error.received > 0) throw error;
      return await this.#send(bytes, isHead);
    }
  }

  async #send(bytes: Buffer, isHead: boolean): Promise<WireAnswer> {
    const socket = this.#socket ?? this.#open();
    const { promise, resolve, reject } = Promise.withResolvers<WireAnswer>();
    this.#waiting = { isHead, resolve, reject };
    socket.write(bytes);
    const answer = await promise;
    if (answer.closes) this.close();
    return answer;
  }

  #open(): Socket {
    const socket = connect(this.#endpoint);
    this.#socket = socket;
    this.#chunks = [];
    socket.setNoDelay(true);
    let failure = 'closed';
    socket.on('error', (error) => {
      failure = error.message;
    });
    socket.on('data', (chunk) => this.#take(chunk));
    socket.on('close', () => {
      if (this.#socket !== socket) return;
      this.#socket = null;
      const received = this.#chunks.reduce((sum, { length }) => sum + length, 0);
      this.#settle((waiting) => waiting.reject(new ConnectionEnded(failure, received)));
    });
    return socket;
  }

  #take(chunk: Buffer): void {
    this.#chunks.push(chunk);
    if (this.#waiting === null) return;
    const bytes = this.#chunks.length === 1 ? chunk : Buffer.concat(this.#chunks);
    this.#chunks = [bytes];
    try {
      const read = readAnswer(bytes, this.#waiting.isHead);
      if (read === null) return;
      this.#chunks = [];
      const { answer, rest } = read;
      // Who cannot read the request does not know that it was HEAD.
      if (rest.length > 0 && !(this.#waiting.isHead && answer.closes))
        throw new Error(`bytes after the answer: ${rest.toString('latin1', 0, 200)}`);
      this.#settle((waiting) => waiting.resolve(answer));
    } catch (error) {
      this.#settle((waiting) => waiting.reject(error as Error));
    }
  }

  #settle(how: (waiting: Waiting) => void): void {
    const waiting = this.#waiting;
    this.#waiting = null;
    if (waiting !== null) how(waiting);
  }

  close(): void {
    const socket = this.#socket;
    this.#socket = null;
    socket?.destroy();
  }
}

export class ConnectionEnded extends Error {
  /** Bytes of an unfinished answer. */
  readonly received: number;

  constructor(reason: string, received: number) {
    super(`the connection ended without an answer (${reason})`);
    this.received = received;
  }
}

/** What is done on a connection of its own: bytes to send, or a pause. */
export interface Script {
  steps: readonly (Buffer | { pauseMs: number })[];
  /** `wait`: until the other side closes; `finish`: say that nothing more comes, then wait; `abort`: go away at once. */
  end: 'wait' | 'finish' | 'abort';
}

export interface ScriptResult {
  answers: WireAnswer[];
  /** What came after them. */
  rest: Buffer;
  /** Neither side closed within the time given. */
  hangs: boolean;
}

export async function perform(endpoint: Endpoint, script: Script, limitMs: number): Promise<ScriptResult> {
  const socket = connect({ ...endpoint, allowHalfOpen: true });
  const chunks: Buffer[] = [];
  const closed = Promise.withResolvers<boolean>();
  socket.on('data', (chunk) => chunks.push(chunk));
  // The other side may close while we still send.
  socket.on('error', () => {});
  socket.on('end', () => socket.end());
  socket.on('close', () => closed.resolve(false));
  const limit = setTimeout(() => closed.resolve(true), limitMs);
  for (const step of script.steps) {
    if (Buffer.isBuffer(step)) socket.write(step);
    else await sleep(step.pauseMs);
  }
  if (script.end === 'finish') socket.end();
  else if (script.end === 'abort') socket.destroy();
  const hangs = await closed.promise;
  clearTimeout(limit);
  socket.destroy();
  return { ...readAll(Buffer.concat(chunks)), hangs };
}

function readAll(bytes: Buffer): { answers: WireAnswer[]; rest: Buffer } {
  const answers: WireAnswer[] = [];
  let rest = bytes;
  for (;;) {
    const read = readAnswer(rest, false);
    if (read === null) return { answers, rest };
    answers.push(read.answer);
    rest = read.rest;
  }
}
