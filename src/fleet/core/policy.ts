// SPDX-License-Identifier: Apache-2.0
/**
 * A fleet's policy: AZs and rules of devices, for all nodes or for those with certain labels. Users write it as a file; in
 * the store it is its canonical JSON text. Parts that one node can meet at the same time must not contradict each other,
 * so that no node ever has to choose. Pure.
 */
import { z } from 'zod';
import { formatAz, readAzs } from '../../config/azs.ts';
import { isDeviceName } from '../../config/device.ts';
import type { AzConfig } from '../../steering/azs.ts';
import { formatRule } from '../../steering/rules/format.ts';
import type { Rule } from '../../steering/rules/model.ts';
import { readEachRule } from '../../steering/rules/parse.ts';
import { type Path, ProblemList, strictObject } from '../../steering/rules/problems.ts';
import { readRuleSetProblems } from '../../steering/rules/validate.ts';
import { NAME } from './keys.ts';
import { canMeet, type Labels, selectorText, selects } from './selector.ts';

/** What the fleet asks of a device. What is not given is left to the node. */
export interface DevicePolicy {
  readonly azs?: readonly AzConfig[];
  readonly rules?: readonly Rule[];
}

export interface PolicyPart {
  readonly selector: Labels;
  readonly devices: Readonly<Record<string, DevicePolicy>>;
}

export interface Policy {
  readonly parts: readonly PolicyPart[];
}

const label = z.string('a text').max(63, 'at most 63 characters');

export const labelsSchema = z.record(z.string().regex(NAME), label, 'labels such as {role: gateway}');

const partSchema = strictObject({
  selector: labelsSchema.optional(),
  devices: z.record(z.string(), z.unknown(), 'devices by name'),
});

const deviceSchema = strictObject({
  azs: z.array(z.unknown(), 'a list of AZs').optional(),
  rules: z.array(z.unknown(), 'a list of rules').optional(),
});

const policySchema = strictObject({
  parts: z.array(z.unknown(), 'a list of parts with selector and devices').min(1, 'a list of at least one part'),
});

/** Throws `invalid_config` with every problem. @param what is named in the message */
export function parsePolicy(input: unknown, what: string): Policy {
  const problems = new ProblemList();
  const outline = problems.checkFields(policySchema, input, []);
  const parts = (outline.parts ?? []).map((part, index) => readPart(part, ['parts', index], problems));
  if (problems.problems.length === 0) readContradictions(parts, problems);
  problems.throwIfAny('invalid_config', what);
  return { parts };
}

function readPart(input: unknown, path: Path, problems: ProblemList): PolicyPart {
  const { selector = {}, devices = {} } = problems.checkFields(partSchema, input, path);
  const read = Object.entries(devices).map(([name, device]) => {
    const place = [...path, 'devices', name];
    if (!isDeviceName(name)) problems.add(place, `${JSON.stringify(name)} is not a device name`, 'Name it as ip does.');
    return [name, readDevicePolicy(device, place, problems)] as const;
  });
  return { selector, devices: Object.fromEntries(read) };
}

function readDevicePolicy(input: unknown, path: Path, problems: ProblemList): DevicePolicy {
  const user = problems.checkFields(deviceSchema, input ?? {}, path);
  const azs = user.azs === undefined ? undefined : readAzs(user.azs, undefined, [...path, 'azs'], problems);
  const rulesPath = [...path, 'rules'];
  const rules = user.rules === undefined ? undefined : readEachRule(user.rules, rulesPath, problems);
  if (rules !== undefined) readRuleSetProblems(rules, undefined, rulesPath, problems);
  return {
    ...(azs === undefined ? {} : { azs }),
    ...(rules === undefined ? {} : { rules: rules.filter((rule) => rule !== undefined) }),
  };
}

/** Two parts for one device that one node can meet: no rule id and no AZ may stand in both. */
function readContradictions(parts: readonly PolicyPart[], problems: ProblemList): void {
  for (const [index, part] of parts.entries()) {
    for (const [earlierIndex, earlier] of parts.slice(0, index).entries()) {
      if (!canMeet(part.selector, earlier.selector)) continue;
      for (const [device, policy] of Object.entries(part.devices)) {
        const other = earlier.devices[device];
        if (other === undefined) continue;
        const path = ['parts', index, 'devices', device];
        const where = `part ${earlierIndex} (${selectorText(earlier.selector)}), which the same node can meet`;
        const ids = new Set(other.rules?.map(({ id }) => id));
        const id = policy.rules?.find((rule) => ids.has(rule.id))?.id;
        if (id !== undefined) {
          problems.add(
            [...path, 'rules'],
            `rule ${id} is in ${where}`,
            'Use each id once, or selectors that exclude each other.',
          );
        }
        if (policy.azs !== undefined && other.azs !== undefined) {
          problems.add([...path, 'azs'], `AZs are in ${where}`, 'Give the AZs of a device in one part.');
        }
      }
    }
  }
}

/** The text that is stored; the same policy gives the same text. */
export function formatPolicy(policy: Policy): string {
  return JSON.stringify({
    parts: policy.parts.map(({ selector, devices }) => ({
      selector: sorted(selector),
      devices: sorted(
        Object.fromEntries(
          Object.entries(devices).map(([name, { azs, rules }]) => [
            name,
            {
              ...(azs === undefined ? {} : { azs: azs.map(formatAz) }),
              ...(rules === undefined ? {} : { rules: rules.map(formatRule) }),
            },
          ]),
        ),
      ),
    })),
  });
}

function sorted<T>(fields: Readonly<Record<string, T>>): Record<string, T> {
  return Object.fromEntries(Object.entries(fields).sort(([a], [b]) => (a < b ? -1 : 1)));
}

/** What the policy asks of a node, by device; parts that both select it are joined. */
export function policyFor({ parts }: Policy, labels: Labels): Map<string, DevicePolicy> {
  const devices = new Map<string, DevicePolicy>();
  for (const part of parts) {
    if (!selects(part.selector, labels)) continue;
    for (const [name, { azs, rules }] of Object.entries(part.devices)) {
      const before = devices.get(name) ?? {};
      const joined = rules === undefined ? before.rules : [...(before.rules ?? []), ...rules];
      const zones = azs ?? before.azs;
      devices.set(name, {
        ...(zones === undefined ? {} : { azs: zones }),
        ...(joined === undefined ? {} : { rules: joined }),
      });
    }
  }
  return devices;
}
