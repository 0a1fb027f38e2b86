// SPDX-License-Identifier: Apache-2.0
/** One refresh of vnicctl top as lines of text that fit a screen. Pure but for styleText's look at NO_COLOR. */
import { formatProtocol } from '../steering/rules/protocols.ts';
import { bitRateText, bold, cut, durationText, endpoint, green, red, scaledCount, table, yellow } from './output.ts';
import type { Quantiles, TopView } from './top-model.ts';

const heat = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/** Lines of the flow and limit tables on a screen without a height. */
const UNBOUNDED_ROWS = 20;
const LIMIT_ROWS = 5;

export interface ScreenSize {
  columns: number;
  /** Null: as many as it takes. */
  rows: number | null;
}

const pps = (value: number): string => `${scaledCount(value)}pps`;
const time = (ns: number | null): string => (ns === null ? '-' : durationText(ns));

function quantilesText({ p50Ns, p90Ns, p99Ns, p999Ns, count }: Quantiles): string {
  if (count === 0) return 'no packet was timed';
  return `p50 ${time(p50Ns)}  p90 ${time(p90Ns)}  p99 ${time(p99Ns)}  p99.9 ${time(p999Ns)}`;
}

/** What is measured only. */
function socketLines({ toSocket }: TopView): string[] {
  const measured = Object.entries(toSocket).flatMap(([proto, times]) => (times === null ? [] : [{ proto, times }]));
  return measured.map(({ proto, times }) => `         to a ${proto.toUpperCase()} socket: ${quantilesText(times)}`);
}

/** A character a queue; the fullest is as high as can be. */
export function heatLine(rates: readonly { packetsPerSecond: number; usable: boolean }[]): string {
  const most = Math.max(...rates.map(({ packetsPerSecond }) => packetsPerSecond));
  return rates
    .map(({ packetsPerSecond, usable }) => {
      if (!usable) return red('x');
      if (packetsPerSecond === 0) return '·';
      const level = Math.min(heat.length - 1, Math.floor((packetsPerSecond / most) * heat.length));
      return heat[level];
    })
    .join('');
}

function queueLines({ queues }: TopView): string[] {
  const busy = queues.map(({ packetsPerSecond }) => packetsPerSecond);
  const total = busy.reduce((sum, value) => sum + value, 0);
  const most = Math.max(...busy, 0);
  const fullest = queues.find(({ packetsPerSecond }) => packetsPerSecond === most);
  const spread =
    total === 0
      ? 'idle'
      : `fullest: queue ${fullest?.queue} ${pps(most)}, ${((most * queues.length) / total).toFixed(2)} times the mean`;
  const lost = queues.filter(({ usable }) => !usable).length;
  return [
    `${bold('QUEUES')}   0 ${heatLine(queues)} ${queues.length - 1}   ${spread}${lost === 0 ? '' : red(`, ${lost} lost`)}`,
  ];
}

function azLines(view: TopView): string[] {
  if (view.azs.length === 0) return [];
  const rows = table(view.azs, [
    { title: 'AZ', value: ({ name }) => name },
    { title: 'STATE', value: ({ state }) => (state === 'up' ? green('up') : red(state)) },
    { title: 'QUEUES', value: ({ queues }) => queues },
    { title: 'RATE', value: ({ packetsPerSecond }) => pps(packetsPerSecond), align: 'right' },
    {
      title: 'LOAD',
      value: ({ name }) => heatLine(view.queues.filter(({ az }) => az === name)),
    },
    { title: 'RTT P50', value: ({ rtt }) => time(rtt.p50Ns), align: 'right' },
    { title: 'P99', value: ({ rtt }) => time(rtt.p99Ns), align: 'right' },
  ]);
  return ['', ...rows.split('\n')];
}

function limitLines({ limits }: TopView): string[] {
  if (limits === null || limits.length === 0) return [];
  const rows = table(limits.slice(0, LIMIT_ROWS), [
    { title: 'RULE THAT DROPS', value: ({ rule, shadow }) => `${rule}${shadow ? ' (shadow)' : ''}` },
    { title: 'MATCHED', value: ({ packetsPerSecond }) => pps(packetsPerSecond), align: 'right' },
    { title: 'DROPPED', value: ({ droppedPerSecond }) => yellow(pps(droppedPerSecond)), align: 'right' },
  ]);
  return ['', ...rows.split('\n')];
}

/** Flows that have the text in what is shown of them; of several words each. */
export function filterFlows(flows: TopView['flows'], filter: string): TopView['flows'] {
  const words = filter
    .toLowerCase()
    .split(/\s+/)
    .filter((word) => word !== '');
  return flows.filter((flow) => {
    const shown = [
      flow.direction === 'ingress' ? 'in' : 'out',
      String(formatProtocol(flow.proto)),
      endpoint(flow.src, flow.srcPort),
      endpoint(flow.dst, flow.dstPort),
      flow.az ?? '',
      flow.rule === null ? '' : `rule ${flow.rule}`,
      flow.queue === null ? '' : `queue ${flow.queue}`,
    ].join(' ');
    return words.every((word) => shown.toLowerCase().includes(word));
  });
}

function flowLines({ flows }: TopView, room: number): string[] {
  if (flows.length === 0) return ['', 'No flow.'];
  const rows = table(flows.slice(0, Math.max(room, 0)), [
    { title: 'FLOW', value: (flow) => (flow.direction === 'ingress' ? 'in' : 'out') },
    { title: 'PROTO', value: (flow) => String(formatProtocol(flow.proto)) },
    { title: 'SOURCE', value: (flow) => endpoint(flow.src, flow.srcPort) },
    { title: 'DESTINATION', value: (flow) => endpoint(flow.dst, flow.dstPort) },
    { title: 'RATE', value: (flow) => bitRateText(flow.bitsPerSecond), align: 'right' },
    { title: 'PACKETS', value: (flow) => flow.packets },
    { title: 'DROPPED', value: (flow) => flow.droppedPackets },
    { title: 'QUEUE', value: (flow) => flow.queue },
    { title: 'AZ', value: (flow) => flow.az },
    { title: 'RULE', value: (flow) => flow.rule },
  ]);
  return ['', ...rows.split('\n')];
}

function dropText({ dropsPerSecond }: TopView): string {
  const drops = Object.entries(dropsPerSecond).filter(([, value]) => value > 0);
  if (drops.length === 0) return 'no drops';
  return yellow(`drops ${drops.map(([reason, value]) => `${reason} ${pps(value)}`).join(', ')}`);
}

/** Without the lines of keys and messages. */
export function topLines(view: TopView, size: ScreenSize): string[] {
  const above = [
    `${bold(view.device)}   in ${pps(view.rxPacketsPerSecond)} ${bitRateText(view.rxBitsPerSecond)}   out ${pps(view.txPacketsPerSecond)} ${bitRateText(view.txBitsPerSecond)}   ${dropText(view)}`,
    `${bold('LATENCY')}  to the CPU: ${quantilesText(view.latency)}`,
    ...socketLines(view),
    ...queueLines(view),
    ...azLines(view),
    ...limitLines(view),
  ];
  const room = size.rows === null ? UNBOUNDED_ROWS : size.rows - above.length - 2;
  const lines = [...above, ...(room > 0 ? flowLines(view, room) : [])];
  return (size.rows === null ? lines : lines.slice(0, size.rows)).map((line) => cut(line, size.columns));
}
