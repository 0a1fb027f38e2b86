// SPDX-License-Identifier: Apache-2.0
/**
 * What the driver says that XDP dropped, held against what the programs dropped. A driver also drops frames that no
 * program sees: virtio_net those that are partially checksummed or whose segmentation was left to the receiver
 * (drivers/net/virtio_net.c, receive_small and receive_mergeable), and what could not be redirected. Pure.
 */
import type { QueueCounters } from './counters.ts';
import { type Part, unavailable } from './metrics/part.ts';

export interface QueueDriverDrops {
  queue: number;
  /** As the driver counts, since the device was made. */
  driver: bigint;
  /** Of these, what the programs did not drop, since the first look. */
  unexplained: bigint;
}

/** virtio_net up to 6.9 and veth write rx_queue_0_xdp_drops, later virtio_net rx0_xdp_drops. */
const XDP_DROPS = /^rx(?:_queue_)?(\d+)_xdp_drops$/;

/** @param statistics of `ethtool -S`. By queue. */
export function xdpDropsOf(statistics: ReadonlyMap<string, bigint>): Map<number, bigint> {
  const drops = new Map<number, bigint>();
  for (const [name, value] of statistics) {
    const queue = XDP_DROPS.exec(name)?.[1];
    if (queue !== undefined) drops.set(Number(queue), value);
  }
  return drops;
}

interface Baseline {
  driver: bigint;
  ours: bigint;
  unexplained: bigint;
}

export class DriverDrops {
  readonly #baselines = new Map<number, Baseline>();

  /**
   * @param statistics of the driver, or why there are none
   * @param ours read after the statistics, so that what is dropped in between is not taken for the driver's
   */
  update(
    statistics: ReadonlyMap<string, bigint> | string,
    ours: readonly Pick<QueueCounters, 'queue' | 'droppedPackets'>[],
  ): Part<QueueDriverDrops[]> {
    if (typeof statistics === 'string') return unavailable(statistics);
    const drops = xdpDropsOf(statistics);
    if (drops.size === 0) return unavailable('the driver does not count by queue what XDP drops');
    const dropped = new Map(ours.map(({ queue, droppedPackets }) => [queue, droppedPackets]));
    return [...drops].map(([queue, driver]) => {
      const unexplained = this.#unexplained(queue, driver, dropped.get(queue) ?? 0n);
      return { queue, driver, unexplained };
    });
  }

  #unexplained(queue: number, driver: bigint, ours: bigint): bigint {
    const baseline = this.#baselines.get(queue);
    // A driver that counts from 0 again has a new device.
    if (baseline === undefined || driver < baseline.driver || ours < baseline.ours) {
      this.#baselines.set(queue, { driver, ours, unexplained: baseline?.unexplained ?? 0n });
      return baseline?.unexplained ?? 0n;
    }
    const difference = driver - baseline.driver - (ours - baseline.ours);
    if (difference <= 0n) return baseline.unexplained;
    // What was said to be unexplained is not taken back: from here on it is counted anew.
    const unexplained = baseline.unexplained + difference;
    this.#baselines.set(queue, { driver, ours, unexplained });
    return unexplained;
  }
}
