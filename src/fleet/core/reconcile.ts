// SPDX-License-Identifier: Apache-2.0
/**
 * What a node has to do: from what the fleet asks for and what its devices are, to actions. One function, no effects; it
 * never acts on what is not known. Whatever is missing from the store because it cannot be reached is as it was last seen.
 */
import type { DevicePolicy } from './policy.ts';
import type { DeclarationValue } from './values.ts';

/** A device as it is. */
export interface ObservedDevice {
  name: string;
  /** Of its AZs and rules: changes with them. */
  tag: string;
  azs: readonly { name: string; state: 'up' | 'failed'; cause: string | null }[];
}

/** What is in effect on a device by the fleet's policy. */
export interface AppliedDevice {
  /** Of the DevicePolicy. */
  hash: string;
  /** The device's tag when that was put into effect. */
  tag: string;
}

export interface DesiredDevice {
  policy: DevicePolicy;
  hash: string;
}

export type Action =
  | { kind: 'replace'; device: string; policy: DevicePolicy; why: 'policy' | 'drift' }
  | { kind: 'fail'; device: string; az: string; declaration: DeclarationValue }
  | { kind: 'recover'; device: string; az: string };

export interface PolicySituation {
  desired: ReadonlyMap<string, DesiredDevice>;
  applied: ReadonlyMap<string, AppliedDevice>;
  observed: readonly ObservedDevice[];
  /** Whether what others changed on devices is put back. */
  mendDrift: boolean;
}

export interface PolicyPlan {
  /** All of them or none. */
  replace: (Action & { kind: 'replace' })[];
  /** Devices of the policy that are not attached here: nothing is begun then. */
  missing: string[];
  /** Devices that somebody else changed. */
  drift: string[];
}

/** From the policy that a node should have to what its devices need. */
export function planPolicy({ desired, applied, observed, mendDrift }: PolicySituation): PolicyPlan {
  const byName = new Map(observed.map((device) => [device.name, device]));
  const plan: PolicyPlan = { replace: [], missing: [], drift: [] };
  for (const [name, { policy, hash }] of desired) {
    const device = byName.get(name);
    const known = applied.get(name);
    if (device === undefined) plan.missing.push(name);
    else if (known?.hash !== hash) plan.replace.push({ kind: 'replace', device: name, policy, why: 'policy' });
    else if (known.tag !== device.tag) {
      plan.drift.push(name);
      if (mendDrift) plan.replace.push({ kind: 'replace', device: name, policy, why: 'drift' });
    }
  }
  return plan.missing.length > 0 ? { ...plan, replace: [] } : plan;
}

export interface AzSituation {
  observed: readonly ObservedDevice[];
  declarations: ReadonlyMap<string, DeclarationValue>;
  /** AZs whose death this node saw by itself, and that it has seen alive since the declaration. */
  seenAlive: ReadonlySet<string>;
}

export type AzAction = Action & { kind: 'fail' | 'recover' };

export function planAzs({ observed, declarations, seenAlive }: AzSituation): AzAction[] {
  return observed.flatMap(({ name: device, azs }) =>
    azs.flatMap(({ name: az, state, cause }): AzAction[] => {
      const declaration = declarations.get(az);
      if (declaration === undefined) return cause === 'fleet' ? [{ kind: 'recover', device, az }] : [];
      if (cause === 'fleet') return [];
      // A node that sees for itself is its own judge of what others only saw.
      if (declaration.by === 'quorum' && (state === 'failed' || seenAlive.has(az))) return [];
      return [{ kind: 'fail', device, az, declaration }];
    }),
  );
}

/** AZs that the node was a witness of and sees alive; those it knew of before, for as long as their declarations stand. */
export function seenAliveOf(node: string, { observed, declarations, seenAlive }: AzSituation): Set<string> {
  const up = new Set(observed.flatMap(({ azs }) => azs.filter(({ state }) => state === 'up').map(({ name }) => name)));
  const seen = new Set([...seenAlive].filter((az) => declarations.has(az)));
  for (const { az, by, witnesses } of declarations.values()) {
    if (by === 'quorum' && witnesses.includes(node) && up.has(az)) seen.add(az);
  }
  return seen;
}
