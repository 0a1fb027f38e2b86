// SPDX-License-Identifier: Apache-2.0
/** A replay dataplane on the reference parser: counts flows, steers and drops nothing. */

import type { ReplayDataplane, ReplayedFlow } from '../../src/captures/replay.ts';
import { referenceParse, resultText } from './reference-parser.ts';

export class ReferenceDataplane implements ReplayDataplane {
  readonly #flows = new Map<string, ReplayedFlow>();
  readonly #unparsed: Record<string, number> = {};
  /** The times that were given, in order. */
  readonly timesNs: bigint[] = [];

  run(frame: Uint8Array, timeNs: bigint, wireBytes: number): void {
    this.timesNs.push(timeNs);
    const result = referenceParse(frame, wireBytes);
    if ('unparsed' in result) {
      this.#unparsed[result.unparsed] = (this.#unparsed[result.unparsed] ?? 0) + 1;
      return;
    }
    const text = resultText(result);
    const flow = this.#flows.get(text) ?? {
      key: result,
      packets: 0n,
      bytes: 0n,
      droppedPackets: 0n,
      queue: null,
      az: null,
      rule: null,
      verdict: 'pass',
    };
    this.#flows.set(text, { ...flow, packets: flow.packets + 1n, bytes: flow.bytes + BigInt(wireBytes) });
  }

  flows(): Iterable<ReplayedFlow> {
    return this.#flows.values();
  }

  unparsed(): Record<string, number> {
    return this.#unparsed;
  }
}
