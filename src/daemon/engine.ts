// SPDX-License-Identifier: Apache-2.0
/**
 * The engine performs operations in a worker thread, so that compiling and loading rules never keeps the main thread from
 * answering. This is its face on the main thread; engine-worker.ts is the other side.
 */
import { Worker } from 'node:worker_threads';
import type { ApiEvent, ApiRequest, ApiResponse } from '../api/operation.ts';
import { problemResponse } from '../api/problem.ts';
import type { Config } from '../config/config.ts';
import { VnicError } from '../errors.ts';
import type { Samples } from './metrics.ts';
import { transferOf } from './transfer.ts';

/** What the HTTP side needs of it. */
export interface Engine {
  /** Never rejects: what goes wrong is in the response. */
  call(operationId: string, request: ApiRequest): Promise<ApiResponse>;
}

export interface EngineOptions {
  stateFolder: string;
  /** Devices of the configuration file, and the hash of each one's section. */
  config: Config | null;
}

/** From the main thread to the worker. */
export type ToEngine =
  | { kind: 'call'; id: number; operation: string; request: ApiRequest }
  | { kind: 'samples'; id: number }
  | { kind: 'ping'; id: number }
  | { kind: 'reload'; id: number; config: Config | null }
  | { kind: 'stop' };

/** From the worker to the main thread. */
export type FromEngine =
  | { kind: 'answer'; id: number; response: ApiResponse }
  /** Of samples only when they could not be taken. */
  | { kind: 'done'; id: number; error: { message: string; remedy: string | null } | null }
  | { kind: 'samples'; id: number; samples: Samples }
  | { kind: 'event'; event: ApiEvent }
  | { kind: 'ready' };

interface Waiting<T> {
  resolve: (value: T) => void;
  reject: (error: Error) => void;
}

export class WorkerEngine implements Engine {
  readonly #worker: Worker;
  readonly #answers = new Map<number, (response: ApiResponse) => void>();
  readonly #done = new Map<number, Waiting<void>>();
  readonly #samples = new Map<number, Waiting<Samples>>();
  #count = 0;
  #ended: string | null = null;
  readonly ready: Promise<void>;
  /** Resolves with the reason when the worker has ended, whyever. */
  readonly ended: Promise<string>;

  constructor(options: EngineOptions, onEvent: (event: ApiEvent) => void) {
    this.#worker = new Worker(new URL('./engine-worker.ts', import.meta.url), { workerData: options });
    const ready = Promise.withResolvers<void>();
    const ended = Promise.withResolvers<string>();
    this.ready = ready.promise;
    this.ended = ended.promise;
    this.#worker.on('message', (message: FromEngine) => {
      switch (message.kind) {
        case 'answer':
          this.#answers.get(message.id)?.(message.response);
          this.#answers.delete(message.id);
          return;
        case 'done':
          this.#finish(message);
          return;
        case 'samples':
          this.#samples.get(message.id)?.resolve(message.samples);
          this.#samples.delete(message.id);
          return;
        case 'event':
          onEvent(message.event);
          return;
        case 'ready':
          ready.resolve();
          return;
      }
    });
    let failure: Error | null = null;
    this.#worker.on('error', (error: Error) => {
      failure = error;
    });
    this.#worker.on('exit', (code) => {
      this.#ended = failure === null ? `it ended with code ${code}` : failure.message;
      const error = new VnicError('not_ready', `The engine of the daemon is gone: ${this.#ended}.`, {
        remedy: 'Look into the log of the daemon and start it again; what is attached goes on.',
        cause: failure,
      });
      for (const answer of this.#answers.values()) answer(problemResponse(error));
      this.#answers.clear();
      for (const { reject } of [...this.#done.values(), ...this.#samples.values()]) reject(error);
      this.#done.clear();
      this.#samples.clear();
      ready.reject(failure ?? error);
      ended.resolve(this.#ended);
    });
    // Whoever waits for readiness sees the failure; nobody has to.
    ready.promise.catch(() => {});
  }

  call(operation: string, request: ApiRequest): Promise<ApiResponse> {
    if (this.#ended !== null) {
      return Promise.resolve(
        problemResponse(new VnicError('not_ready', 'The daemon is stopping.', { remedy: 'Try again in a moment.' })),
      );
    }
    const { promise, resolve } = Promise.withResolvers<ApiResponse>();
    const id = ++this.#count;
    this.#answers.set(id, resolve);
    this.#post({ kind: 'call', id, operation, request }, request.body);
    return promise;
  }

  /** What the metrics say of the machine and of each device. */
  samples(): Promise<Samples> {
    if (this.#ended !== null) return Promise.reject(new Error(this.#ended));
    const waiting = Promise.withResolvers<Samples>();
    const id = ++this.#count;
    this.#samples.set(id, waiting);
    this.#post({ kind: 'samples', id }, null);
    return waiting.promise;
  }

  /** Resolves when the engine has come round to it. */
  ping(): Promise<void> {
    return this.#ask({ kind: 'ping', id: ++this.#count });
  }

  /** Applies the configuration. Rejects with what kept it from that. */
  reload(config: Config | null): Promise<void> {
    return this.#ask({ kind: 'reload', id: ++this.#count, config });
  }

  /** Lets the operation that is being performed finish. */
  async stop(): Promise<void> {
    this.#worker.postMessage({ kind: 'stop' } satisfies ToEngine);
    await this.ended;
  }

  #ask(message: ToEngine & { id: number }): Promise<void> {
    if (this.#ended !== null) return Promise.reject(new Error(this.#ended));
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.#done.set(message.id, { resolve, reject });
    this.#post(message, null);
    return promise;
  }

  #finish({ id, error }: FromEngine & { kind: 'done' }): void {
    if (error === null) {
      this.#done.get(id)?.resolve();
    } else {
      const failure = new VnicError('failed', error.message, error.remedy === null ? {} : { remedy: error.remedy });
      (this.#done.get(id) ?? this.#samples.get(id))?.reject(failure);
    }
    this.#done.delete(id);
    this.#samples.delete(id);
  }

  /** A body that has its memory to itself is handed over, not copied. */
  #post(message: ToEngine, body: Uint8Array | null): void {
    this.#worker.postMessage(message, transferOf(body));
  }
}
