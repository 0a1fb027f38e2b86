// SPDX-License-Identifier: Apache-2.0
/** What attaching is asked for, and what it did. */
import type { DeviceConfig } from '../config/device.ts';
import { VnicError } from '../errors.ts';
import type { Finding } from '../loader/preflight/index.ts';
import type { RedirectChoice, RedirectSetting } from '../steering/redirect.ts';
import type { AttachAction } from './attach.ts';
import type { DeviceRecord, EgressHook } from './record.ts';

export interface AttachRequest {
  /** Absent: what is recorded of the device (it was attached before a reboot), else nothing but defaults. */
  config?: DeviceConfig;
  /** Overrides the configuration's num_queues. */
  queues?: number;
  /** Overrides the configuration's redirect. */
  redirect?: RedirectSetting;
  mode: 'native' | 'generic';
  egress?: EgressHook;
  maxFlows?: number;
  maxRules?: number;
  deliverMetadata?: boolean;
  dryRun?: boolean;
  /** Of the configuration file's section that `config` comes from. */
  configSha256?: string;
  /** The record to begin from, where the device had another name when it was written. */
  earlier?: DeviceRecord;
}

/** Throws `policy_refused` for a mode that the configuration given with it excludes. */
export function refuseCopies({ mode, config }: AttachRequest): void {
  if (mode !== 'generic' || config?.enableZeroCopy !== true) return;
  throw new VnicError('policy_refused', 'enable_zero_copy is true, and generic mode copies every packet.', {
    remedy: 'Attach in native mode, or leave enable_zero_copy out.',
  });
}

export interface AttachResult {
  device: string;
  mode: 'native' | 'generic';
  egress: EgressHook;
  queues: number;
  redirect: RedirectChoice;
  azs: number;
  rules: number;
  /** Where AZs and rules come from. */
  source: 'config' | 'record' | 'defaults';
  actions: AttachAction[];
  /** What preflight found; none of them blocks. */
  findings: Finding[];
  performed: boolean;
}

export const attachDefaults = { maxFlows: 131_072, maxRules: 131_072, cpuQueueSize: 16_384 } as const;

/** To attach a device as it is recorded. */
export function requestOf(record: DeviceRecord): AttachRequest {
  const { mode, egress, maxFlows, maxRules, deliverMetadata } = record.settings;
  return { mode, egress, maxFlows, maxRules, deliverMetadata, earlier: record };
}
