// SPDX-License-Identifier: Apache-2.0
/** The generator's process: pinned to one CPU, paced, bounded; ends with its parent. */
import { setPriority } from 'node:os';
import { loadNative, type Native } from '../../src/loader/ffi/index.ts';
import { runOnCpus } from '../support/run-on-cpus.ts';
import { GeneratorKernel, type StreamPlan } from './generator-kernel.ts';

/** A stream and its pace. */
export interface PacedStream extends StreamPlan {
  /** Packets a second; Infinity: as many as go. */
  ratePps: number;
}

export interface GeneratorPlan {
  streams: readonly PacedStream[];
  /** Namespaces for `GeneratorKernel`. */
  seats: readonly string[];
  cpu: number;
  batch: number;
  tickMs: number;
  durationMs: number;
}

export type ToGenerator =
  | { kind: 'plan'; plan: GeneratorPlan }
  | { kind: 'rates'; ratesPps: number[] }
  | { kind: 'cut'; stream: number; isCut: boolean }
  | { kind: 'ask' }
  | { kind: 'stop' };

export interface GeneratorCounts {
  /** Packets of each flow, in the order of the plan. */
  sent: Float64Array;
  /** CLOCK_MONOTONIC of each stream's last packet; 0n: it sent none. */
  lastNs: bigint[];
  /** Since the first packet. */
  elapsedMs: number;
  /** Packets that were due while the process could not run, and were left out to send no burst. */
  forgone: number;
  /** CPU time since the first packet. */
  cpuMs: number;
}

export interface StreamCut {
  /** CLOCK_MONOTONIC of the stream's last packet. */
  lastNs: bigint;
  /** Longest time between two packets since it began, or was restored. */
  longestGapNs: number;
}

export type FromGenerator =
  | { kind: 'started' }
  | { kind: 'counts' | 'finished'; counts: GeneratorCounts }
  | { kind: 'cut'; cut: StreamCut };

/** A process that was held up sends at most what was due in this time, or in two turns. */
const longestBurstMs = 4;
/** As many as go: packets a turn. */
const floodPackets = 4096;

/** A network card does not wait for other processes; the CPUMAP threads, which do the work behind it, come first. */
const generatorNice = -15;

function pinToCpu(native: Native, cpu: number): void {
  setPriority(generatorNice);
  runOnCpus({ native, cpus: [cpu] });
}

class Generator {
  readonly #kernel: GeneratorKernel;
  readonly #plan: GeneratorPlan;
  readonly #credit: number[];
  readonly #isCut: boolean[];
  #ratesPps: number[];
  #startMs = performance.now();
  #startCpu = process.cpuUsage();
  #forgone = 0;
  #stopped = false;

  constructor(native: Native, plan: GeneratorPlan) {
    this.#plan = plan;
    this.#kernel = new GeneratorKernel(native, plan.streams, plan.seats, plan.batch);
    this.#ratesPps = plan.streams.map((stream) => stream.ratePps);
    this.#credit = plan.streams.map(() => 0);
    this.#isCut = plan.streams.map(() => false);
  }

  stop(): void {
    this.#stopped = true;
  }

  setRates(ratesPps: number[]): void {
    this.#ratesPps = ratesPps;
  }

  /** Runs between two turns, so that a stream that is cut has sent its last packet. */
  setCut(stream: number, isCut: boolean): StreamCut {
    this.#isCut[stream] = isCut;
    this.#credit[stream] = 0;
    const cut = { lastNs: this.#kernel.lastNs(stream), longestGapNs: this.#kernel.longestGapNs(stream) };
    if (!isCut) this.#kernel.forgetGaps(stream);
    return cut;
  }

  counts(): GeneratorCounts {
    const { user, system } = process.cpuUsage(this.#startCpu);
    return {
      sent: this.#kernel.sent(),
      lastNs: this.#plan.streams.map((_, stream) => this.#kernel.lastNs(stream)),
      elapsedMs: performance.now() - this.#startMs,
      forgone: Math.floor(this.#forgone),
      cpuMs: (user + system) / 1000,
    };
  }

  async run(): Promise<void> {
    const never = new Int32Array(new SharedArrayBuffer(4));
    this.#startMs = performance.now();
    this.#startCpu = process.cpuUsage();
    let last = this.#startMs;
    while (!this.#stopped) {
      const now = performance.now();
      let isDone = true;
      for (let stream = 0; stream < this.#credit.length; stream++) {
        if (this.#serve(stream, now - last)) isDone = false;
      }
      last = now;
      if (isDone || now - this.#startMs >= this.#plan.durationMs) return;
      await new Promise(setImmediate);
      // A timer of the event loop is not fine enough.
      const waitMs = now + this.#plan.tickMs - performance.now();
      if (waitMs > 0) Atomics.wait(never, 0, 0, waitMs);
    }
  }

  /** Sends what is due; false when the stream has sent all it had to. */
  #serve(stream: number, sinceLastMs: number): boolean {
    const remaining = this.#kernel.remaining(stream);
    if (remaining === 0) return false;
    if (this.#isCut[stream]) return true;
    const rate = this.#ratesPps[stream]!;
    let due = floodPackets;
    if (Number.isFinite(rate)) {
      const credit = this.#credit[stream]! + (rate * sinceLastMs) / 1000;
      const most = Math.max(1, (rate * Math.max(longestBurstMs, 2 * this.#plan.tickMs)) / 1000);
      this.#forgone += Math.max(0, credit - most);
      this.#credit[stream] = Math.min(credit, most);
      due = Math.floor(this.#credit[stream]);
    }
    let packets = Math.min(due, remaining);
    // The kernel sends whole batches; what is left over is sent with the next turn.
    if (packets > this.#plan.batch) packets -= packets % this.#plan.batch;
    if (packets > 0) this.#kernel.send(stream, packets);
    this.#credit[stream]! -= packets;
    return true;
  }
}

function send(message: FromGenerator): Promise<void> {
  return new Promise((resolve) => {
    process.send?.(message, undefined, undefined, () => resolve());
  });
}

let generator: Generator | null = null;

async function start(plan: GeneratorPlan): Promise<void> {
  const native = loadNative();
  pinToCpu(native, plan.cpu);
  generator = new Generator(native, plan);
  await send({ kind: 'started' });
  await generator.run();
  await send({ kind: 'finished', counts: generator.counts() });
  process.disconnect();
}

process.on('message', (message: ToGenerator) => {
  switch (message.kind) {
    case 'plan':
      // A rejection ends the process, and its parent sees that.
      void start(message.plan);
      break;
    case 'rates':
      generator?.setRates(message.ratesPps);
      break;
    case 'cut':
      if (generator !== null) void send({ kind: 'cut', cut: generator.setCut(message.stream, message.isCut) });
      break;
    case 'ask':
      if (generator !== null) void send({ kind: 'counts', counts: generator.counts() });
      break;
    case 'stop':
      generator?.stop();
      break;
  }
});
// A terminal's interrupt goes to the whole group; the parent decides when this process ends.
process.on('SIGINT', () => {});
process.on('disconnect', () => process.exit());
