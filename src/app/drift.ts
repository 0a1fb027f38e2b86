// SPDX-License-Identifier: Apache-2.0
/** Where the kernel differs from what was asked for. */
import type { DeviceConfig } from '../config/device.ts';
import { linksIn } from '../loader/device-watch.ts';
import type { Native } from '../loader/ffi/index.ts';
import { linkInfo } from '../loader/link.ts';
import type { PinFolder } from '../loader/pins.ts';
import { LINK_EGRESS, LINK_XDP } from './attach.ts';
import { isWatching, needsWatch } from './az-watch.ts';
import type { Dataplane } from './dataplane.ts';
import type { DeviceRecord } from './record.ts';
import { nextGeneration, type RuleStore } from './rule-store.ts';
import type { TableStore } from './table-store.ts';

export interface Drift {
  what:
    | 'rules'
    | 'rule generation'
    | 'steering table'
    | 'lost AZs'
    | 'AZ watch'
    | 'CPUMAP'
    | 'XPS'
    | 'XDP link'
    | 'egress link'
    | 'device name';
  spec: string;
  kernel: string;
}

export interface DriftParts {
  dataplane: Dataplane;
  rules: RuleStore;
  tables: TableStore;
  pins: PinFolder;
  record: DeviceRecord;
  /** Rules that were asked for. */
  ruleCount: number;
  config: DeviceConfig;
  /** Queues that the recorded state has in use. */
  usableQueues: bigint;
  /** Settings of the device that were taken over and are not as they were left. */
  lostSettings: readonly string[];
  /** Bit set of the AZs that are recorded as failed, by row. */
  lostAzs: number;
}

/** @param countAgeMs how old the count of the kernel's rules may be */
export function findDrift(parts: DriftParts, countAgeMs = 0): Drift[] {
  const { dataplane, rules, tables, pins, record, ruleCount, config, usableQueues, lostAzs } = parts;
  const drift: Drift[] = [];
  const add = (what: Drift['what'], spec: unknown, kernel: unknown): void => {
    drift.push({ what, spec: String(spec), kernel: String(kernel) });
  };
  const { settings, ruleGeneration } = record;
  if (rules.generation() !== ruleGeneration) add('rule generation', ruleGeneration, rules.generation());
  const loaded = rules.count(countAgeMs);
  if (loaded !== ruleCount) add('rules', ruleCount, loaded);
  const word = tables.word();
  const inUse = word.table === null ? 'steering is off' : maskText(tables.usableQueues(word.table));
  if (inUse !== maskText(usableQueues)) add('steering table', maskText(usableQueues), inUse);
  // Those that the kernel lost besides are its own decision, and adopted.
  const notLost = lostAzs & ~word.lostAzs;
  if (notLost !== 0) add('lost AZs', maskText(BigInt(lostAzs)), maskText(BigInt(word.lostAzs)));
  if (needsWatch(config) && !isWatching(dataplane)) add('AZ watch', 'running', 'stopped');
  const missing = [...new Set(settings.queueCpus)].filter((cpu) => dataplane.cpus.get(cpu) === undefined);
  if (missing.length > 0) add('CPUMAP', 'an entry for each CPU', `none for CPU ${missing.join(', ')}`);
  if (parts.lostSettings.length > 0) add('XPS', 'none', `on ${parts.lostSettings.join(', ')}`);
  using link = pins.open(LINK_XDP);
  const { ifindex } = linkInfo(dataplane.native, link);
  if (ifindex === 0) add('XDP link', 'attached', 'its device is gone');
  else {
    const name = nameOf(dataplane.native, record.device.netns, ifindex);
    if (name !== record.device.name) add('device name', record.device.name, name ?? 'in another namespace');
  }
  if (settings.egress === 'tcx' && !pins.exists(LINK_EGRESS)) add('egress link', 'tcx', 'missing');
  return drift;
}

export interface Repair {
  /** What it does. */
  text: string;
  perform: () => void;
}

/** What brings the kernel back to what is recorded. Links are left out: they are made by attaching. */
export function repairsFor(
  drift: readonly Drift[],
  ruleCount: number,
  repair: Record<'cpumap' | 'rules' | 'table' | 'watch' | 'device', () => void>,
): Repair[] {
  const has = (...what: Drift['what'][]): boolean => drift.some((entry) => what.includes(entry.what));
  return [
    ...(has('CPUMAP') ? [{ text: 'make the missing CPUMAP entries', perform: repair.cpumap }] : []),
    ...(has('rules', 'rule generation')
      ? [{ text: `load the ${ruleCount} rules that are recorded`, perform: repair.rules }]
      : []),
    ...(has('XPS') ? [{ text: 'clear XPS again', perform: repair.device }] : []),
    ...(has('AZ watch') ? [{ text: 'start the watch of AZs', perform: repair.watch }] : []),
    ...(has('steering table', 'lost AZs')
      ? [{ text: 'write the steering table that belongs to the recorded state', perform: repair.table }]
      : []),
  ];
}

function nameOf(native: Native, netns: string | null, ifindex: number): string | null {
  for (const [name, link] of linksIn(native, netns)) if (link.ifindex === ifindex) return name;
  return null;
}

/** What a process that was killed had recorded, but not yet switched to. */
export function isInterrupted({ rules, record }: Pick<DriftParts, 'rules' | 'record'>): boolean {
  return record.ruleGeneration !== rules.generation() && record.ruleGeneration === nextGeneration(rules.generation());
}

export function driftText({ what, spec, kernel }: Drift): string {
  return `${what}: asked for ${spec}, the kernel has ${kernel}`;
}

function maskText(queues: bigint): string {
  return `0x${queues.toString(16)}`;
}
