// SPDX-License-Identifier: Apache-2.0
/**
 * The configuration file as users write it. Structure only; what text fields mean and how fields agree is checked in
 * device.ts and azs.ts, so that this schema can be published as it is. Error texts are noun phrases (see ProblemList).
 */
import { z } from 'zod';
import { VnicLimits } from '../maps/generated/abi.ts';
import { probeTypes } from '../steering/azs.ts';
import { deadmanPolicies, failoverPolicies } from '../steering/failover.ts';
import { redirectSettings } from '../steering/redirect.ts';
import { strictObject, wholeNumber } from '../steering/rules/problems.ts';
import { ruleSchema } from '../steering/rules/schema.ts';

const trueOrFalse = z.boolean('true or false');

/** Names of AZs stand in URLs and metric labels. */
const azName = z.string('a name').regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/, {
  error: 'a name of at most 63 letters, digits, dots, hyphens and underscores',
});

/** Each costs a socket and a packet or more per interval. */
const MAX_PROBE_TARGETS = 16;

const probeTarget = z.string('an address and port such as "10.1.0.1:443" or "[fd00:a::1]:443"');

export const probeSchema = strictObject({
  type: z.enum(probeTypes, probeTypes.join(', ')),
  target: probeTarget.optional(),
  targets: z
    .array(probeTarget, 'a list of targets')
    .min(1, 'a list of at least one target')
    .max(MAX_PROBE_TARGETS, `a list of at most ${MAX_PROBE_TARGETS} targets`)
    .optional(),
  quorum: wholeNumber(1, MAX_PROBE_TARGETS).optional(),
  interval_ms: wholeNumber(10, 60_000).optional(),
  timeout_ms: wholeNumber(1, 60_000).optional(),
  fall: wholeNumber(1, 100).optional(),
  rise: wholeNumber(1, 100).optional(),
  path: z.string('a path such as /healthz').optional(),
  status: z.union([z.string(), z.number()], 'a status such as 200, or a range such as 200-399').optional(),
});

export const flapSchema = strictObject({
  penalty: wholeNumber(0, 1_000_000).optional(),
  half_life_ms: wholeNumber(100, 86_400_000).optional(),
  suppress: wholeNumber(1, 1_000_000).optional(),
  reuse: wholeNumber(1, 1_000_000).optional(),
});

export const bfdSchema = strictObject({
  peers: z
    .array(z.string('an address such as 10.1.0.2'), 'a list of addresses')
    .min(1, 'a list of at least one address')
    .max(VnicLimits.maxBfdSessions, `a list of at most ${VnicLimits.maxBfdSessions} addresses`),
  quorum: wholeNumber(1, VnicLimits.maxBfdSessions).optional(),
  interval_ms: wholeNumber(5, 60_000).optional(),
  detect_mult: wholeNumber(1, 255).optional(),
  multihop: trueOrFalse.optional(),
});

export const azSchema = strictObject({
  name: azName,
  queues: z.union([z.string(), z.number(), z.array(z.number())], 'a list of queues such as 0-10,12'),
  weight: z.number('a number above 0').gt(0, 'a number above 0').lte(1000, 'at most 1000').optional(),
  prefixes: z.array(z.string('a prefix such as 10.1.0.0/16'), 'a list of prefixes').optional(),
  probe: probeSchema.optional(),
  silence_ms: wholeNumber(1, 600_000).optional(),
  silence_floor_pps: wholeNumber(1, 1_000_000_000).optional(),
  bfd: bfdSchema.optional(),
  hold_down_ms: wholeNumber(0, 86_400_000).optional(),
  flap: flapSchema.optional(),
  auto_recover: trueOrFalse.optional(),
});

function numberFrom(min: number, max: number) {
  const expected = `a number from ${min} to ${max}`;
  return z.number(expected).min(min, expected).max(max, expected);
}

export const rebalanceFields = {
  threshold: numberFrom(1, 1000).optional(),
  max_over_mean: numberFrom(1, 1000).optional(),
  min_gain: numberFrom(0, 1000).optional(),
};

export const failoverSchema = strictObject({
  policy: z.enum(failoverPolicies, failoverPolicies.join(' or ')).optional(),
  panic_share: numberFrom(0, 1).optional(),
  move_deadline_ms: wholeNumber(1, 60_000).optional(),
  deadman: strictObject({
    policy: z.enum(deadmanPolicies, deadmanPolicies.join(' or ')).optional(),
    timeout_ms: wholeNumber(100, 600_000).optional(),
  }).optional(),
  rebalance: strictObject({
    auto: trueOrFalse.optional(),
    ...rebalanceFields,
    cool_down_ms: wholeNumber(0, 86_400_000).optional(),
  }).optional(),
  queue_capacity_pps: wholeNumber(1, 1_000_000_000).optional(),
});

