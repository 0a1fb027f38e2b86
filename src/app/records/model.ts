// SPDX-License-Identifier: Apache-2.0
/** What a device record says, and the check that a text read back says it. */
import { z } from 'zod';
import { validateAzs } from '../../config/azs.ts';
import { type DeviceConfig, isDeviceName, parseDevice } from '../../config/device.ts';
import type { DeviceInput } from '../../config/schema.ts';
import type { DeviceId } from '../../loader/pins.ts';
import { isSettingName } from '../../loader/settings/setting.ts';
import { VnicLimits } from '../../maps/generated/abi.ts';
import { type HomeMovesText, parseHomeMoves } from '../../steering/home-moves.ts';
import { type RedirectChoice, redirectModes } from '../../steering/redirect.ts';
import { type FailoverCause, failoverCauses } from '../../telemetry/metrics/switches.ts';
import type { SteeringWord } from '../table-store.ts';

export const RECORD_VERSION = 2;

export type EgressHook = 'tcx' | 'clsact' | 'off';

/** How the dataplane was built; changing any of it takes a detach and an attach. */
export interface DataplaneSettings {
  mode: 'native' | 'generic';
  egress: EgressHook;
  queues: number;
  /** Queue's CPU, by queue. */
  queueCpus: number[];
  maxFlows: number;
  maxRules: number;
  hashSeed: number;
  deliverMetadata: boolean;
  /** Packets that a CPUMAP entry holds. */
  cpuQueueSize: number;
}

export interface RedirectRecord extends RedirectChoice {
  /** ISO 8601; since when the device is told so. */
  since: string;
}

export interface FailedAz {
  name: string;
  cause: FailoverCause;
  /** ISO 8601. */
  since: string;
  /** What it was found dead by. */
  evidence?: string | undefined;
}

export interface DeviceRecord {
  version: typeof RECORD_VERSION;
  device: DeviceId;
  mac: string;
  settings: DataplaneSettings;
  /** AZs and rules as users write them. Neither is changed in place: a change makes new objects. */
  spec: DeviceInput;
  failedAzs: FailedAz[];
  /** Rule set generation that holds `spec`; another one in the kernel is drift. */
  ruleGeneration: number;
  /** Steering table that was prepared with the last change of AZs; absent: none was changed since attaching. */
  tableGeneration?: number | undefined;
  /** What that table was prepared to replace; absent: it was active before it was recorded. */
  replacedWord?: SteeringWord | undefined;
  /** Where rebalancing made buckets at home; absent: all are at home where the plan puts them. */
  homeMoves?: HomeMovesText | undefined;
  /** ISO 8601; when buckets were last rebalanced. Absent: never since attaching. */
  lastRebalance?: string | undefined;
  /** How packets come to their queue; absent: by CPUMAP entries, as before there was a choice. */
  redirect?: RedirectRecord | undefined;
  /** Values of the device's settings from before attaching, by name: what detaching puts back. Absent: none was changed. */
  formerSettings?: Record<string, string> | undefined;
  /** Whether the clsact qdisc was made by attach and goes with detach. */
  clsactMade: boolean;
  /** Grows with each change of the rules: the store counts one on where the writer did not. */
  rulesRevision: number;
  /** SHA-256 of the device's section of the configuration file last applied; null: none was. */
  configSha256: string | null;
  /** SHA-256 of the BPF object file whose programs run; empty: not known. */
  objectSha256: string;
  /** Grows with each write of the device's record. The store's: what a writer gives is not looked at. */
  changeId: number;
}

/** What a writer may leave out, the store fills in. */
export type RecordDraft = Omit<DeviceRecord, FilledIn> & Partial<Pick<DeviceRecord, FilledIn>>;
type FilledIn = 'rulesRevision' | 'configSha256' | 'objectSha256' | 'changeId';

/** A record as it is kept. */
export interface StoredRecord extends DeviceRecord {
  /** SHA-256 of the rules as they are kept. */
  rulesSha256: string;
}

/** Names the file that holds the rules. */
export interface RulesReference {
  sha256: string;
  count: number;
}

/** A record without its rules. `rules` null: the spec names none. */
export interface RecordHeader extends Omit<StoredRecord, 'spec' | 'rulesSha256'> {
  spec: Omit<DeviceInput, 'rules'>;
  rules: RulesReference | null;
}

const MAX_U32 = 2 ** 32 - 1;
const sha256 = z.string().regex(/^[0-9a-f]{64}$/, 'is no SHA-256');
const count = z.int().min(0);

const deviceId = z.strictObject({
  name: z.string().refine(isDeviceName, 'is no device name'),
  netns: z
    .string()
    .regex(/^[^/\0]+$/, 'is no namespace name')
    .nullable(),
});

