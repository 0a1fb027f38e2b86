// SPDX-License-Identifier: Apache-2.0
/**
 * Every metric of the product, once, as data: what it is called, what it means and how it comes from a sample. Pure.
 * No flow, address or port is ever a label.
 */
import { declare, PREFIX } from './declare.ts';
import { fleetMetrics } from './fleet.ts';
import { labelled, labelledTwice, noLabels } from './labels.ts';
import type { DaemonMetric, DeviceMetric } from './metric.ts';
import { machineMetrics, perfDeviceMetrics } from './perf-catalogue.ts';
import {
  azQueues,
  decodeErrors,
  dropReasonNames,
  failoverCommit,
  failovers,
  from,
  latencyHistogram,
  meanLatency,
  numaPackets,
  ofTraffic,
  perProgram,
  perQueue,
  perReason,
  perRule,
  redirectMode,
  redirectObeyed,
  rttEdges,
  socketLatency,
  total,
  unparsedReasonNames,
} from './series.ts';

const counter = declare('counter');
const gauge = declare('gauge');
const histogram = declare('histogram');

export const deviceMetrics: readonly DeviceMetric[] = [
  counter('rx_packets_total', 'packets', ['queue'], 'Packets that arrived on the NIC queue.', perQueue('rxPackets')),
  counter(
    'rx_bytes_total',
    'bytes',
    ['queue'],
    'Bytes of whole frames that arrived on the NIC queue.',
    perQueue('rxBytes'),
  ),
  counter(
    'tx_packets_total',
    'packets',
    ['queue'],
    'Packets sent to the TX queue by the steering table or a rule.',
    perQueue('txPackets'),
  ),
  counter(
    'tx_bytes_total',
    'bytes',
    ['queue'],
    'Bytes sent to the TX queue by the steering table or a rule.',
    perQueue('txBytes'),
  ),
  counter(
    'tx_unsteered_packets_total',
    'packets',
    [],
    'Packets that left without a queue from the steering table.',
    total('txUnsteeredPackets'),
  ),
  counter(
    'steered_packets_total',
    'packets',
    ['queue'],
    'Arrived packets that the steering table or a rule gave to the queue.',
    perQueue('steeredPackets'),
  ),
  counter(
    'steered_bytes_total',
    'bytes',
    ['queue'],
    'Bytes of arrived packets that the steering table or a rule gave to the queue.',
    perQueue('steeredBytes'),
  ),
  counter(
    'steering_misses_total',
    'packets',
    ['queue'],
    'Arrived packets of the queue that the device had put on another NIC queue; they take a hop to their CPU.',
    perQueue('missedPackets'),
  ),
  counter(
    'direct_packets_total',
    'packets',
    ['queue'],
    'Arrived packets of the queue that were passed where they arrived, because it was their own NIC queue and CPU.',
    perQueue('directPackets'),
  ),
  counter(
    'off_cpu_packets_total',
    'packets',
    ['queue'],
    'Arrived packets of the queue that the device had put on it, but whose interrupt was not on its CPU; they take a hop.',
    perQueue('offCpuPackets'),
  ),
  gauge(
    'redirect_mode',
    null,
    ['mode'],
    'Whether packets come to the CPU of their queue in this way: 1, else 0.',
    redirectMode,
  ),
  gauge(
    'redirect_obeyed_ratio',
    null,
    [],
    'Share of the flows of the last minute that arrive where the device should send them; without enough flows, or with nothing asked of the device, there is no value.',
    redirectObeyed,
  ),
  counter('parsed_packets_total', 'packets', [], 'Arrived packets that have a flow.', total('parsed')),
  counter(
    'unparsed_packets_total',
    'packets',
    ['reason'],
    'Arrived packets that have no flow; they are passed.',
    perReason('unparsed', unparsedReasonNames),
  ),
  counter(
    'drops_total',
    'packets',
    ['reason'],
    'Packets dropped by a rule or a limit, in both directions.',
    perReason('drops', dropReasonNames),
  ),
  counter('redirected_packets_total', 'packets', [], 'Packets handed to the CPU of their queue.', total('redirected')),
  counter(
    'passed_packets_total',
    'packets',
    [],
    'Parsed packets left to the CPU on which they arrived: no steering table, no queue or no CPU for them.',
    total('passed'),
  ),
  gauge(
    'queue_depth',
    'packets',
    ['cpu', 'queue'],
    'Packets handed to a CPU and not taken by it, which serves all the queues named; what its full ring dropped stays in here, so a steady value without traffic is loss.',
    ofTraffic(({ depths }) =>
      depths.map(({ cpu, queues, packets }) => ({
        labels: labelledTwice('cpu', cpu, 'queue', queues.join(',')),
        value: packets,
      })),
    ),
  ),
  counter(
    'numa_packets_total',
    'packets',
    ['node'],
    'Packets steered to queues whose CPU is on the NUMA node.',
    numaPackets,
  ),
  histogram(
    'latency_seconds',
    'seconds',
    [],
    'Time from XDP entry to the CPU of the queue, of a sample of the packets.',
    ({ latency }) => from(latency, (cells) => [{ labels: noLabels, value: latencyHistogram(cells) }]),
  ),
  histogram(
    'socket_latency_seconds',
    'seconds',
    ['proto'],
    'Time from XDP entry to the queue of the socket, of a sample of the packets that have one, since the daemon was started.',
    socketLatency,
  ),
  histogram(
    'rtt_seconds',
    'seconds',
    ['az'],
    'Round-trip times of TCP, of a sample of the packets: from one that leaves with a timestamp to its echo; without the egress program, of handshakes of connections to this machine. Delayed ACKs of peers are in them.',
    ({ rtts }) =>
      from(rtts, (list) =>
        list.map(({ az, cells }) => ({ labels: labelled('az', az), value: latencyHistogram(cells, rttEdges) })),
      ),
  ),
  gauge(
    'avg_latency_ns',
    'ns',
    [],
    'Mean time from XDP entry to the CPU of the queue in nanoseconds, of a sample of the packets since attach.',
    meanLatency,
  ),
  counter(
    'rule_packets_total',
    'packets',
    ['rule', 'verdict'],
    'Packets that matched the rule. A rule that was changed keeps its counts; dropped ones stand under its present verdict.',
    perRule('packets'),
  ),
  counter(
    'rule_bytes_total',
    'bytes',
    ['rule', 'verdict'],
    'Bytes that matched the rule. A rule that was changed keeps its counts; dropped ones stand under its present verdict.',
    perRule('bytes'),
  ),
  gauge(
    'flow_table_entries',
    null,
    [],
    'Flows in the flow table.',
    total(({ flowsCreated, flowsEvicted }) => flowsCreated - flowsEvicted),
  ),
  counter('flows_created_total', null, [], 'Flows entered into the flow table.', total('flowsCreated')),
  counter('flows_evicted_total', null, [], 'Flows that made room for new ones.', total('flowsEvicted')),
  counter(
    'flows_reclassified_total',
    null,
    [],
    'Flows whose cached verdict was of an older rule set.',
    total('reclassified'),
  ),
  counter(
    'flow_table_busy_total',
    'packets',
    [],
    'Packets that went on without a flow entry because none could be had.',
    total('flowTableBusy'),
  ),
  counter(
    'limiter_contended_total',
    'packets',
    [],
    'Packets that were charged to a limit without being asked, because other CPUs were faster.',
    total('limiterContended'),
  ),
  counter(
    'metadata_failed_total',
    'packets',
    [],
    'Packets to which the driver let no metadata be added.',
    total('metadataFailed'),
  ),
  gauge('top_flow_bytes', 'bytes', ['rank'], 'Bytes of the largest flows in the flow table.', ({ topFlowBytes }) =>
    from(topFlowBytes, (flows) => flows.map((value, index) => ({ labels: labelled('rank', index + 1), value }))),
  ),
  gauge(
    'coalesce_delay_seconds',
    'seconds',
    [],
    'How long receive interrupts may be delayed by the load; 0: settings are as they were before.',
    ({ coalescing }) => from(coalescing, ({ delayUsecs }) => [{ labels: noLabels, value: delayUsecs / 1e6 }]),
  ),
  counter(
    'coalesce_changes_total',
    null,
    [],
    'Changes of the delay of interrupts by the load, since the device was opened.',
    ({ coalescing }) => from(coalescing, ({ changes }) => [{ labels: noLabels, value: changes }]),
  ),
  gauge('az_up', null, ['az'], 'Whether the AZ is in use: 1, or 0 while it is failed.', ({ azs }) =>
    from(azs, (list) => list.map(({ name, up }) => ({ labels: labelled('az', name), value: up ? 1 : 0 }))),
  ),
  gauge('az_queues', null, ['az'], 'Queues of the AZ that the steering table uses.', azQueues),
  counter(
    'failovers_total',
    null,
    ['az', 'cause'],
    'Failures of the AZ that the device was switched away from, since the daemon was started.',
    failovers,
  ),
  gauge(
    'failover_commit_seconds',
    'seconds',
    [],
    'Time that the switch of the steering table took at the last failover.',
    failoverCommit,
  ),
  counter(
    'buckets_moved_total',
    null,
    ['kind'],
    'Buckets of the steering table that went to another queue, since the daemon was started.',
    ({ switches }) =>
      Object.entries(switches.bucketsMoved).map(([kind, value]) => ({ labels: labelled('kind', kind), value })),
  ),
  counter(
    'flow_moves_in_order_total',
    null,
    [],
    'Flows that were moved to another queue when the former one held nothing of them any more.',
    total('movesInOrder'),
  ),
  counter(
    'flow_moves_forced_total',
    null,
    [],
    'Flows that were moved at once, because their queue was lost.',
    total('movesForced'),
  ),
  counter(
    'reorder_risk_moves_total',
    null,
    [],
    'Flows that were moved although their former queue, which is usable, could still hold packets of theirs.',
    total('movesRisked'),
  ),
  counter(
    'held_packets_total',
    'packets',
    [],
    'Packets that went to the former queue of their flow, to keep their order.',
    total('heldPackets'),
  ),
  counter(
    'program_runs_total',
    null,
    ['program'],
    'Runs of the BPF program; those reached by a tail call count with the one that called.',
    perProgram(({ runs }) => runs),
  ),
  counter(
    'program_run_seconds_total',
    'seconds',
    ['program'],
    'Time spent in the BPF program; see program_runs.',
    perProgram(({ runTimeNs }) => Number(runTimeNs) / 1e9),
  ),
  ...perfDeviceMetrics,
  gauge('scrape_seconds', 'seconds', [], 'Time that reading the counters of the device took.', ({ readSeconds }) => [
    { labels: noLabels, value: readSeconds },
  ]),
  counter(
    'decode_errors_total',
    null,
    ['part'],
    'Parts of the sample of the device that could not be read or shown.',
    decodeErrors,
  ),
];

export const daemonMetrics: readonly DaemonMetric[] = [
  {
    name: `${PREFIX}build_info`,
    type: 'gauge',
    unit: null,
    labels: ['version'],
    help: 'Always 1; what runs is in the label.',
    series: ({ version }) => [{ labels: labelled('version', version), value: 1 }],
  },
  ...machineMetrics,
  ...fleetMetrics,
];
