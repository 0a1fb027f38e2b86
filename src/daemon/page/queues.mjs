// SPDX-License-Identifier: Apache-2.0
/** The queues: a heatmap whose cells say in words what their colour says, and a table. */
import { byId, element, KeyedViews, setAttribute, setText, Table } from './dom.mjs';
import { formatShort, formatUnit, formatWhole } from './format.mjs';
import { heatStep } from './rates.mjs';
import { queueFields, queueKey, times } from './traffic.mjs';

/** @import { QueueStatus } from './types.ts' */
/** @import { QueueField } from './traffic.mjs' */

/** @typedef {{ queue: QueueStatus, azIndex: number, rate: (field: QueueField) => number | null }} SeenQueue */

class Cell {
  #number = element('span', { class: 'queue' });
  #rate = element('span', { class: 'rate' });
  #unit = element('span', { class: 'unseen' });
  #az = element('span', { class: 'az' });
  root = element('li', { class: 'cell' }, this.#number, this.#rate, this.#unit, this.#az);

  /**
   * @param {SeenQueue} seen
   * @param {QueueField} field
   * @param {number} largest
   */
  show({ queue, azIndex, rate }, field, largest) {
    const value = shown(rate(field), field);
    setText(this.#number, `${queue.queue}`);
    setText(this.#rate, formatShort(value));
    setText(this.#unit, ` ${unitOf(field)}, `);
    setText(this.#az, queue.usable ? (queue.az ?? 'no AZ') : `lost ${queue.az ?? ''}`);
    setAttribute(this.root, 'data-usable', queue.usable ? 'yes' : 'no');
    setAttribute(this.root, 'data-az', azIndex === -1 ? null : String(azIndex));
    setAttribute(this.root, 'data-heat', queue.usable ? String(heatStep(value, largest)) : null);
    const cpu = queue.cpu === null ? 'no CPU' : `CPU ${queue.cpu}`;
    setAttribute(this.root, 'title', `Queue ${queue.queue}, ${queue.az ?? 'no AZ'}, ${cpu}`);
  }
}

/** @param {QueueField} field */
function unitOf(field) {
  return field.endsWith('Bytes') ? 'bit/s' : 'packets/s';
}

/**
 * @param {number | null} rate
 * @param {QueueField} field
 */
function shown(rate, field) {
  return field.endsWith('Bytes') ? times(rate, 8) : rate;
}

export class QueuesView {
  #field = byId('heat-field', HTMLSelectElement);
  #max = byId('heat-max', HTMLElement);
  /** @type {SeenQueue[]} */
  #seen = [];
  #largest = 0;
  /** @type {KeyedViews<SeenQueue, Cell>} */
  #cells = new KeyedViews(
    byId('heatmap', HTMLElement),
    () => new Cell(),
    (cell, seen) => cell.show(seen, this.#chosen(), this.#largest),
  );
  /** @type {Table<SeenQueue>} */
  #table = new Table(
    byId('queue-table', HTMLTableElement),
    [
      { title: 'Queue', kind: 'number', text: ({ queue }) => `${queue.queue}` },
      { title: 'AZ', kind: 'text', text: ({ queue }) => queue.az ?? '–' },
      {
        title: 'State',
        kind: 'text',
        text: ({ queue }) => (queue.usable ? 'usable' : 'lost'),
        mark: ({ queue }) => (queue.usable ? '' : 'bad'),
      },
      { title: 'CPU', kind: 'number', text: ({ queue }) => formatWhole(queue.cpu) },
      { title: 'Steered p/s', kind: 'number', text: ({ rate }) => formatShort(rate('steeredPackets')) },
      { title: 'Steered bit/s', kind: 'number', text: ({ rate }) => formatShort(times(rate('steeredBytes'), 8)) },
      { title: 'Arrived p/s', kind: 'number', text: ({ rate }) => formatShort(rate('rxPackets')) },
      { title: 'Dropped p/s', kind: 'number', text: ({ rate }) => formatShort(rate('droppedPackets')) },
      { title: 'Sent p/s', kind: 'number', text: ({ rate }) => formatShort(rate('txPackets')) },
      { title: 'Steered packets', kind: 'number', text: ({ queue }) => formatWhole(queue.steeredPackets) },
    ],
    'No queues.',
  );

  constructor() {
    this.#field.addEventListener('change', () => this.#draw());
  }

  clear() {
    this.#seen = [];
    this.#draw();
  }

  /**
   * @param {readonly QueueStatus[]} queues
   * @param {readonly string[]} azNames in the order that gives them their colours
   * @param {(name: string) => number | null} rate of what rateCounters() names
   */
  show(queues, azNames, rate) {
    this.#seen = queues.map((queue) => ({
      queue,
      azIndex: queue.az === null ? -1 : azNames.indexOf(queue.az),
      rate: (field) => rate(queueKey(queue.queue, field)),
    }));
    this.#draw();
  }

  #chosen() {
    return queueFields.find((field) => field === this.#field.value) ?? 'steeredPackets';
  }

  #draw() {
    const field = this.#chosen();
    this.#largest = Math.max(0, ...this.#seen.map(({ rate }) => shown(rate(field), field) ?? 0));
    setText(this.#max, formatUnit(this.#largest, unitOf(field)));
    this.#cells.show(this.#seen, ({ queue }) => String(queue.queue));
    this.#table.show(this.#seen);
  }
}