const settings = z
  .strictObject({
    mode: z.enum(['native', 'generic']),
    egress: z.enum(['tcx', 'clsact', 'off']),
    queues: z.int().min(1).max(VnicLimits.maxQueues),
    queueCpus: z.array(count.max(MAX_U32)),
    maxFlows: z.int().min(1).max(MAX_U32),
    maxRules: z.int().min(1).max(MAX_U32),
    hashSeed: count.max(MAX_U32),
    deliverMetadata: z.boolean(),
    cpuQueueSize: z.int().min(1).max(MAX_U32),
  })
  .refine(({ queues, queueCpus }) => queueCpus.length === queues, 'has not one CPU for each queue');

const failedAz = z.strictObject({
  name: z.string().min(1),
  cause: z.enum(failoverCauses),
  since: z.iso.datetime(),
  evidence: z.string().optional(),
});

const redirect = z.strictObject({
  mode: z.enum(redirectModes),
  trial: z.enum(['rss', 'follow']).nullable(),
  reason: z.string(),
  since: z.iso.datetime(),
});

const spec = z.record(z.string(), z.unknown());
const rulesList = z.array(z.record(z.string(), z.unknown())).optional();

function areHomeMoves(text: HomeMovesText): boolean {
  try {
    parseHomeMoves(text);
    return true;
  } catch {
    return false;
  }
}

const sharedFields = {
  device: deviceId,
  mac: z.string().regex(/^(?:[0-9a-f]{2}(?::[0-9a-f]{2})*)?$/i, 'is no hardware address'),
  settings,
  failedAzs: z.array(failedAz),
  ruleGeneration: count.max(MAX_U32),
  tableGeneration: count.max(MAX_U32).optional(),
  replacedWord: z.strictObject({ table: count.max(MAX_U32).nullable(), lostAzs: count.max(MAX_U32) }).optional(),
  homeMoves: z.array(z.string()).refine(areHomeMoves, 'is no list of moves').optional(),
  lastRebalance: z.iso.datetime().optional(),
  redirect: redirect.optional(),
  formerSettings: z.record(z.string().refine(isSettingName, 'is no setting'), z.string()).optional(),
  clsactMade: z.boolean(),
};

const headerSchema = z.strictObject({
  version: z.literal(RECORD_VERSION),
  changeId: z.int().min(1),
  ...sharedFields,
  spec: spec.refine((fields) => !('rules' in fields), 'holds rules, which have a file of their own'),
  rules: z.strictObject({ sha256, count }).nullable(),
  rulesRevision: z.int().min(1),
  configSha256: sha256.nullable(),
  objectSha256: z.union([sha256, z.literal('')]),
}) satisfies z.ZodType<Omit<RecordHeader, 'spec'> & { spec: Record<string, unknown> }>;

/** Version 1: one JSON text with the rules in it, and no checksum. */
const version1Schema = z.strictObject({
  version: z.literal(1),
  ...sharedFields,
  spec: z.looseObject({ rules: rulesList }),
});

/** Throws an Error that says what is wrong with it. */
export function checkHeader(value: unknown): RecordHeader {
  const header = checked(headerSchema, value) as RecordHeader;
  checkAzs(parseDevice(header.device.name, header.spec), header.settings);
  return header;
}

/** A record of version 1 as version 2 has it. Throws an Error that says what is wrong with it. */
export function migrateVersion1(value: unknown): DeviceRecord {
  const { version: _, ...fields } = checked(version1Schema, value);
  return {
    ...fields,
    version: RECORD_VERSION,
    spec: fields.spec as DeviceInput,
    changeId: 0,
    rulesRevision: 1,
    configSha256: null,
    objectSha256: '',
  };
}

/** Checks AZs and rules against each other and against the dataplane. Throws an Error that says what is wrong. */
export function checkSpec(record: Pick<DeviceRecord, 'device' | 'spec' | 'settings'>): void {
  const { queues, maxRules } = record.settings;
  const config = recordConfig(record);
  checkAzs(config, record.settings);
  if (config.rules.length > maxRules) throw new Error(`${config.rules.length} rules, but at most ${maxRules} fit`);
  const beyond = config.rules.find((rule) => rule.queues?.some((queue) => queue >= queues));
  if (beyond !== undefined) throw new Error(`rule ${beyond.id} has a queue that the device has not`);
}

function checkAzs(config: DeviceConfig, { queues }: DataplaneSettings): void {
  validateAzs(config.azs, queues);
}

const configs = new WeakMap<DeviceInput, DeviceConfig>();

/** The record's AZs and rules as the product works with them. They are parsed once for each `spec`. */
export function recordConfig(record: Pick<DeviceRecord, 'device' | 'spec'>): DeviceConfig {
  const known = configs.get(record.spec);
  if (known !== undefined && known.name === record.device.name) return known;
  const config = parseDevice(record.device.name, record.spec);
  configs.set(record.spec, config);
  return config;
}

function checked<Output>(schema: z.ZodType<Output>, value: unknown): Output {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const [issue] = result.error.issues;
  throw new Error(`${issue?.path.join('.') || 'the record'}: ${issue?.message ?? 'is not valid'}`);
}
