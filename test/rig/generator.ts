// SPDX-License-Identifier: Apache-2.0
/**
 * Traffic from the AZs towards the host: UDP packets with flow, sequence and time in them, made by a BPF program in a
 * process of its own. What it counts as sent has left the AZ.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { join } from 'node:path';

import { VnicError } from '../../src/errors.ts';
import type { RigFlow } from './flows.ts';
import type {
  FromGenerator,
  GeneratorCounts,
  GeneratorPlan,
  PacedStream,
  StreamCut,
  ToGenerator,
} from './generator-child.ts';
import type { Rig } from './topology.ts';

export interface GeneratorOptions {
  /** From any AZs; a flow belongs to one generator. */
  flows: readonly RigFlow[];
  /** Packets a second of all flows together, each flow with the same share; Infinity: as many as go. */
  ratePps: number;
  /** CPU that makes the packets and carries them up to the dataplane's redirect. Default 0. */
  cpu?: number;
  /** Ends after so many packets in all, whichever of the two comes first. */
  packets?: number;
  /** Default 60 s. */
  durationMs?: number;
  /** Frames that the kernel sends at a time. Default 64; above 128 a veth ring of 256 can overflow. */
  batch?: number;
  /** Time between bursts. Default 1 ms. */
  tickMs?: number;
}

export interface GeneratorReport {
  /** Packets in all. */
  sent: number;
  /** Packets by flow id. */
  sentByFlow: ReadonlyMap<number, number>;
  /** Packets by name of the AZ. */
  sentByAz: ReadonlyMap<string, number>;
  /** CLOCK_MONOTONIC of the last packet by name of the AZ; 0n: it sent none. */
  lastNsByAz: ReadonlyMap<string, bigint>;
  elapsedMs: number;
  /** Packets that were due while the process could not run, and were left out to send no burst. */
  forgone: number;
  /** CPU time of its process while it sent, the packets' way up to the dataplane's redirect included. */
  cpuMs: number;
}

export interface Generator {
  /** Resolves when it has stopped by itself or by `stop()`; rejects with `failed` when its process died. */
  readonly finished: Promise<GeneratorReport>;
  stop(): Promise<GeneratorReport>;
  /** Changes the rate of all flows together. */
  setRate(ratePps: number): void;
  /** Nothing more is made in this AZ; the others go on. One at a time. */
  cut(az: string): Promise<StreamCut>;
  restore(az: string): Promise<void>;
  /** What was sent so far. */
  progress(): Promise<GeneratorReport>;
}

const childScript = join(import.meta.dirname, 'generator-child.ts');
const noLimit = Number.MAX_SAFE_INTEGER;

/** Shares `total` out in proportion to the weights, in whole numbers that add up to it. */
export function shareOut(total: number, weights: readonly number[]): number[] {
  const sum = weights.reduce((left, right) => left + right, 0);
  let before = 0;
  return weights.map((weight) => {
    const from = Math.round((total * before) / sum);
    before += weight;
    return Math.round((total * before) / sum) - from;
  });
}

function plan(rig: Rig, options: GeneratorOptions): GeneratorPlan {
  const { flows, ratePps, cpu = 0, packets, durationMs = 60_000, batch = 64, tickMs = 1 } = options;
  if (flows.length === 0) throw new VnicError('usage', 'A generator needs at least one flow.');
  const byAz = rig.azs
    .map((az) => ({ az, flows: flows.filter((flow) => flow.az === az.name) }))
    .filter((stream) => stream.flows.length > 0);
  const counts = byAz.map((stream) => stream.flows.length);
  if (counts.reduce((left, right) => left + right, 0) !== flows.length) {
    throw new VnicError('usage', 'A flow comes from an AZ that the rig does not have.');
  }
  const packetShares = packets === undefined ? null : shareOut(packets, counts);
  const streams = byAz.map(
    ({ az, flows: ofAz }, index): PacedStream => ({
      netns: az.netns,
      device: az.device,
      macs: { src: az.generatorMac, dst: rig.host.mac },
      flows: ofAz,
      packets: packetShares === null ? noLimit : packetShares[index]!,
      ratePps: (ratePps * ofAz.length) / flows.length,
    }),
  );
  return { streams, seats: [rig.fabricNetns, ...rig.azs.map((az) => az.netns)], cpu, batch, tickMs, durationMs };
}

