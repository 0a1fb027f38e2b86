// SPDX-License-Identifier: Apache-2.0
/** The largest flows. */
import { byId, Table } from './dom.mjs';
import { formatEndpoint, formatMs, formatProtocol, formatShort, formatWhole } from './format.mjs';

/** @import { Flow } from './types.ts' */

export class FlowsView {
  #by = byId('flows-by', HTMLSelectElement);
  #top = byId('flows-top', HTMLSelectElement);
  /** @type {Table<Flow>} */
  #table = new Table(
    byId('flow-table', HTMLTableElement),
    [
      {
        title: 'Flow',
        kind: 'text',
        text: ({ src, srcPort, dst, dstPort }) => `${formatEndpoint(src, srcPort)} → ${formatEndpoint(dst, dstPort)}`,
      },
      { title: 'Proto', kind: 'text', text: ({ proto }) => formatProtocol(proto) },
      { title: 'Dir', kind: 'text', text: ({ direction }) => (direction === 'ingress' ? 'in' : 'out') },
      { title: 'Bytes', kind: 'number', text: ({ bytes }) => formatShort(bytes) },
      { title: 'Packets', kind: 'number', text: ({ packets }) => formatShort(packets) },
      { title: 'bit/s', kind: 'number', text: ({ bitsPerSecond }) => formatShort(bitsPerSecond) },
      { title: 'Dropped', kind: 'number', text: ({ droppedPackets }) => formatShort(droppedPackets) },
      { title: 'Queue', kind: 'number', text: ({ queue }) => formatWhole(queue) },
      { title: 'AZ', kind: 'text', text: ({ az }) => az ?? '–' },
      { title: 'Rule', kind: 'number', text: ({ rule }) => formatWhole(rule) },
      { title: 'Idle', kind: 'number', text: ({ idleSeconds }) => formatMs(Math.round(idleSeconds * 1000)) },
    ],
    'No flows.',
  );

  /** @param {() => void} onChange another list is asked for */
  constructor(onChange) {
    for (const select of [this.#by, this.#top]) {
      select.addEventListener('change', onChange);
    }
  }

  /** What to ask for. */
  get query() {
    return `?top=${this.#top.value}&by=${this.#by.value}`;
  }

  clear() {
    this.#table.show([]);
  }

  /** @param {readonly Flow[]} flows */
  show(flows) {
    this.#table.show(flows);
  }
}
