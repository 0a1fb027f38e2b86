// SPDX-License-Identifier: Apache-2.0
/** What of the host side of a device should be set otherwise, and why. Pure: facts in, settings out. */
import { formatCpuList } from '../loader/cpu-set.ts';
import type { SettingName } from '../loader/settings/setting.ts';
import type { TuneFacts } from './facts.ts';
import { placeQueues, shareTxQueues } from './placement.ts';

/** The device's dataplane, where it has one. */
export interface AttachedFacts {
  /** The CPU of each queue. */
  readonly queueCpus: readonly number[];
  /** Whether the egress program chooses TX queues. */
  readonly steersTx: boolean;
  readonly redirect: 'cpumap' | 'rss' | 'follow';
}

/** What the configuration asks for. */
export interface TuneSpec {
  /** Absent: as many as the device and the CPUs allow. */
  readonly queues?: number;
  readonly numaNode: number;
  readonly numaAware: boolean;
  readonly coalesceUsecs: number;
  /** Whether the daemon sets coalescing by the load. */
  readonly adaptive: boolean;
  /** Null: not attached. */
  readonly attached: AttachedFacts | null;
}

export interface PlannedSetting {
  readonly name: SettingName;
  /** Null: it comes with the channels. */
  readonly from: string | null;
  readonly to: string;
  readonly why: string;
}

export const noteCodes = ['irqbalance', 'channels_attached', 'node_unknown', 'no_interrupts', 'adaptive'] as const;

/** Something that the plan cannot do, or does not. */
export interface TuneNote {
  readonly code: (typeof noteCodes)[number];
  readonly text: string;
}

export interface TunePlan {
  /** In the order in which they are set. */
  readonly settings: readonly PlannedSetting[];
  /** The CPU of each receive queue. */
  readonly queueCpus: readonly number[];
  readonly notes: readonly TuneNote[];
}

/** More room than this fills caches sooner than it saves packets. */
const LARGEST_RX_RING = 1024;
/** Polls that find nothing before interrupts are on again (Documentation/networking/napi.rst). */
export const DEFERRED_POLLS = 2;

/** ns: how long the kernel lets idle CPUs of a guest poll by default (drivers/cpuidle/governors/haltpoll.c). */
export const HALT_POLL_NS = 200_000;

type Wanted = readonly [name: SettingName, to: string, why: string];

/** Throws `invalid_config` for a NUMA node without CPUs. */
export function planTuning(facts: TuneFacts, spec: TuneSpec): TunePlan {
  const { attached } = spec;
  const wish = { numaNode: spec.numaNode, numaAware: spec.numaAware, deviceNode: facts.node };
  const place = (queues: number): number[] => placeQueues(facts.cpus, queues, wish);
  const channels = wantedChannels(facts, spec, new Set(place(facts.cpus.length)).size);
  const changesChannels = channels !== null && facts.settings.get('channels/combined') !== String(channels);
  const queues = changesChannels ? channels : facts.rxQueues;
  const txQueues = changesChannels ? channels : facts.txQueues;
  const cpuOf = cpuOfQueue(
    attached?.queueCpus ?? [],
    place(Math.max(queues, txQueues, ...facts.interrupts.map(({ queue }) => queue + 1))),
  );
  const queueCpus = Array.from({ length: queues }, (_, queue) => cpuOf(queue));
  const wanted: Wanted[] = [
    ...(channels === null
      ? []
      : [['channels/combined', String(channels), 'one queue for each CPU that serves them'] as const]),
    ...wantedRing(facts),
    ...wantedRss(facts, attached, queues),
    ...wantedAffinity(facts, cpuOf),
    ...wantedXps(
      facts,
      attached,
      Array.from({ length: txQueues }, (_, queue) => cpuOf(queue)),
    ),
    ...wantedRps(attached, queues),
    ...wantedCoalescing(facts, spec),
    ...wantedHaltPolling(facts, attached),
  ];
  const settings = wanted.flatMap(([name, to, why]): PlannedSetting[] => {
    const from = facts.settings.get(name) ?? null;
    // The driver sets interrupts and XPS anew with the channels: what stays has to be put there again, and back.
    // What another device holds goes back with it, unless this one holds it too.
    const mayGo = (changesChannels && name !== 'channels/combined') || facts.heldByOthers.has(name);
    if (from === to && !mayGo) return [];
    if (from === null && !(changesChannels && isOfQueue(name))) return [];
    return [{ name, from, to, why }];
  });
  return { settings, queueCpus, notes: notesOn(facts, spec) };
}

/** Queues that the driver added at attach have none in the record: they are placed as new ones would be. */
function cpuOfQueue(recorded: readonly number[], placed: readonly number[]): (queue: number) => number {
  return (queue) => recorded[queue] ?? placed[queue]!;
}

function isOfQueue(name: SettingName): boolean {
  return /^[rt]x-/.test(name);
}

/** Null: not to be changed. Attached devices refuse it. */
function wantedChannels({ maxCombined }: TuneFacts, { queues, attached }: TuneSpec, cpus: number): number | null {
  if (maxCombined === null || attached !== null) return null;
  return Math.min(queues ?? cpus, maxCombined);
}

function wantedRing({ maxRxRing, settings }: TuneFacts): Wanted[] {
  const size = Math.min(maxRxRing ?? 0, LARGEST_RX_RING);
  const now = Number(settings.get('rings/rx') ?? size);
  return size > now ? [['rings/rx', String(size), 'room for bursts while the CPU is elsewhere']] : [];
}

/**
 * The table of virtio_net is not in effect until it is first set, and then it takes receive-follows-transmit away: it is
 * only touched where queues are chosen by it.
 */
