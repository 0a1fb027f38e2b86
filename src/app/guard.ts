// SPDX-License-Identifier: Apache-2.0
/**
 * What a daemon does for its devices many times a second: it lets the kernel's watch know that it is alive, and takes
 * over what the watch did by itself.
 */
import { deviceText } from '../loader/pins.ts';
import type { AttachedDevice } from './attached-device.ts';
import type { AdoptedLoss } from './az-steering.ts';
import { beat, endHeartbeat } from './az-watch.ts';
import type { Controller } from './controller.ts';
import type { Publish } from './keeper.ts';

export class Guard {
  readonly #controller: Pick<Controller, 'heldOpen' | 'withDevice'>;
  readonly #publish: Publish;
  /** Devices whose losses could not be taken over, and why: told once. */
  readonly #refused = new Map<string, string>();

  constructor(controller: Pick<Controller, 'heldOpen' | 'withDevice'>, publish: Publish) {
    this.#controller = controller;
    this.#publish = publish;
  }

  /** Costs a few loads and stores for each device. Never throws. True: something was taken over. */
  look(): boolean {
    let found = false;
    for (const attached of this.#controller.heldOpen()) {
      beat(attached.dataplane);
      if (!attached.steering.hasUnrecordedLosses()) continue;
      if (this.#adopt(attached)) found = true;
    }
    return found;
  }

  #adopt({ record }: AttachedDevice): boolean {
    const text = deviceText(record.device);
    try {
      const losses = this.#controller.withDevice(record.device, (attached) => attached.steering.adoptLosses());
      this.#refused.delete(text);
      for (const loss of losses) this.#publish({ type: 'az.failed', device: text, data: lossData(loss) });
      return losses.length > 0;
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error);
      if (this.#refused.get(text) !== message) {
        this.#refused.set(text, message);
        this.#publish({ type: 'device.failed', device: text, data: { what: 'take over lost AZs', message } });
      }
      return false;
    }
  }

  /** The devices are left to the kernel, on purpose. */
  end(): void {
    for (const { dataplane } of this.#controller.heldOpen()) endHeartbeat(dataplane);
  }
}

function lossData({ az, failed, plan, silentMs }: AdoptedLoss): Record<string, unknown> {
  const { moved, collateral } = plan.summary;
  const { cause, since, evidence = null } = failed;
  return { az, cause, since, evidence, silentMs, moved, collateral, commitNs: null };
}
