// SPDX-License-Identifier: Apache-2.0
/** Looks every few seconds whether devices do what they were told, and acts on it. */
import { type DeviceId, deviceText } from '../loader/pins.ts';
import type { AttachedDevice } from './attached-device.ts';
import { asFailure, type Controller } from './controller.ts';
import type { Publish } from './keeper.ts';

export class RedirectKeeper {
  readonly #controller: Pick<Controller, 'records' | 'isPresent' | 'readDevice' | 'withDevice'>;
  readonly #publish: Publish;
  /** By device: what was last told of it. */
  readonly #told = new Map<string, string>();

  constructor(controller: Pick<Controller, 'records' | 'isPresent' | 'readDevice' | 'withDevice'>, publish: Publish) {
    this.#controller = controller;
    this.#publish = publish;
  }

  /** A look costs no lock, a change does. Never throws. */
  run(): void {
    for (const device of this.#controller.records.devices()) {
      try {
        if (this.#controller.isPresent(device)) this.#keep(device);
      } catch (error) {
        const { code, message, remedy = null } = asFailure(error);
        // It vanished meanwhile: the keeper tells that.
        if (code !== 'not_found') this.#tell(device, 'redirect.failed', { code, message, remedy });
      }
    }
  }

  #keep(device: DeviceId): void {
    const due = this.#controller.readDevice(device, ({ redirecting }) => redirecting.due());
    this.#tellDisobedience(device);
    if (due.kind === 'none') return;
    const change = this.#controller.withDevice(device, ({ redirecting }: AttachedDevice) => redirecting.act(due));
    if (change !== null) this.#publish({ type: 'redirect.changed', device: deviceText(device), data: { ...change } });
    else this.#tell(device, 'redirect.told', { reason: due.reason });
  }

  /** A mode that was asked for stays, whatever the device does. */
  #tellDisobedience(device: DeviceId): void {
    const { mode, device: seen } = this.#controller.readDevice(device, ({ redirecting }) => redirecting.sample());
    if (seen?.verdict === 'obeys') this.#told.delete(deviceText(device));
    if (seen?.verdict !== 'disobeys' || mode === 'cpumap') return;
    this.#tell(device, 'redirect.disobeyed', { mode, flows: seen.flows, obeyed: seen.obeyed }, mode);
  }

  /** Once, until something else is told. */
  #tell(device: DeviceId, type: string, data: Record<string, unknown>, says = JSON.stringify(data)): void {
    const text = deviceText(device);
    const key = `${type} ${says}`;
    if (this.#told.get(text) === key) return;
    this.#told.set(text, key);
    this.#publish({ type, device: text, data });
  }
}
