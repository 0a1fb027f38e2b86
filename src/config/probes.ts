// SPDX-License-Identifier: Apache-2.0
/** Probes of an AZ and flap damping: from the user form to the model, and back. */
import { VnicError } from '../errors.ts';
import type { ProbeTarget, ProbeType } from '../steering/azs.ts';
import { type AzProbe, defaultFlapDamping, type FlapDamping, type HttpExpectation } from '../steering/azs.ts';
import { formatAddress, parseAddress } from '../steering/rules/prefix.ts';
import { formatPath, type Path, type ProblemList } from '../steering/rules/problems.ts';
import type { FlapInput, ProbeInput } from './schema.ts';

const DEFAULT_INTERVAL_MS = 100;
const DEFAULT_FALL = 3;
const DEFAULT_RISE = 5;
const DEFAULT_PATH = '/';
const DEFAULT_STATUS: HttpExpectation['status'] = [200, 399];
const LONGEST_DEFAULT_TIMEOUT_MS = 1000;

const defaultTimeoutMs = (intervalMs: number): number => Math.min(intervalMs, LONGEST_DEFAULT_TIMEOUT_MS);
const majorityOf = (targets: number): number => Math.floor(targets / 2) + 1;

/** What fits of it may be missing fields: their problems are recorded already. */
export function readProbe(user: Partial<ProbeInput>, path: Path, problems: ProblemList): AzProbe | undefined {
  const { type } = user;
  if (type === undefined) return undefined;
  const before = problems.problems.length;
  const targets = readTargets(user, type, path, problems);
  const intervalMs = user.interval_ms ?? DEFAULT_INTERVAL_MS;
  const timeoutMs = user.timeout_ms ?? defaultTimeoutMs(intervalMs);
  if (timeoutMs > intervalMs) {
    problems.add(
      [...path, 'timeout_ms'],
      `timeout_ms ${timeoutMs} is longer than interval_ms ${intervalMs}`,
      'Make it at most the interval, so that a probe ends before the next begins.',
    );
  }
  const quorum = user.quorum ?? majorityOf(targets.length);
  if (quorum > targets.length && targets.length > 0) {
    problems.add(
      [...path, 'quorum'],
      `quorum ${quorum} is more than the ${targets.length} targets`,
      'Name more targets, or lower it.',
    );
  }
  const http = readHttp(user, type, path, problems);
  if (problems.problems.length > before) return undefined;
  return {
    type,
    targets,
    quorum,
    intervalMs,
    timeoutMs,
    fall: user.fall ?? DEFAULT_FALL,
    rise: user.rise ?? DEFAULT_RISE,
    ...(http === undefined ? {} : { http }),
  };
}

function readTargets(user: Partial<ProbeInput>, type: ProbeType, path: Path, problems: ProblemList): ProbeTarget[] {
  const { target, targets } = user;
  if ((target === undefined) === (targets === undefined)) {
    const isMissing = target === undefined;
    // One that does not fit the schema is not there either, but told of already.
    const where = formatPath([...path, 'target']);
    if (isMissing && problems.problems.some((problem) => problem.path.startsWith(where))) return [];
    problems.add(
      [...path, 'target'],
      isMissing ? 'is missing' : 'target and targets are both given',
      'Give target for one, or targets for several.',
    );
    return [];
  }
  const parse = type === 'icmp' ? parseHost : parseHostAndPort;
  const placed: [string, Path][] =
    target === undefined
      ? (targets ?? []).map((text, index) => [text, [...path, 'targets', index]])
      : [[target, [...path, 'target']]];
  const found = new Map<string, ProbeTarget>();
  for (const [text, where] of placed) {
    const one = problems.attempt(where, () => parse(text));
    if (one === undefined) continue;
    const key = formatTarget(one);
    if (found.has(key)) problems.add(where, `${key} is named twice`, 'Name each target once.');
    found.set(key, one);
  }
  return [...found.values()];
}