function reportOf(
  streams: readonly PacedStream[],
  counts: GeneratorCounts,
  azNames: readonly string[],
): GeneratorReport {
  const sentByFlow = new Map<number, number>();
  const sentByAz = new Map<string, number>(azNames.map((name) => [name, 0]));
  let sent = 0;
  let index = 0;
  const lastNsByAz = new Map(streams.map((stream, number) => [stream.flows[0]!.az, counts.lastNs[number]!]));
  for (const flow of streams.flatMap((stream) => stream.flows)) {
    const packets = counts.sent[index++]!;
    sent += packets;
    sentByFlow.set(flow.id, packets);
    sentByAz.set(flow.az, sentByAz.get(flow.az)! + packets);
  }
  const { elapsedMs, forgone, cpuMs } = counts;
  return { sent, sentByFlow, sentByAz, lastNsByAz, elapsedMs, forgone, cpuMs };
}

/** Resolves when the generator is sending. Throws `usage` or, when its process fails, `failed`. */
export async function startGenerator(rig: Rig, options: GeneratorOptions): Promise<Generator> {
  const { streams, ...rest } = plan(rig, options);
  const child = fork(childScript, { serialization: 'advanced', stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
  rig.own(child);
  const say = (message: ToGenerator): void => {
    // With a callback, because it may end in the same moment: what waits for it is told by its exit.
    if (child.connected) child.send(message, () => {});
  };
  const messages = new Messages(child);
  const started = messages.next('started');
  const finished = messages.next('finished').then(toReport);
  // Who never asks for the result must not get an unhandled rejection for it when the rig is disposed.
  finished.catch(() => {});
  say({ kind: 'plan', plan: { streams, ...rest } });
  await started;

  function toReport(message: FromGenerator): GeneratorReport {
    if (!('counts' in message)) throw new VnicError('failed', 'The generator sent no counts.');
    return reportOf(
      streams,
      message.counts,
      rig.azs.map((az) => az.name),
    );
  }

  const setCut = async (az: string, isCut: boolean): Promise<StreamCut> => {
    const stream = streams.findIndex(({ flows }) => flows[0]?.az === az);
    if (stream < 0) throw new VnicError('usage', `The generator has no flow from ${az}.`);
    const answer = messages.next('cut');
    say({ kind: 'cut', stream, isCut });
    const message = await answer;
    if (message.kind !== 'cut') throw new VnicError('failed', 'The generator did not say what it cut.');
    return message.cut;
  };

  return {
    finished,
    stop() {
      say({ kind: 'stop' });
      return finished;
    },
    setRate(ratePps) {
      const ratesPps = streams.map((stream) => (ratePps * stream.flows.length) / options.flows.length);
      say({ kind: 'rates', ratesPps });
    },
    cut: (az) => setCut(az, true),
    async restore(az) {
      await setCut(az, false);
    },
    progress() {
      const counts = messages.next('counts').then(toReport);
      say({ kind: 'ask' });
      return Promise.race([counts, finished]);
    },
  };
}

/** Waits for a child's messages by kind; its end rejects all who wait. */
class Messages {
  readonly #waiting = new Map<FromGenerator['kind'], PromiseWithResolvers<FromGenerator>>();
  #ended: VnicError | null = null;

  constructor(child: ChildProcess) {
    child.on('message', (message: FromGenerator) => {
      this.#waiting.get(message.kind)?.resolve(message);
      this.#waiting.delete(message.kind);
    });
    child.once('exit', (code, signal) => {
      this.#ended = new VnicError('failed', `The generator's process ended with ${signal ?? `code ${code}`}.`);
      for (const waiting of this.#waiting.values()) waiting.reject(this.#ended);
    });
  }

  next(kind: FromGenerator['kind']): Promise<FromGenerator> {
    if (this.#ended !== null) return Promise.reject(this.#ended);
    const waiting = this.#waiting.get(kind) ?? Promise.withResolvers<FromGenerator>();
    this.#waiting.set(kind, waiting);
    return waiting.promise;
  }
}
