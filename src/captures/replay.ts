// SPDX-License-Identifier: Apache-2.0
/** Runs a capture through a dataplane and says what became of it. */

import { VnicError } from '../errors.ts';
import { addressText } from './address-text.ts';
import type { CapturedFrame } from './frame.ts';

export type ReplayVerdict = 'pass' | 'drop' | 'limit';

export interface ReplayFlowKey {
  /** 16 bytes, IPv4 as v4-mapped. */
  src: Uint8Array;
  dst: Uint8Array;
  sport: number;
  dport: number;
  /** IP protocol number. */
  proto: number;
}

/** A flow as the dataplane counted it. */
export interface ReplayedFlow {
  key: ReplayFlowKey;
  /** All that arrived, dropped ones included. */
  packets: bigint;
  /** Of the frames given to `run`, as long as their `wireBytes`. */
  bytes: bigint;
  droppedPackets: bigint;
  queue: number | null;
  az: string | null;
  rule: number | null;
  verdict: ReplayVerdict;
}

/** The loaded programs, or a model of them. */
export interface ReplayDataplane {
  /**
   * One frame of at least 14 bytes, with its Ethernet header. `timeNs` stands for CLOCK_MONOTONIC; it starts at one
   * second and does not follow the capture's epoch, which a limiter's clock of 1/16 ns could not hold in 64 bits.
   * `wireBytes` is the frame's length, although `frame` may hold less.
   */
  run(frame: Uint8Array, timeNs: bigint, wireBytes: number): void;
  flows(): Iterable<ReplayedFlow>;
  /** Frames without a flow key, by reason (enum vnic_unparsed, lower case, without prefix). */
  unparsed(): Record<string, number>;
}

export interface ReplayFlowReport {
  src: string;
  dst: string;
  srcPort: number;
  dstPort: number;
  proto: number;
  packets: number;
  /** Whole frames, as long as they were on the wire. */
  bytes: number;
  queue: number | null;
  az: string | null;
  rule: number | null;
  verdict: ReplayVerdict;
}

export interface ReplayReport {
  packets: number;
  bytes: number;
  parsed: number;
  unparsed: Record<string, number>;
  flows: ReplayFlowReport[];
}

export interface ReplayOptions {
  /** Called when the capture turns out to be damaged; the report then covers what stood before. Without it: thrown. */
  onDamage?: (error: VnicError) => void;
}

const ethernetBytes = 14;
const tooShortReason = 'truncated_ethernet';
const startNs = 1_000_000_000n;
/** Nine years: what lies further from the first frame is a damaged time. */
const longestNs = 1n << 58n;

/** Time since the first frame; a frame that is older than the first is put at its time. */
function replayTime(timeNs: bigint, firstNs: bigint): bigint {
  const since = timeNs - firstNs;
  if (since < 0n) return startNs;
  return startNs + (since < longestNs ? since : longestNs);
}

class Replay {
  readonly #dataplane: ReplayDataplane;
  #packets = 0;
  #bytes = 0;
  #tooShort = 0;
  #firstNs: bigint | undefined;
  #addedBytes: number | undefined;

  constructor(dataplane: ReplayDataplane) {
    this.#dataplane = dataplane;
  }

  run(frame: CapturedFrame): void {
    this.#refuseMixture(frame);
    this.#packets += 1;
    this.#bytes += frame.wireBytes;
    this.#firstNs ??= frame.timeNs;
    if (frame.ethernet.length < ethernetBytes) {
      this.#tooShort += 1;
      return;
    }
    const timeNs = replayTime(frame.timeNs, this.#firstNs);
    this.#dataplane.run(frame.ethernet, timeNs, frame.wireBytes + frame.addedBytes);
  }

  /**
   * A dataplane is on one device, so its frames have one kind of link header. It also makes the flows' bytes exact:
   * what the Ethernet header added is the same for every packet.
   */
  #refuseMixture(frame: CapturedFrame): void {
    this.#addedBytes ??= frame.addedBytes;
    if (frame.addedBytes === this.#addedBytes) return;
    throw new VnicError('invalid_capture', 'the capture mixes interfaces of different link types', {
      remedy: 'replay one interface at a time: tshark -r FILE -Y frame.interface_id==0 -w NEWFILE',
      details: { interfaceId: frame.interfaceId, linkType: frame.linkType },
    });
  }

  report(): ReplayReport {
    const unparsed: Record<string, number> = {};
    for (const [reason, count] of Object.entries(this.#dataplane.unparsed())) {
      if (count > 0) unparsed[reason] = count;
    }
    if (this.#tooShort > 0) {
      unparsed[tooShortReason] = (unparsed[tooShortReason] ?? 0) + this.#tooShort;
    }
    const without = Object.values(unparsed).reduce((sum, count) => sum + count, 0);
    const flows = [...this.#dataplane.flows()].sort(byBytesThenKey).map((flow) => this.#flowReport(flow));
    return { packets: this.#packets, bytes: this.#bytes, parsed: this.#packets - without, unparsed, flows };
  }

  #flowReport(flow: ReplayedFlow): ReplayFlowReport {
    const { key, queue, az, rule, verdict } = flow;
    const packets = Number(flow.packets);
    return {
      src: addressText(key.src),
      dst: addressText(key.dst),
      srcPort: key.sport,
      dstPort: key.dport,
      proto: key.proto,
      packets,
      bytes: Number(flow.bytes) - packets * (this.#addedBytes ?? 0),
      queue,
      az,
      rule,
      verdict,
    };
  }
}

function byBytesThenKey(a: ReplayedFlow, b: ReplayedFlow): number {
  if (a.bytes !== b.bytes) return a.bytes > b.bytes ? -1 : 1;
  return (
    Buffer.compare(a.key.src, b.key.src) ||
    Buffer.compare(a.key.dst, b.key.dst) ||
    a.key.sport - b.key.sport ||
    a.key.dport - b.key.dport ||
    a.key.proto - b.key.proto
  );
}

/**
 * Gives every frame to the dataplane, in file order, and reports: the object that `vnicctl replay -o json` prints.
 * Throws what `frames` throws, and invalid_capture for a capture that mixes link types, unless `onDamage` takes it.
 */
export function replay(
  frames: Iterable<CapturedFrame>,
  dataplane: ReplayDataplane,
  options: ReplayOptions = {},
): ReplayReport {
  const run = new Replay(dataplane);
  try {
    for (const frame of frames) run.run(frame);
  } catch (error) {
    const isDamage = error instanceof VnicError && error.code === 'invalid_capture';
    if (!isDamage || options.onDamage === undefined) throw error;
    options.onDamage(error);
  }
  return run.report();
}