/** Addresses only: a name server may be in the AZ that is being lost. */
function parseHostAndPort(text: string): ProbeTarget {
  const match = /^(?:\[([^\]]+)\]|([^:]+)):(\d{1,5})$/.exec(text);
  const port = Number(match?.[3]);
  if (match === null || port < 1 || port > 65535) {
    throw new VnicError('invalid_config', `${JSON.stringify(text)} is not an address and port`, {
      remedy: 'Write "10.1.0.1:443" or "[fd00:a::1]:443".',
    });
  }
  return { address: formatAddress(parseAddress(match[1] ?? match[2] ?? '')), port };
}

function parseHost(text: string): ProbeTarget {
  const inBrackets = /^\[([^\]]+)\]$/.exec(text)?.[1];
  try {
    return { address: formatAddress(parseAddress(inBrackets ?? text)), port: null };
  } catch (cause) {
    throw new VnicError('invalid_config', `${JSON.stringify(text)} is not an IPv4 or IPv6 address without a port`, {
      remedy: 'Write "10.1.0.1" or "fd00:a::1": ICMP has no ports.',
      cause,
    });
  }
}

/** As the user form has it. */
export function formatTarget({ address, port }: ProbeTarget): string {
  if (port === null) return address;
  return address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`;
}

function readHttp(
  user: Partial<ProbeInput>,
  type: ProbeType,
  path: Path,
  problems: ProblemList,
): HttpExpectation | undefined {
  if (type !== 'http') {
    for (const field of ['path', 'status'] as const) {
      if (user[field] === undefined) continue;
      problems.add([...path, field], `${field} belongs to probes of type http`, 'Leave it out, or make the type http.');
    }
    return undefined;
  }
  const { path: asked = DEFAULT_PATH, status: text } = user;
  if (!/^\/[!-~]*$/.test(asked)) {
    problems.add(
      [...path, 'path'],
      `${JSON.stringify(asked)} is not a path`,
      'Write a path such as /healthz, other characters percent-encoded.',
    );
  }
  const status =
    text === undefined ? DEFAULT_STATUS : problems.attempt([...path, 'status'], () => parseStatus(String(text)));
  return status === undefined ? undefined : { path: asked, status };
}

function parseStatus(text: string): HttpExpectation['status'] {
  const match = /^([1-5]\d\d)(?:-([1-5]\d\d))?$/.exec(text);
  const first = Number(match?.[1]);
  const last = Number(match?.[2] ?? first);
  if (match === null || last < first) {
    throw new VnicError('invalid_config', `${JSON.stringify(text)} is not a status or a range of them`, {
      remedy: 'Write 200, or 200-399.',
    });
  }
  return [first, last];
}

/** What is at its default because of another field is left out, so that it follows when that field is changed. */
export function formatProbe(probe: AzProbe): ProbeInput {
  const { targets, quorum, intervalMs, timeoutMs, http } = probe;
  const texts = targets.map(formatTarget);
  const [first] = texts;
  return {
    type: probe.type,
    ...(texts.length === 1 ? { target: first! } : { targets: texts }),
    ...(quorum === majorityOf(targets.length) ? {} : { quorum }),
    interval_ms: intervalMs,
    ...(timeoutMs === defaultTimeoutMs(intervalMs) ? {} : { timeout_ms: timeoutMs }),
    fall: probe.fall,
    rise: probe.rise,
    ...(http === undefined ? {} : { path: http.path, status: `${http.status[0]}-${http.status[1]}` }),
  };
}

export function readFlap(user: FlapInput, path: Path, problems: ProblemList): FlapDamping | undefined {
  const flap = {
    penalty: user.penalty ?? defaultFlapDamping.penalty,
    halfLifeMs: user.half_life_ms ?? defaultFlapDamping.halfLifeMs,
    suppress: user.suppress ?? defaultFlapDamping.suppress,
    reuse: user.reuse ?? defaultFlapDamping.reuse,
  };
  if (flap.reuse < flap.suppress) return flap;
  problems.add(
    [...path, 'reuse'],
    `reuse ${flap.reuse} is not below suppress ${flap.suppress}`,
    'Make reuse smaller: suppressing ends there.',
  );
  return undefined;
}

export function formatFlap({ penalty, halfLifeMs, suppress, reuse }: FlapDamping): FlapInput {
  return { penalty, half_life_ms: halfLifeMs, suppress, reuse };
}
