// SPDX-License-Identifier: Apache-2.0
/** What a failed AZ has to show again before it is used: what its failure was told by. */
import type { AttachedDevice } from '../app/attached-device.ts';
import { VnicLoss } from '../maps/generated/abi.ts';
import type { Sign } from './az-health.ts';

export class SignsOfLife {
  readonly #az: string;
  /** Of the AZ's prefixes, at the last look. */
  #packets: bigint | null = null;

  constructor(az: string) {
    this.#az = az;
  }

  /** One look. Nothing is asked of an AZ that probes or people failed. */
  look({ dataplane, steering }: Pick<AttachedDevice, 'dataplane' | 'steering'>): Sign[] {
    const { name, cause, config, watch } = steering.named(this.#az);
    const row = steering.rowOf(name);
    const packets = dataplane.azPackets(row);
    const isHeard = this.#packets !== null && packets > this.#packets;
    this.#packets = packets;
    if (cause === null || cause === 'manual' || cause === 'fleet' || cause === 'probe') return [];
    const loss = dataplane.watch.read(0).azs[row]?.loss ?? VnicLoss.none;
    const isUp = (watch?.bfd ?? []).filter(({ state }) => state === 'up').length >= (config.bfd?.quorum ?? 0);
    // A dataplane that was made anew since does not know by what.
    const byBfd = loss === VnicLoss.none ? config.silenceMs === undefined : loss === VnicLoss.bfd;
    return [byBfd ? { name: 'BFD sessions', alive: isUp } : { name: 'packets', alive: isHeard }];
  }
}
