// SPDX-License-Identifier: Apache-2.0
/** One device of the configuration. */
import type { AzConfig } from '../steering/azs.ts';
import { type FailoverConfig, failoverDefaults } from '../steering/failover.ts';
import type { RedirectSetting } from '../steering/redirect.ts';
import { commonEnds } from '../steering/rules/changes.ts';
import { formatRule } from '../steering/rules/format.ts';
import type { Rule } from '../steering/rules/model.ts';
import { readEachRule } from '../steering/rules/parse.ts';
import { type Path, ProblemList } from '../steering/rules/problems.ts';
import { readRuleSetProblems } from '../steering/rules/validate.ts';
import { formatAz, readAzs } from './azs.ts';
import { formatFailover, readFailover } from './failover.ts';
import { type DeviceInput, deviceOutlineSchema } from './schema.ts';

export interface DeviceConfig {
  readonly name: string;
  /** Absent: as many as the device has. */
  readonly numQueues?: number;
  /** -1: all nodes. */
  readonly numaNode: number;
  readonly coalesceUsecs: number;
  /** True: native XDP on the driver's buffers or nothing, so generic mode is refused. */
  readonly enableZeroCopy?: boolean;
  readonly enableNumaAware: boolean;
  readonly adaptiveCoalesce: boolean;
  /** Packets per second at which coalescing starts to adapt. */
  readonly adaptiveThreshold: number;
  /** One TCP packet in so many that leave is looked at for round-trip times; 0: none. */
  readonly rttSample: number;
  /** How packets come to the CPU of their queue. */
  readonly redirect: RedirectSetting;
  readonly failover: FailoverConfig;
  readonly azs: readonly AzConfig[];
  readonly rules: readonly Rule[];
}

export const deviceDefaults = {
  numaNode: -1,
  coalesceUsecs: 64,
  enableNumaAware: true,
  adaptiveCoalesce: true,
  adaptiveThreshold: 1000,
  rttSample: 64,
  redirect: 'cpumap',
  failover: failoverDefaults,
} as const;

/** One device by itself, as the REST API takes it. Throws invalid_config with every problem. */
export function parseDevice(name: string, input: unknown): DeviceConfig {
  const problems = new ProblemList();
  const device = readDevice(name, input, [], problems);
  problems.throwIfAny('invalid_config', `device ${name} is not valid`);
  return device;
}

/** Reads a device, recording problems; what has a problem is left out. */
export function readDevice(name: string, input: unknown, path: Path, problems: ProblemList): DeviceConfig {
  if (!isDeviceName(name)) {
    problems.add(path, `${JSON.stringify(name)} is not a device name`, 'Use the name that "ip link" shows.');
  }
  // An empty entry ("eth0:" in YAML) is a device with nothing but defaults.
  const user = problems.checkFields(deviceOutlineSchema, input ?? {}, path);
  const azs = readAzs(user.azs ?? [], user.num_queues, [...path, 'azs'], problems);
  const rulesPath = [...path, 'rules'];
  const rules = readEachRule(user.rules ?? [], rulesPath, problems);
  readRuleSetProblems(rules, user.num_queues, rulesPath, problems);
  return {
    name,
    ...(user.num_queues === undefined ? {} : { numQueues: user.num_queues }),
    numaNode: user.numa_node ?? deviceDefaults.numaNode,
    coalesceUsecs: user.coalesce_usecs ?? deviceDefaults.coalesceUsecs,
    ...(user.enable_zero_copy === undefined ? {} : { enableZeroCopy: user.enable_zero_copy }),
    enableNumaAware: user.enable_numa_aware ?? deviceDefaults.enableNumaAware,
    adaptiveCoalesce: user.adaptive_coalesce ?? deviceDefaults.adaptiveCoalesce,
    adaptiveThreshold: user.adaptive_threshold ?? deviceDefaults.adaptiveThreshold,
    rttSample: user.rtt_sample ?? deviceDefaults.rttSample,
    redirect: user.redirect ?? deviceDefaults.redirect,
    failover: readFailover(user.failover ?? {}, [...path, 'failover'], problems),
    azs,
    rules: rules.filter((rule) => rule !== undefined),
  };
}

/** What a system call or a file's name can hold: no NUL, no half of a surrogate pair. */
export function isText(text: string): boolean {
  return text.isWellFormed() && !text.includes('\0');
}

/** What the kernel's dev_valid_name() takes (net/core/dev.c): 1 to 15 bytes, no slash, colon or white space. */
export function isDeviceName(name: string): boolean {
  if (name === '.' || name === '..' || !isText(name)) return false;
  return /^[^\s/:]{1,15}$/.test(name) && Buffer.byteLength(name) <= 15;
}

/** A device and its user form. */
export interface FormattedDevice {
  readonly device: DeviceConfig;
  readonly user: DeviceInput;
}

/**
 * The canonical user form; parseDevice gives the same device back. Rules that `earlier` has too keep their objects there,
 * and so does the list if it is the same: whoever keeps them sees by that what did not change.
 */
export function formatDevice(device: DeviceConfig, earlier?: FormattedDevice): DeviceInput {
  const failover = formatFailover(device.failover);
  return {
    ...(device.numQueues === undefined ? {} : { num_queues: device.numQueues }),
    numa_node: device.numaNode,
    coalesce_usecs: device.coalesceUsecs,
    ...(device.enableZeroCopy === undefined ? {} : { enable_zero_copy: device.enableZeroCopy }),
    enable_numa_aware: device.enableNumaAware,
    adaptive_coalesce: device.adaptiveCoalesce,
    adaptive_threshold: device.adaptiveThreshold,
    ...(device.rttSample === deviceDefaults.rttSample ? {} : { rtt_sample: device.rttSample }),
    ...(device.redirect === deviceDefaults.redirect ? {} : { redirect: device.redirect }),
    ...(failover === undefined ? {} : { failover }),
    azs: device.azs.map(formatAz),
    rules: formatRules(device.rules, earlier),
  };
}

function formatRules(rules: readonly Rule[], earlier: FormattedDevice | undefined): NonNullable<DeviceInput['rules']> {
  const known = earlier?.user.rules;
  if (earlier === undefined || known?.length !== earlier.device.rules.length) return rules.map(formatRule);
  if (rules === earlier.device.rules) return known;
  const { start, end, shift } = commonEnds(earlier.device.rules, rules, (a, b) => a === b);
  const between = new Map<Rule, number>();
  for (let position = start; position < end + shift; position++) between.set(earlier.device.rules[position]!, position);
  const changed = rules.slice(start, end).map((rule) => known[between.get(rule) ?? -1] ?? formatRule(rule));
  return [...known.slice(0, start), ...changed, ...known.slice(end + shift)];
}
