// SPDX-License-Identifier: Apache-2.0
/**
 * What a daemon does for its devices many times a second: it lets the kernel's watch know that it is alive, and takes
 * over what the watch did by itself.
 */
import { deviceText } from '../loader/pins.ts';
import type { AttachedDevice } from './attached-device.ts';
import type { AdoptedLoss } from './az-steering.ts';
import { beat, endHeartbeat, type LossCause, needsWatch, refusedLoss } from './az-watch.ts';
import type { Controller } from './controller.ts';
import type { Publish } from './keeper.ts';

const OFTEN_MS = 20;
/** No watch runs then, which would find a heartbeat stale or lose an AZ; a user who looks sees a fresh one. */
const SELDOM_MS = 500;

export class Guard {
  readonly #controller: Pick<Controller, 'heldOpen' | 'withDevice'>;
  readonly #publish: Publish;
  /** Devices whose losses could not be taken over, and why: told once. */
  readonly #refused = new Map<string, string>();
  /** By device and AZ: why the kernel would take it out of use, if it could. */
  readonly #refusedLosses = new Map<string, LossCause>();

  constructor(controller: Pick<Controller, 'heldOpen' | 'withDevice'>, publish: Publish) {
    this.#controller = controller;
    this.#publish = publish;
  }

  /** Costs a few loads and stores for each device. Never throws. True: something was taken over. */
  look(): boolean {
    let found = false;
    for (const attached of this.#controller.heldOpen()) {
      this.#beat(attached);
      this.#tellRefusals(attached);
      if (attached.steering.hasUnrecordedLosses()) this.#adopt(attached);
      for (const loss of attached.steering.takeAdopted()) {
        this.#publish({ type: 'az.failed', device: deviceText(attached.record.device), data: lossData(loss) });
        found = true;
      }
    }
    return found;
  }

  #beat({ dataplane, record, config }: AttachedDevice): void {
    const staleMs = beat(dataplane);
    if (staleMs === 0) return;
    const data = { staleMs, policy: config.failover.deadman };
    this.#publish({ type: 'daemon.was_stale', device: deviceText(record.device), data });
  }

  /** What the kernel would do and has no table for, once for each time that it comes to that. */
  #tellRefusals({ dataplane, record, config }: AttachedDevice): void {
    const text = deviceText(record.device);
    config.azs.forEach(({ name }, index) => {
      const loss = refusedLoss(dataplane, index + 1);
      const key = `${text} ${name}`;
      if (this.#refusedLosses.get(key) === (loss ?? undefined)) return;
      if (loss === null) {
        this.#refusedLosses.delete(key);
        return;
      }
      this.#refusedLosses.set(key, loss);
      const message = `Without AZ ${name} too few queues would be left.`;
      const remedy = `Recover another AZ, lower panic_share, or: vnicctl az fail ${name} --force`;
      const data = { az: name, cause: loss, code: 'policy_refused', message, remedy };
      this.#publish({ type: 'az.fail_refused', device: text, data });
    });
  }

  #adopt({ record }: AttachedDevice): void {
    const text = deviceText(record.device);
    try {
      this.#controller.withDevice(record.device, (attached) => {
        attached.steering.adoptLosses();
        attached.redirecting.followQueues();
      });
      this.#refused.delete(text);
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error);
      if (this.#refused.get(text) === message) return;
      this.#refused.set(text, message);
      this.#publish({ type: 'device.failed', device: text, data: { what: 'take over lost AZs', message } });
    }
  }

  /** How long to wait for the next look: not long where the kernel may switch by itself, in ms. */
  get intervalMs(): number {
    return this.#controller.heldOpen().some(({ config }) => needsWatch(config)) ? OFTEN_MS : SELDOM_MS;
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