export const deviceFields = {
  num_queues: wholeNumber(1, VnicLimits.maxQueues).optional(),
  numa_node: wholeNumber(-1, 1023).optional(),
  coalesce_usecs: wholeNumber(0, 65_535).optional(),
  enable_zero_copy: trueOrFalse.optional(),
  enable_numa_aware: trueOrFalse.optional(),
  adaptive_coalesce: trueOrFalse.optional(),
  adaptive_threshold: wholeNumber(0, 1_000_000_000).optional(),
  rtt_sample: wholeNumber(0, 1_048_576).optional(),
  redirect: z.enum(redirectSettings, redirectSettings.join(', ')).optional(),
  failover: failoverSchema.optional(),
};

/** One device, as it is published. */
export const deviceSchema = strictObject({
  ...deviceFields,
  azs: z.array(azSchema).optional(),
  rules: z.array(ruleSchema).optional(),
});

/** One device, its AZs and rules not looked at yet: they are read one by one, so that each problem is found. */
export const deviceOutlineSchema = strictObject({
  ...deviceFields,
  azs: z.array(z.unknown(), 'a list of AZs').optional(),
  rules: z.array(z.unknown(), 'a list of rules').optional(),
});

export const traceModes = ['basic', 'all', 'off'] as const;

const filePath = z.string('a path').min(1, 'a path');

export const daemonSchema = strictObject({
  listen: z.string('an IP address and port such as 127.0.0.1:9090, or off').optional(),
  socket: strictObject({
    path: filePath.optional(),
    mode: z
      .string('octal digits such as "0660"')
      .regex(/^0?[0-7]{3}$/, 'octal digits such as "0660"')
      .optional(),
    group: z.string('the name of a group').min(1).optional(),
  }).optional(),
  tls: strictObject({ cert: filePath, key: filePath }).optional(),
  tokens: z
    .array(
      strictObject({
        name: azName,
        sha256: z.string('64 hexadecimal digits').regex(/^[0-9a-f]{64}$/, '64 hexadecimal digits in lower case'),
        scope: z.enum(['read', 'write'], 'read or write'),
      }),
      'a list of tokens',
    )
    .optional(),
  limits: strictObject({
    body_bytes: wholeNumber(1024, 2 ** 30).optional(),
    requests_per_second: wholeNumber(1, 1_000_000).optional(),
    open_requests: wholeNumber(1, 10_000).optional(),
    connections: wholeNumber(1, 100_000).optional(),
    event_streams: wholeNumber(1, 10_000).optional(),
    request_timeout_ms: wholeNumber(100, 600_000).optional(),
  }).optional(),
  telemetry: strictObject({
    tracepoints: z.enum(traceModes, traceModes.join(', ')).optional(),
    program_stats: trueOrFalse.optional(),
    socket_latency: trueOrFalse.optional(),
  }).optional(),
});

const httpAddress = z.string('an address such as https://10.0.0.1:2379').regex(/^https?:\/\/[^\s/?#]+\/?$/, {
  error: 'an address such as https://10.0.0.1:2379',
});

/** Membership in a fleet, over etcd. */
export const fleetSchema = strictObject({
  endpoints: z.array(httpAddress, 'a list of addresses').min(1, 'a list of at least one address'),
  prefix: z
    .string('a prefix such as /vnic')
    .regex(/^(?:\/[A-Za-z0-9._-]+)+\/?$/, 'a prefix such as /vnic')
    .optional(),
  node: azName.optional(),
  labels: z
    .record(azName, z.string('a text').max(63, 'at most 63 characters'), 'labels such as {role: gateway}')
    .optional(),
  tls: strictObject({ ca: filePath.optional(), cert: filePath.optional(), key: filePath.optional() }).optional(),
  auth: strictObject({ user: z.string('a name').min(1, 'a name'), password_file: filePath }).optional(),
  quorum: z
    .union(
      [z.enum(['majority', 'off']), z.int().min(2).max(10_000)],
      'majority, off, or a whole number from 2 to 10000',
    )
    .optional(),
  mend_drift: trueOrFalse.optional(),
});

export const configSchema = strictObject({
  devices: z.record(z.string(), deviceSchema).optional(),
  daemon: daemonSchema.optional(),
  fleet: fleetSchema.optional(),
});

export const configOutlineSchema = strictObject({
  devices: z.record(z.string(), z.unknown(), 'an object of devices by name').optional(),
  daemon: z.unknown().optional(),
  fleet: z.unknown().optional(),
});

export type AzInput = z.input<typeof azSchema>;
export type ProbeInput = z.input<typeof probeSchema>;
export type FailoverInput = z.input<typeof failoverSchema>;
export type BfdInput = z.input<typeof bfdSchema>;
export type FlapInput = z.input<typeof flapSchema>;
export type DeviceInput = z.input<typeof deviceSchema>;
export type DaemonInput = z.input<typeof daemonSchema>;
export type ConfigInput = z.input<typeof configSchema>;
