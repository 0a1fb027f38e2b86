// SPDX-License-Identifier: Apache-2.0
/** The commands and where their code is. */
import type { Command } from 'commander';

/** Gives a command its arguments, options and action. */
export type Configure = (command: Command) => void;

export interface CommandEntry {
  name: string;
  summary: string;
  /** It has no data for stdout: --output names a file. */
  outputIsFile?: boolean;
  load: () => Promise<Configure>;
}

export const commands: readonly CommandEntry[] = [
  {
    name: 'doctor',
    summary: 'what would block or degrade attaching, and who must change it',
    load: async () => (await import('./doctor.ts')).doctorCommand,
  },
  {
    name: 'attach',
    summary: 'put the dataplane on a device',
    load: async () => (await import('./attach.ts')).attachCommand,
  },
  {
    name: 'detach',
    summary: 'take it off and put back what attaching changed',
    load: async () => (await import('./attach.ts')).detachCommand,
  },
  {
    name: 'status',
    summary: 'what is attached, its counters, and where it differs from what was asked for',
    load: async () => (await import('./status.ts')).statusCommand,
  },
  {
    name: 'queues',
    summary: 'packets of each queue',
    load: async () => (await import('./status.ts')).queuesCommand,
  },
  {
    name: 'latency',
    summary: 'time to the CPU of the queue, and round-trip times of TCP to each AZ',
    load: async () => (await import('./latency.ts')).latencyCommand,
  },
  {
    name: 'top',
    summary: 'a live view of queues, AZs, flows and limits',
    load: async () => (await import('./top.ts')).topCommand,
  },
  { name: 'flows', summary: 'the top flows', load: async () => (await import('./flows.ts')).flowsCommand },
  {
    name: 'perf',
    summary: 'what packets cost: cycles, cache misses, run times, switches; what is dropped on the way',
    load: async () => (await import('./perf.ts')).perfCommand,
  },
  {
    name: 'rule',
    summary: 'rules: what is dropped, limited, or sent to which queues',
    load: async () => (await import('./rule.ts')).ruleCommand,
  },
  {
    name: 'limit',
    summary: 'rate limits: the short form of rule',
    load: async () => (await import('./limit.ts')).limitCommand,
  },
  { name: 'qos', summary: 'rates from a QoS agent', load: async () => (await import('./qos.ts')).qosCommand },
  {
    name: 'az',
    summary: 'availability zones: their queues, failure and recovery',
    load: async () => (await import('./az.ts')).azCommand,
  },
  {
    name: 'plan',
    summary: 'what the failure of an AZ would move',
    load: async () => (await import('./plan.ts')).planCommand,
  },
  {
    name: 'rebalance',
    summary: 'move buckets between queues by their measured load',
    load: async () => (await import('./rebalance.ts')).rebalanceCommand,
  },
  {
    name: 'tune',
    summary: 'set interrupts, XPS, rings and coalescing of the host side, and put them back',
    load: async () => (await import('./tune.ts')).tuneCommand,
  },
  {
    name: 'explain',
    summary: 'what the dataplane would do with a packet, and why',
    load: async () => (await import('./explain.ts')).explainCommand,
  },
  {
    name: 'apply',
    summary: 'bring the kernel to what was asked for, where it drifted',
    load: async () => (await import('./apply.ts')).applyCommand,
  },
  {
    name: 'replay',
    summary: 'run a capture file through the dataplane; needs no device',
    load: async () => (await import('./replay.ts')).replayCommand,
  },
  {
    name: 'capture',
    summary: 'packets as the dataplane sees them, with its verdict, into a pcapng file',
    load: async () => (await import('./capture.ts')).captureCommand,
  },
  {
    name: 'config',
    summary: 'configuration files',
    load: async () => (await import('./config.ts')).configCommand,
  },
  {
    name: 'fleet',
    summary: 'many machines as one: policies, AZs, nodes, over etcd',
    load: async () => (await import('./fleet.ts')).fleetCommand,
  },
  {
    name: 'bench',
    summary: 'how fast it is on this machine, against floors and peers (in a checkout)',
    outputIsFile: true,
    load: async () => (await import('./bench.ts')).benchCommand,
  },
  {
    name: 'serve',
    summary: 'run the daemon: REST API, metrics, state',
    load: async () => (await import('./serve.ts')).serveCommand,
  },
  {
    name: 'events',
    summary: 'what happened, as the daemon tells it',
    load: async () => (await import('./events.ts')).eventsCommand,
  },
  {
    name: 'token',
    summary: 'make a token for the REST API',
    load: async () => (await import('./token.ts')).tokenCommand,
  },
  {
    name: 'completion',
    summary: 'completion of commands for bash, zsh and fish',
    load: async () => (await import('./completion.ts')).completionCommand,
  },
];
