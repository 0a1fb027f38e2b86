// SPDX-License-Identifier: Apache-2.0
/** AZs: from the user form to the model, and back. */
import { VnicError } from '../errors.ts';
import { VnicLimits } from '../maps/generated/abi.ts';
import type { AzConfig } from '../steering/azs.ts';
import { coversAllIpv4, formatPrefix, overlaps, type Prefix, parsePrefix } from '../steering/rules/prefix.ts';
import { type Path, ProblemList } from '../steering/rules/problems.ts';
import { formatBfd, readBfd, readBfdConflicts } from './bfd.ts';
import { formatFlap, formatProbe, readFlap, readProbe } from './probes.ts';
import { formatQueueList, parseQueueList } from './queue-list.ts';
import { type AzInput, azSchema } from './schema.ts';

const DEFAULT_WEIGHT = 1;

/** One AZ by itself. Throws invalid_config with every problem. */
export function parseAz(input: unknown): AzConfig {
  const problems = new ProblemList();
  const az = readAz(input, [], problems);
  problems.throwIfAny('invalid_config', 'AZ is not valid');
  return az!;
}

/** A list of AZs, by themselves and against each other. Throws invalid_config with every problem. */
export function parseAzs(list: readonly unknown[]): AzConfig[] {
  const problems = new ProblemList();
  const azs = readAzs(list, undefined, ['azs'], problems);
  problems.throwIfAny('invalid_config', 'AZs are not valid');
  return azs;
}

/** AZs by themselves and against each other. Throws invalid_config. `queues`: of the device, if known. */
export function validateAzs(azs: readonly AzConfig[], queues?: number): void {
  const problems = new ProblemList();
  const placed = azs.map((az, index) => ({ az, path: ['azs', index] }));
  readAzConflicts(placed, queues, ['azs'], problems);
  problems.throwIfAny('invalid_config', 'AZs are not valid');
}

/** Reads a list of AZs, recording problems. */
export function readAzs(
  list: readonly unknown[],
  queues: number | undefined,
  path: Path,
  problems: ProblemList,
): AzConfig[] {
  const placed: PlacedAz[] = [];
  for (const [index, item] of list.entries()) {
    const az = readAz(item, [...path, index], problems);
    if (az !== undefined) placed.push({ az, path: [...path, index] });
  }
  readAzConflicts(placed, queues, path, problems, list.length);
  return placed.map(({ az }) => az);
}

function readAz(input: unknown, path: Path, problems: ProblemList): AzConfig | undefined {
  const before = problems.problems.length;
  const user = problems.checkFields(azSchema, input, path);
  const { queues: list, probe: asked } = user;
  const queues = list === undefined ? undefined : problems.attempt([...path, 'queues'], () => parseQueueList(list));
  const prefixes = (user.prefixes ?? []).map((text, index) =>
    problems.attempt([...path, 'prefixes', index], () => parseAzPrefix(text)),
  );
  const probe = asked === undefined ? undefined : readProbe(asked, [...path, 'probe'], problems);
  const bfd = user.bfd === undefined ? undefined : readBfd(user.bfd, [...path, 'bfd'], problems);
  const flap = user.flap === undefined ? undefined : readFlap(user.flap, [...path, 'flap'], problems);
  if (user.silence_floor_pps !== undefined && user.silence_ms === undefined) {
    problems.add(
      [...path, 'silence_floor_pps'],
      'silence_floor_pps says nothing without silence_ms',
      'Give silence_ms, or leave it out.',
    );
  }
  if (problems.problems.length > before) return undefined;
  return {
    name: user.name!,
    queues: queues!,
    weight: user.weight ?? DEFAULT_WEIGHT,
    prefixes: prefixes.map((prefix) => prefix!),
    ...(probe === undefined ? {} : { probe }),
    ...(user.silence_ms === undefined ? {} : { silenceMs: user.silence_ms }),
    ...(user.silence_floor_pps === undefined ? {} : { silenceFloorPps: user.silence_floor_pps }),
    ...(bfd === undefined ? {} : { bfd }),
    ...(user.hold_down_ms === undefined ? {} : { holdDownMs: user.hold_down_ms }),
    ...(flap === undefined ? {} : { flap }),
    ...(user.auto_recover === undefined ? {} : { autoRecover: user.auto_recover }),
  };
}

function parseAzPrefix(text: string): Prefix {
  const prefix = parsePrefix(text);
  if (coversAllIpv4(prefix)) {
    throw new VnicError('invalid_config', `${text} would take in IPv4 as well, as ::ffff:0:0/96`, {
      remedy: 'Name the IPv6 addresses meant, e.g. 2000::/3 for all global unicast.',
    });
  }
  return prefix;
}

interface PlacedAz {
  readonly az: AzConfig;
  readonly path: Path;
}

function readAzConflicts(
  placed: readonly PlacedAz[],
  queues: number | undefined,
  path: Path,
  problems: ProblemList,
  count = placed.length,
): void {
  if (count > VnicLimits.maxAzs) {
    problems.add(path, `${count} AZs, but the steering table has rows for ${VnicLimits.maxAzs}`, 'Join some of them.');
  }
  for (const [index, { az, path: azPath }] of placed.entries()) {
    const missing = az.queues.filter((queue) => queues !== undefined && queue >= queues);
    if (missing.length > 0) {
      problems.add(
        [...azPath, 'queues'],
        `AZ ${az.name} has queue ${formatQueueList(missing)}, but num_queues is ${queues}`,
        `Use queues 0 to ${(queues ?? 0) - 1}, or raise num_queues.`,
      );
    }
    for (const { az: other } of placed.slice(0, index)) readPairConflicts(az, other, azPath, problems);
  }
  readBfdConflicts(placed, path, problems);
}

function readPairConflicts(az: AzConfig, other: AzConfig, path: Path, problems: ProblemList): void {
  if (az.name === other.name) {
    problems.add([...path, 'name'], `AZ name ${az.name} is used twice`, 'Give each AZ its own name.');
  }
  const shared = az.queues.filter((queue) => other.queues.includes(queue));
  if (shared.length > 0) {
    problems.add(
      [...path, 'queues'],
      `queue ${formatQueueList(shared)} is in AZ ${other.name} already`,
      'Put each queue in one AZ, so that losing one leaves the others alone.',
    );
  }
  for (const [index, prefix] of az.prefixes.entries()) {
    const clash = other.prefixes.find((candidate) => overlaps(prefix, candidate));
    if (clash === undefined) continue;
    problems.add(
      [...path, 'prefixes', index],
      `${formatPrefix(prefix)} overlaps ${formatPrefix(clash)} of AZ ${other.name}`,
      'Split the prefixes, so that each address is in one AZ.',
    );
  }
}

/** The canonical user form; parseAz gives the same AZ back. */
export function formatAz(az: AzConfig): AzInput {
  return {
    name: az.name,
    queues: formatQueueList(az.queues),
    weight: az.weight,
    prefixes: az.prefixes.map(formatPrefix),
    ...(az.probe === undefined ? {} : { probe: formatProbe(az.probe) }),
    ...(az.silenceMs === undefined ? {} : { silence_ms: az.silenceMs }),
    ...(az.silenceFloorPps === undefined ? {} : { silence_floor_pps: az.silenceFloorPps }),
    ...(az.bfd === undefined ? {} : { bfd: formatBfd(az.bfd) }),
    ...(az.holdDownMs === undefined ? {} : { hold_down_ms: az.holdDownMs }),
    ...(az.flap === undefined ? {} : { flap: formatFlap(az.flap) }),
    ...(az.autoRecover === undefined ? {} : { auto_recover: az.autoRecover }),
  };
}
