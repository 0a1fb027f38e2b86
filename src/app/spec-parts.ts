// SPDX-License-Identifier: Apache-2.0
/** AZs and rules of a device as one: read, named by a tag, replaced in one transaction. */
import { createHash } from 'node:crypto';
import { formatAz } from '../config/azs.ts';
import type { AzConfig } from '../steering/azs.ts';
import type { Rule } from '../steering/rules/model.ts';
import { readCounters } from '../telemetry/counters.ts';
import type { AttachedDevice } from './attached-device.ts';
import type { Controller } from './controller.ts';

/** What is not given stays. */
export interface SpecParts {
  azs?: readonly AzConfig[] | undefined;
  rules?: readonly Rule[] | undefined;
}

const hashes = new WeakMap<readonly AzConfig[], string>();

function azsHash(azs: readonly AzConfig[]): string {
  const known = hashes.get(azs);
  if (known !== undefined) return known;
  const text = JSON.stringify(azs.map(formatAz));
  const hash = createHash('sha256').update(text).digest('base64url').slice(0, 16);
  hashes.set(azs, hash);
  return hash;
}

/** Changes with the AZs and with the rules, and is the same after a restart. */
export function specTag({ spec, config }: AttachedDevice): string {
  return `${spec.rulesTag}-${azsHash(config.azs)}`;
}

/**
 * In one transaction; what is the same as what is there is only checked. Throws `invalid_rule`, `invalid_config`,
 * `too_many_shapes`, `capacity_exceeded`.
 */
export function replaceSpec(attached: AttachedDevice, parts: SpecParts, { dryRun }: { dryRun: boolean }): void {
  const { azs = attached.config.azs, rules = attached.config.rules } = parts;
  if (azsHash(azs) === azsHash(attached.config.azs)) attached.spec.changeRules(rules, { dryRun });
  else attached.spec.replaceAzsAndRules(azs, rules, { dryRun });
}

export interface SpecView {
  name: string;
  tag: string;
  azs: { name: string; state: 'up' | 'failed'; cause: string | null }[];
  /** Since attach. */
  packets: number;
  dropped: number;
}

/** Devices of the daemon's own network namespace, without those that cannot be read now. */
export function specViews(controller: Controller): SpecView[] {
  return controller.records.devices().flatMap((device) => {
    if (device.netns !== null) return [];
    try {
      if (!controller.isPresent(device)) return [];
      return [controller.readDevice(device, (attached) => specView(device.name, attached))];
    } catch {
      // It vanished, or is damaged: its own status says so.
      return [];
    }
  });
}

function specView(name: string, attached: AttachedDevice): SpecView {
  const { parsed, unparsed, drops } = readCounters(attached.dataplane);
  const sum = (counts: Readonly<Record<string, bigint>>): bigint =>
    Object.values(counts).reduce((total, count) => total + count, 0n);
  return {
    name,
    tag: specTag(attached),
    azs: attached.azs().map((az) => ({ name: az.name, state: az.state, cause: az.cause })),
    packets: Number(parsed + sum(unparsed)),
    dropped: Number(sum(drops)),
  };
}
