// SPDX-License-Identifier: Apache-2.0
/** How much was dropped before and after a policy took effect. */
import type { NodeStatus, Traffic } from '../core/values.ts';
import type { DeviceView } from './ports.ts';

interface Sample {
  ms: number;
  packets: number;
  dropped: number;
}

/** What is compared with: so much before the change. */
const BEFORE_MS = 20_000;

export class TrafficMeter {
  #samples: Sample[] = [];
  #before: Traffic | null = null;
  #since: Sample | null = null;

  note(devices: readonly DeviceView[], ms: number): void {
    const packets = devices.reduce((sum, device) => sum + device.packets, 0);
    const dropped = devices.reduce((sum, device) => sum + device.dropped, 0);
    const last = this.#samples.at(-1);
    // A device came, went or was attached anew: its counters mean something else.
    if (last !== undefined && packets < last.packets) this.#samples = [];
    this.#samples.push({ ms, packets, dropped });
    while (this.#samples.length > 2 && this.#samples[1]!.ms <= ms - BEFORE_MS) this.#samples.shift();
  }

  /** A policy took effect: what comes now is compared with what was until now. */
  begin(): void {
    const [first] = this.#samples;
    const last = this.#samples.at(-1);
    if (first === undefined || last === undefined) return;
    this.#before = difference(first, last);
    this.#since = last;
  }

  report(): NodeStatus['traffic'] {
    const last = this.#samples.at(-1);
    if (this.#before === null || this.#since === null || last === undefined) return null;
    return { before: this.#before, since: difference(this.#since, last) };
  }
}

function difference(from: Sample, to: Sample): Traffic {
  return {
    seconds: (to.ms - from.ms) / 1000,
    packets: Math.max(0, to.packets - from.packets),
    dropped: Math.max(0, to.dropped - from.dropped),
  };
}
