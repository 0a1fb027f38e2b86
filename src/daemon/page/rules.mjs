// SPDX-License-Identifier: Apache-2.0
/** A page of the rules: of a hundred thousand, only the rows that are looked at are asked for and drawn. */
import { devicePath, Refused } from './api.mjs';
import { byId, setText, Table } from './dom.mjs';
import { formatAction, formatMatch, formatShort, formatWhole } from './format.mjs';
import { Rates } from './rates.mjs';

/** @import { Api } from './api.mjs' */
/** @import { Page, Rule } from './types.ts' */

export class RulesView {
  #find = byId('rule-id', HTMLInputElement);
  #limit = byId('rules-limit', HTMLSelectElement);
  #place = byId('rules-place', HTMLElement);
  #first = byId('rules-first', HTMLButtonElement);
  #back = byId('rules-back', HTMLButtonElement);
  #next = byId('rules-next', HTMLButtonElement);
  /** Where this page and those before it begin; null: at the beginning. @type {(string | null)[]} */
  #cursors = [null];
  /** @type {string | null} */
  #nextCursor = null;
  /** The one rule that is looked at. @type {number | null} */
  #wanted = null;
  #rates = new Rates();
  /** @type {(name: string) => number | null} */
  #rate = () => null;
  /** @type {Table<Rule>} */
  #table = new Table(
    byId('rule-table', HTMLTableElement),
    [
      { title: 'Id', kind: 'number', text: ({ id }) => String(id) },
      { title: 'Priority', kind: 'number', text: ({ priority }) => String(priority ?? 0) },
      { title: 'Dir', kind: 'text', text: ({ direction }) => (direction === 'egress' ? 'out' : 'in') },
      { title: 'Match', kind: 'text', text: ({ match }) => formatMatch(match) },
      { title: 'Action', kind: 'text', text: formatAction },
      { title: 'Packets', kind: 'number', text: ({ counters }) => formatWhole(counters.packets) },
      { title: 'p/s', kind: 'number', text: ({ id }) => formatShort(this.#rate(String(id))) },
      { title: 'Bytes', kind: 'number', text: ({ counters }) => formatShort(counters.bytes) },
      {
        title: 'Dropped',
        kind: 'number',
        text: ({ counters }) => formatWhole(counters.droppedPackets),
        mark: ({ id }) => ((this.#rate(`${id} dropped`) ?? 0) > 0 ? 'bad' : ''),
      },
    ],
    'No rules.',
  );

  /** @param {() => void} onChange another page is asked for */
  constructor(onChange) {
    const goTo = (/** @type {(string | null)[]} */ cursors) => {
      this.#cursors = cursors;
      this.#wanted = null;
      this.#rates.reset();
      onChange();
    };
    this.#first.addEventListener('click', () => goTo([null]));
    this.#back.addEventListener('click', () => goTo(this.#wanted === null ? this.#cursors.slice(0, -1) : [null]));
    this.#next.addEventListener('click', () => goTo([...this.#cursors, this.#nextCursor]));
    this.#limit.addEventListener('change', () => goTo([null]));
    byId('rule-find', HTMLFormElement).addEventListener('submit', (event) => {
      event.preventDefault();
      const text = this.#find.value.trim();
      goTo([null]);
      this.#wanted = /^\d+$/.test(text) ? Number(text) : null;
    });
  }

  clear() {
    this.#cursors = [null];
    this.#wanted = null;
    this.#rates.reset();
    this.#showRules([], null, '');
  }

  /**
   * Throws Refused, Unreachable.
   * @param {Api} api
   * @param {string} device
   * @param {number} total rules of the device
   * @param {() => boolean} isStill whether the answer is still wanted
   */
  async load(api, device, total, isStill) {
    const [wanted, cursors] = [this.#wanted, this.#cursors];
    const isCurrent = () => isStill() && wanted === this.#wanted && cursors === this.#cursors;
    if (wanted !== null) {
      const rule = await this.#one(api, device, wanted);
      if (!isCurrent()) return;
      const place = rule === null ? `There is no rule ${wanted}.` : `Rule ${wanted} of ${formatWhole(total)}`;
      this.#showRules(rule === null ? [] : [rule], null, place);
      return;
    }
    const limit = Number(this.#limit.value);
    const cursor = cursors.at(-1) ?? null;
    const query = `?limit=${limit}${cursor === null ? '' : `&cursor=${encodeURIComponent(cursor)}`}`;
    /** @type {Page<Rule>} */
    const { items, next } = await api.get(devicePath(device, `/rules${query}`));
    if (!isCurrent()) return;
    const start = (cursors.length - 1) * limit;
    const range = `${formatWhole(start + 1)} to ${formatWhole(start + items.length)}`;
    this.#showRules(
      items,
      next,
      items.length === 0 ? '' : `Rules ${range} of ${formatWhole(total)}, the one that wins first`,
    );
  }

  /**
   * @param {Api} api
   * @param {string} device
   * @param {number} id
   * @returns {Promise<Rule | null>}
   */
  async #one(api, device, id) {
    try {
      return await api.get(devicePath(device, `/rules/${id}`));
    } catch (error) {
      if (error instanceof Refused && error.status < 500 && error.status !== 401) return null;
      throw error;
    }
  }

  /**
   * @param {readonly Rule[]} rules
   * @param {string | null} next
   * @param {string} place
   */
  #showRules(rules, next, place) {
    this.#rate = this.#rates.update(
      rules.flatMap(({ id, counters: { packets, droppedPackets } }) => [
        /** @type {const} */ ([String(id), packets]),
        /** @type {const} */ ([`${id} dropped`, droppedPackets]),
      ]),
      performance.now(),
    );
    this.#table.show(rules);
    this.#nextCursor = next;
    setText(this.#place, place);
    const isFirst = this.#cursors.length === 1 && this.#wanted === null;
    enable(this.#first, !isFirst);
    enable(this.#back, !isFirst);
    enable(this.#next, next !== null);
  }
}

/**
 * Says that it does nothing now, and keeps the focus: a disabled button would lose it.
 * @param {HTMLButtonElement} button
 * @param {boolean} isEnabled
 */
function enable(button, isEnabled) {
  if (document.activeElement !== button) button.disabled = !isEnabled;
  button.setAttribute('aria-disabled', String(!isEnabled));
}
