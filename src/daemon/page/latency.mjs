// SPDX-License-Identifier: Apache-2.0
/** Times of a sample of the packets: to the CPU, to the socket, and round trips of TCP. */
import { byId, Table } from './dom.mjs';
import { formatNs, formatShort } from './format.mjs';

/** @import { LatencyReport } from './types.ts' */

/** @typedef {Omit<LatencyReport['toCpu'], 'buckets'>} Times */

/** @typedef {{ name: string, times: Times | null, why: string | null }} Row */

/**
 * @param {LatencyReport} report
 * @returns {Row[]} what is not measured with the reason
 */
export function rowsOf({ toCpu, toSocket, rtt }) {
  const { tcp, udp } = toSocket;
  const rows = [
    { name: 'To the CPU', times: toCpu, why: null },
    { name: 'To a TCP socket', times: tcp.value, why: tcp.unavailable },
    { name: 'To a UDP socket', times: udp.value, why: udp.unavailable },
  ];
  const trips = rtt.azs.filter(({ az, rtt: { count } }) => az !== null || count > 0);
  if (trips.every(({ rtt: { count } }) => count === 0)) {
    return [...rows, { name: 'TCP round trip', times: null, why: rtt.remark }];
  }
  return [
    ...rows,
    ...trips.map(({ az, rtt: times }) => ({ name: `TCP round trip, ${az ?? 'no AZ'}`, times, why: null })),
  ];
}

/**
 * @param {'p50Ns' | 'p90Ns' | 'p99Ns' | 'p999Ns'} field
 * @returns {(row: Row) => string}
 */
const quantile = (field) => (row) => (row.times === null ? '' : formatNs(row.times[field]));

export class LatencyView {
  /** @type {Table<Row>} */
  #table = new Table(
    byId('times', HTMLTableElement),
    [
      { title: 'Time', kind: 'text', text: ({ name }) => name },
      { title: 'p50', kind: 'number', text: quantile('p50Ns') },
      { title: 'p90', kind: 'number', text: quantile('p90Ns') },
      { title: 'p99', kind: 'number', text: quantile('p99Ns') },
      { title: 'p99.9', kind: 'number', text: quantile('p999Ns') },
      { title: 'Timed', kind: 'number', text: ({ times }) => (times === null ? '' : formatShort(times.count)) },
      { title: 'Remark', kind: 'text', text: ({ why }) => (why === null ? '' : `not available: ${why}`) },
    ],
    'No times.',
  );

  /** @param {LatencyReport} report */
  show(report) {
    this.#table.show(rowsOf(report));
  }

  clear() {
    this.#table.show([]);
  }
}
