// SPDX-License-Identifier: Apache-2.0
/** Rates, latency and counters of the device. */
import { byId, element, setAttribute, setText, Table } from './dom.mjs';
import { formatNs, formatRanges, formatShort, formatUnit, formatWhole } from './format.mjs';
import { History } from './rates.mjs';

/** @import { DeviceStatus, QueueStatus } from './types.ts' */

/** Two minutes at one look a second. */
const HISTORY = 120;
const GRAPH = { width: 120, height: 24 };
const SVG = 'http://www.w3.org/2000/svg';

/** A number with a name, and how it went. */
class Tile {
  #value = element('p', { class: 'value' }, '–');
  /** @type {{ history: History, path: Element } | null} */
  #graph = null;
  root;

  /**
   * @param {string} name
   * @param {boolean} withHistory
   */
  constructor(name, withHistory) {
    this.root = element('div', { class: 'tile' }, element('p', { class: 'name' }, name), this.#value);
    if (!withHistory) return;
    const svg = document.createElementNS(SVG, 'svg');
    svg.setAttribute('viewBox', `0 0 ${GRAPH.width} ${GRAPH.height}`);
    svg.setAttribute('preserveAspectRatio', 'none');
    svg.setAttribute('aria-hidden', 'true');
    const path = document.createElementNS(SVG, 'path');
    svg.append(path);
    this.root.append(svg);
    this.#graph = { history: new History(HISTORY), path };
  }

  /**
   * @param {string} text
   * @param {number | null} [value] for the graph
   */
  show(text, value = null) {
    setText(this.#value, text);
    this.#graph?.history.push(value);
    this.#graph?.path.setAttribute('d', this.#graph.history.path(GRAPH.width, GRAPH.height));
  }

  /** @param {boolean} isBad */
  mark(isBad) {
    setAttribute(this.root, 'data-mark', isBad ? 'bad' : null);
  }

  clear() {
    this.#graph?.history.clear();
    this.show('–');
    this.mark(false);
  }
}

const BITS = 8;

export class TrafficView {
  #facts = byId('facts', HTMLElement);
  #tiles = {
    inPackets: new Tile('In, packets', true),
    inBits: new Tile('In, bits', true),
    outPackets: new Tile('Out, packets', true),
    outBits: new Tile('Out, bits', true),
    drops: new Tile('Dropped', true),
    flows: new Tile('New flows', true),
    p50: new Tile('Latency p50', false),
    p99: new Tile('Latency p99', false),
    evicted: new Tile('Flows evicted', false),
  };
  /** @type {Table<{ name: string, value: number }>} */
  #counters = new Table(
    byId('counters', HTMLTableElement),
    [
      { title: 'Counter', kind: 'text', text: ({ name }) => name },
      { title: 'Since attach', kind: 'number', text: ({ value }) => formatWhole(value) },
    ],
    'No counters.',
  );

  constructor() {
    byId('tiles', HTMLElement).append(...Object.values(this.#tiles).map(({ root }) => root));
  }

  clear() {
    for (const tile of Object.values(this.#tiles)) tile.clear();
    setText(this.#facts, '');
    this.#counters.show([]);
  }

  /**
   * @param {DeviceStatus} status
   * @param {(name: string) => number | null} rate of what rateCounters() names
   */
  show(status, rate) {
    const { latency, counters, drift, damagedFiles } = status;
    const { inPackets, inBits, outPackets, outBits, drops, flows, p50, p99, evicted } = this.#tiles;
    showRate(inPackets, rate('rxPackets'), 'p/s');
    showRate(inBits, times(rate('rxBytes'), BITS), 'bit/s');
    showRate(outPackets, rate('txPackets'), 'p/s');
    showRate(outBits, times(rate('txBytes'), BITS), 'bit/s');
    showRate(drops, rate('drops'), 'p/s');
    drops.mark((rate('drops') ?? 0) > 0);
    showRate(flows, rate('flowsCreated'), '/s');
    p50.show(formatNs(latency.p50Ns));
    p99.show(formatNs(latency.p99Ns));
    evicted.show(formatShort(counters.flowsEvicted));
    const facts = [
      `${status.mode} XDP`,
      `egress ${status.egress}`,
      `${status.queues} queues`,
      `${formatWhole(status.rules)} rules`,
      status.activeTable === null ? 'steering is off' : `steering table ${status.activeTable}`,
      `rule set ${status.ruleGeneration}`,
      `failover ${status.failover.policy ?? 'evacuate'}`,
      ...(drift.length === 0 ? [] : [`${drift.length} differences from what was asked for: vnicctl apply`]),
      ...(damagedFiles.length === 0 ? [] : [`damaged state files: ${damagedFiles.join(', ')}`]),
    ];
    setText(this.#facts, `${facts.join(' · ')}. Latency is from XDP entry to the CPU of the queue, since attach.`);
    this.#counters.show(flatten(counters));
  }
}

/**
 * @param {Tile} tile
 * @param {number | null} value
 * @param {string} unit
 */
function showRate(tile, value, unit) {
  tile.show(formatUnit(value, unit), value);
}

/**
 * @param {number | null} value
 * @param {number} factor
 */
export function times(value, factor) {
  return value === null ? null : value * factor;
}

/**
 * @param {DeviceStatus['counters']} counters
 * @returns {{ name: string, value: number }[]} those by reason with the reason, without what is 0
 */
function flatten(counters) {
  return Object.entries(counters).flatMap(([name, value]) =>
    typeof value === 'number'
      ? [{ name, value }]
      : Object.entries(value)
          .filter(([, count]) => count > 0)
          .map(([reason, count]) => ({ name: `${name}: ${reason}`, value: count })),
  );
}

/**
 * What rates are made of.
 * @param {DeviceStatus} status
 * @param {readonly QueueStatus[]} queues
 * @returns {[string, number][]}
 */
export function rateCounters({ counters }, queues) {
  const sum = (/** @type {'txPackets' | 'txBytes'} */ field) =>
    queues.reduce((total, queue) => total + queue[field], 0);
  return [
    ['rxPackets', counters.rxPackets],
    ['rxBytes', counters.rxBytes],
    ['txPackets', sum('txPackets') + counters.txUnsteeredPackets],
    ['txBytes', sum('txBytes')],
    ['drops', Object.values(counters.drops).reduce((total, count) => total + count, 0)],
    ['flowsCreated', counters.flowsCreated],
    ...queues.flatMap((queue) =>
      queueFields.map((field) => /** @type {[string, number]} */ ([queueKey(queue.queue, field), queue[field]])),
    ),
  ];
}

/** @typedef {typeof queueFields[number]} QueueField */

export const queueFields = /** @type {const} */ ([
  'rxPackets',
  'rxBytes',
  'steeredPackets',
  'steeredBytes',
  'droppedPackets',
  'txPackets',
  'txBytes',
]);

/**
 * @param {number} queue
 * @param {QueueField} field
 * @returns {string}
 */
export function queueKey(queue, field) {
  return `${queue}.${field}`;
}

/**
 * @param {readonly number[]} queues
 * @returns {string}
 */
export function queuesText(queues) {
  return queues.length === 1 ? `queue ${queues[0]}` : `queues ${formatRanges(queues)}`;
}