function wantedRss({ settings, driver }: TuneFacts, attached: AttachedFacts | null, queues: number): Wanted[] {
  const size = settings.get('rss/table')?.split(',').length;
  if (size === undefined || attached?.redirect === 'rss' || driver === 'virtio_net') return [];
  const even = Array.from({ length: size }, (_, index) => index % queues).join(',');
  return [['rss/table', even, 'every receive queue gets the same share']];
}

function wantedAffinity({ interrupts, irqbalance, settings }: TuneFacts, cpuOf: (queue: number) => number): Wanted[] {
  if (irqbalance !== null) return [];
  return interrupts.flatMap(({ irq, name, queue }): Wanted[] => {
    const setting = `irq-${irq}/smp_affinity_list` as const;
    // Those of queues that are not in use too: attaching may add queues.
    if (!settings.has(setting)) return [];
    return [[setting, String(cpuOf(queue)), `${name} is served by the CPU of queue ${queue}`]];
  });
}

function wantedXps(facts: TuneFacts, attached: AttachedFacts | null, queueCpus: readonly number[]): Wanted[] {
  // Attaching has taken XPS out of the way in that mode, and puts it back.
  if (queueCpus.length < 2 || attached?.redirect === 'follow') return [];
  if (attached?.steersTx === true) {
    const why = 'XPS would override the TX queue that the egress program chooses';
    return queueCpus.flatMap((_, queue): Wanted[] => [
      [`tx-${queue}/xps_cpus`, '', why],
      [`tx-${queue}/xps_rxqs`, '', why],
    ]);
  }
  return shareTxQueues(facts.cpus, queueCpus).map((cpus, queue) => [
    `tx-${queue}/xps_cpus`,
    formatCpuList(cpus),
    'a CPU sends by the queue nearest to it',
  ]);
}

function wantedRps(attached: AttachedFacts | null, queues: number): Wanted[] {
  if (attached === null) return [];
  const why = 'the dataplane has chosen the CPU; RPS would move packets once more';
  return Array.from({ length: queues }, (_, queue) => queue).flatMap((queue): Wanted[] => [
    [`rx-${queue}/rps_cpus`, '', why],
    [`rx-${queue}/rps_flow_cnt`, '0', why],
  ]);
}

function wantedCoalescing({ rxUsecs }: TuneFacts, { adaptive, coalesceUsecs }: TuneSpec): Wanted[] {
  if (adaptive) return [];
  const why = `coalesce_usecs is ${coalesceUsecs}`;
  if (rxUsecs) {
    return [
      ['coalesce/adaptive-rx', 'off', 'the time is fixed'],
      ['coalesce/rx-usecs', String(coalesceUsecs), why],
    ];
  }
  return napiCoalescing(coalesceUsecs).map(([name, to]) => [
    name,
    to,
    `${why}, and the device cannot delay interrupts`,
  ]);
}

/** Interrupts stay off while packets come at least every `usecs`, and the device is polled by a timer instead. */
export function napiCoalescing(usecs: number): (readonly [name: SettingName, to: string])[] {
  return [
    ['gro_flush_timeout', String(usecs * 1000)],
    ['napi_defer_hard_irqs', String(usecs === 0 ? 0 : DEFERRED_POLLS)],
  ];
}

/** Of no effect with another driver or governor. One that is higher is somebody's choice. */
function wantedHaltPolling(facts: TuneFacts, attached: AttachedFacts | null): Wanted[] {
  const { idle, cpus, settings, heldByOthers } = facts;
  if (attached === null || cpus.length < 2 || idle.driver !== 'haltpoll' || idle.governor !== 'haltpoll') return [];
  if (Number(settings.get('guest_halt_poll_ns') ?? HALT_POLL_NS) > HALT_POLL_NS) return [];
  const why = heldByOthers.has('guest_halt_poll_ns')
    ? 'another device has set it; it stays until both are put back'
    : `to wake a halted CPU takes an interrupt by the hypervisor; instead it polls up to ${HALT_POLL_NS / 1e6} ms before it sleeps, and is busy that long`;
  return [['guest_halt_poll_ns', String(HALT_POLL_NS), why]];
}

function notesOn(facts: TuneFacts, spec: TuneSpec): TuneNote[] {
  const notes: TuneNote[] = [];
  const channels = facts.settings.get('channels/combined');
  if (facts.irqbalance !== null && facts.interrupts.length > 0) {
    notes.push({
      code: 'irqbalance',
      text: `irqbalance (process ${facts.irqbalance}) places interrupts, and would again: they are left to it. To place them here, stop it: systemctl disable --now irqbalance`,
    });
  }
  if (facts.interrupts.length === 0) {
    notes.push({ code: 'no_interrupts', text: 'The device has no interrupts of its own to be placed.' });
  }
  if (spec.attached !== null && spec.queues !== undefined && channels !== undefined && Number(channels) < spec.queues) {
    notes.push({
      code: 'channels_attached',
      text: `The device has ${channels} channels, not ${spec.queues}; while it is attached they cannot be changed. Detach it, tune it, attach it again.`,
    });
  }
  if (spec.numaAware && facts.node === -1 && new Set(facts.cpus.map(({ node }) => node)).size > 1) {
    notes.push({
      code: 'node_unknown',
      text: 'The device does not say on which NUMA node it is: all nodes count the same.',
    });
  }
  if (spec.adaptive) {
    notes.push({
      code: 'adaptive',
      text: 'Coalescing is set by the load while a daemon runs (adaptive_coalesce), so it is left alone here.',
    });
  }
  return notes;
}
