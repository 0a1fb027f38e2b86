// SPDX-License-Identifier: Apache-2.0
/**
 * The engine performs operations in a worker thread, so that compiling and loading rules never keeps the main thread from
 * answering. This is its face on the main thread; engine-worker.ts is the other side.
 */
import { Worker } from 'node:worker_threads';
import type { ApiEvent, ApiRequest, ApiResponse } from '../api/operation.ts';
import { problemResponse } from '../api/problem.ts';
import type { SpecView } from '../app/spec-parts.ts';
import type { Config } from '../config/config.ts';
import { VnicError } from '../errors.ts';
import { programFile } from '../project.ts';
import type { MetricsRequest } from './metrics.ts';
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
  /** Of vnicctl. */
  version: string;
}

/** From the main thread to the worker. */
export type ToEngine =
  | { kind: 'call'; id: number; operation: string; request: ApiRequest }
  | ({ kind: 'metrics'; id: number } & MetricsRequest)
  | { kind: 'look'; id: number }
  | { kind: 'ping'; id: number }
  | { kind: 'reload'; id: number; config: Config | null }
  | { kind: 'stop' };

/** From the worker to the main thread. */
export type FromEngine =
  | { kind: 'answer'; id: number; response: ApiResponse }
  /** Of metrics only when they could not be had. */
  | { kind: 'done'; id: number; error: { message: string; remedy: string | null } | null }
  | { kind: 'metrics'; id: number; body: Uint8Array }
  | { kind: 'looked'; id: number; devices: SpecView[] }
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
  readonly #metrics = new Map<number, Waiting<Uint8Array>>();
  readonly #looks = new Map<number, Waiting<SpecView[]>>();
  #count = 0;
  #ended: string | null = null;
  readonly ready: Promise<void>;
  /** Resolves with the reason when the worker has ended, whyever. */
  readonly ended: Promise<string>;

  constructor(options: EngineOptions, onEvent: (event: ApiEvent) => void) {
    this.#worker = new Worker(programFile('daemon/engine-worker'), { workerData: options });
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
        case 'metrics':
          this.#metrics.get(message.id)?.resolve(message.body);
          this.#metrics.delete(message.id);
          return;
        case 'looked':
          this.#looks.get(message.id)?.resolve(message.devices);
          this.#looks.delete(message.id);
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
      for (const { reject } of [...this.#done.values(), ...this.#metrics.values(), ...this.#looks.values()])
        reject(error);
      this.#done.clear();
      this.#metrics.clear();
      this.#looks.clear();
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

  /** What the metrics say of the machine and of each device: text without its end, or JSON. */
  metrics(request: MetricsRequest): Promise<Uint8Array> {
    return this.#ask(this.#metrics, { kind: 'metrics', id: ++this.#count, ...request });
  }

  /** Devices of the daemon's own namespace, with what a fleet looks at. */
  look(): Promise<SpecView[]> {
    return this.#ask(this.#looks, { kind: 'look', id: ++this.#count });
  }

  /** Resolves when the engine has come round to it. */
  ping(): Promise<void> {
    return this.#ask(this.#done, { kind: 'ping', id: ++this.#count });
  }

  /** Applies the configuration. Rejects with what kept it from that. */
  reload(config: Config | null): Promise<void> {
    return this.#ask(this.#done, { kind: 'reload', id: ++this.#count, config });
  }

  /** Lets the operation that is being performed finish. */
  async stop(): Promise<void> {
    this.#worker.postMessage({ kind: 'stop' } satisfies ToEngine);
    await this.ended;
  }

  #ask<T>(waiting: Map<number, Waiting<T>>, message: ToEngine & { id: number }): Promise<T> {
    if (this.#ended !== null) return Promise.reject(new Error(this.#ended));
    const { promise, resolve, reject } = Promise.withResolvers<T>();
    waiting.set(message.id, { resolve, reject });
    this.#post(message, null);
    return promise;
  }

  #finish({ id, error }: FromEngine & { kind: 'done' }): void {
    if (error === null) {
      this.#done.get(id)?.resolve();
    } else {
      const failure = new VnicError('failed', error.message, error.remedy === null ? {} : { remedy: error.remedy });
      (this.#done.get(id) ?? this.#metrics.get(id))?.reject(failure);
    }
    this.#done.delete(id);
    this.#metrics.delete(id);
  }

  /** A body that has its memory to itself is handed over, not copied. */
  #post(message: ToEngine, body: Uint8Array | null): void {
    this.#worker.postMessage(message, transferOf(body));
  }
}
