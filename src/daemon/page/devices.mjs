// SPDX-License-Identifier: Apache-2.0
/** Which devices there are, and which one is looked at: the part of the address after # names it. */
import { byId, element, KeyedViews, setAttribute, setText } from './dom.mjs';

/** @import { DeviceSummary } from './types.ts' */

class DeviceLink {
  #link = element('a', { href: '#' });
  root = element('li', {}, this.#link);

  /**
   * @param {DeviceSummary} summary
   * @param {boolean} isChosen
   */
  show({ device, state }, isChosen) {
    setText(this.#link, state === 'attached' ? device : `${device} (${state})`);
    setAttribute(this.#link, 'href', `#${encodeURIComponent(device)}`);
    setAttribute(this.#link, 'aria-current', isChosen ? 'true' : null);
  }
}

export class DevicesView {
  /** @type {KeyedViews<DeviceSummary, DeviceLink>} */
  #links = new KeyedViews(
    byId('devices', HTMLElement),
    () => new DeviceLink(),
    (link, summary) => link.show(summary, summary.device === this.#chosen),
  );
  #chosen = '';

  /** @param {() => void} onChange another one is looked at */
  constructor(onChange) {
    addEventListener('hashchange', onChange);
  }

  /**
   * @param {readonly DeviceSummary[]} devices
   * @returns {DeviceSummary | null} the one to look at
   */
  show(devices) {
    const named = nameOf(location.hash);
    const chosen = devices.find(({ device }) => device === named) ?? devices[0] ?? null;
    this.#chosen = chosen?.device ?? '';
    this.#links.show(devices, ({ device }) => device);
    return chosen;
  }
}

/** @param {string} hash */
function nameOf(hash) {
  try {
    return decodeURIComponent(hash.slice(1));
  } catch {
    return '';
  }
}
