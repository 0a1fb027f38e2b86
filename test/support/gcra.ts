// SPDX-License-Identifier: Apache-2.0
/**
 * A limit in exact integers: the virtual scheduling form of GCRA (ATM Forum TM 4.1, section 4.4.2), with the costs that
 * the program is given. The model of bpf/limiter.h.
 */
import { limiterNumbers } from '../../src/steering/rules/limiter.ts';
import type { Limit } from '../../src/steering/rules/model.ts';

const ticksPerNs = 16n;

export class Gcra {
  readonly #costPerByte: bigint;
  readonly #costPerPacket: bigint;
  readonly #tolerance: bigint;
  #arrival = 0n;

  constructor(limit: Limit) {
    const numbers = limiterNumbers(limit);
    this.#costPerByte = numbers.costPerByte;
    this.#costPerPacket = numbers.costPerPacket;
    this.#tolerance = numbers.tolerance;
  }

  #cost(bytes: number): bigint {
    return this.#costPerPacket + ((BigInt(bytes) * this.#costPerByte) >> 16n);
  }

  /** How long a packet takes at the rate. */
  meanPacketNs(bytes: number): number {
    return Number(this.#cost(bytes)) / Number(ticksPerNs);
  }

  /** How long the burst takes at the rate. */
  get burstNs(): number {
    return Number(this.#tolerance) / Number(ticksPerNs);
  }

  /** True if the packet conforms; it is charged then. */
  take(timeNs: bigint, bytes: number): boolean {
    const now = timeNs * ticksPerNs;
    const cost = this.#cost(bytes);
    const start = this.#arrival > now ? this.#arrival : now;
    const owed = start - now;
    // One that is larger than the burst conforms when nothing is owed.
    const conforms = cost < this.#tolerance ? owed + cost <= this.#tolerance : owed === 0n;
    if (!conforms) return false;
    this.#arrival = start + cost;
    return true;
  }
}
