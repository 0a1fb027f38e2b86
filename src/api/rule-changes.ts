// SPDX-License-Identifier: Apache-2.0
/** From the rule set that is there to the next one: what each kind of request makes of it. */
import { createHash } from 'node:crypto';
import type { AttachedDevice } from '../app/attached-device.ts';
import { VnicError } from '../errors.ts';
import { type DeviceId, deviceText } from '../loader/pins.ts';
import { formatRule } from '../steering/rules/format.ts';
import type { Rule } from '../steering/rules/model.ts';
import { parseQosLine, parseRule } from '../steering/rules/parse.ts';
import type { ApiContext, ApiRequest } from './operation.ts';
import { checkPreconditions } from './preconditions.ts';

export function setTag(device: AttachedDevice): string {
  return `"${device.spec.rulesTag}"`;
}

/** By content, so that it is the same after a restart, and whatever the counters say. */
export function ruleTag(rule: Rule): string {
  return `"${createHash('sha256')
    .update(JSON.stringify(formatRule(rule)))
    .digest('base64url')
    .slice(0, 22)}"`;
}

export interface Change {
  device: DeviceId;
  headers: ApiRequest['headers'];
  dryRun: boolean | undefined;
  /** What If-Match speaks of; default: the whole set. */
  tagOf?: (device: AttachedDevice) => { tag: string | null; what: string };
  next: (rules: readonly Rule[], device: AttachedDevice) => readonly Rule[];
}

/** From the set that is there to the next one, in one transaction. Nothing is done if both are the same. */
export function changeRules(context: ApiContext, { device, headers, dryRun = false, tagOf, next }: Change) {
  return context.controller.withDevice(device, (attached) => {
    const { tag, what } = tagOf?.(attached) ?? { tag: setTag(attached), what: 'The rule set' };
    checkPreconditions(headers, tag, what);
    const before = attached.config.rules;
    const result = attached.spec.changeRules(next(before, attached), { dryRun });
    const report = { device: deviceText(device), ...result, performed: !dryRun };
    const { added, changed, removed } = report;
    if (!dryRun && added.length + changed.length + removed.length > 0) {
      const data = { added: added.length, changed: changed.length, removed: removed.length, etag: setTag(attached) };
      context.publish({ type: 'rules.changed', device: deviceText(device), data });
    }
    return { report, etag: setTag(attached), rules: attached.config.rules };
  });
}

const MAX_IDS_NAMED = 20;

export function unknownRule(id: number, rules: readonly Rule[]): VnicError {
  const known = rules.slice(0, MAX_IDS_NAMED).map((rule) => rule.id);
  return new VnicError('not_found', `There is no rule ${id}.`, {
    remedy:
      rules.length === 0
        ? 'There are no rules yet.'
        : `Known rules: ${known.join(', ')}${rules.length > MAX_IDS_NAMED ? ' …' : ''}`,
    details: { rule: id },
  });
}

export function findRule(id: number, rules: readonly Rule[]): Rule {
  const rule = rules.find((candidate) => candidate.id === id);
  if (rule === undefined) throw unknownRule(id, rules);
  return rule;
}

export interface Patch {
  add: Rule[];
  replace: Rule[];
  set: Rule[];
  delete: number[];
}

/** Throws `conflict`, `not_found`, and `usage` where a rule is named twice. */
export function applyPatch(rules: readonly Rule[], change: Patch): Rule[] {
  const next = new Map(rules.map((rule) => [rule.id, rule]));
  const named = new Set<number>();
  const name = (id: number): void => {
    if (named.has(id)) {
      throw new VnicError('usage', `Rule ${id} is named twice in one change.`, { remedy: 'Say once what it becomes.' });
    }
    named.add(id);
  };
  for (const id of change.delete) {
    name(id);
    if (!next.delete(id)) throw unknownRule(id, rules);
  }
  for (const rule of change.replace) {
    name(rule.id);
    if (!next.has(rule.id)) throw unknownRule(rule.id, rules);
    next.set(rule.id, rule);
  }
  for (const rule of change.add) {
    name(rule.id);
    if (next.has(rule.id)) {
      throw new VnicError('conflict', `Rule ${rule.id} exists already.`, {
        remedy: `Change it with: vnicctl rule replace ${rule.id} …`,
        details: { rule: rule.id },
      });
    }
    next.set(rule.id, rule);
  }
  for (const rule of change.set) {
    name(rule.id);
    next.set(rule.id, rule);
  }
  return [...next.values()];
}

/** A later line of the same rule wins. Throws `invalid_rule` that names the line. */
export function parseQosLines(text: string): Map<number, number> {
  const rates = new Map<number, number>();
  for (const [index, line] of text.split('\n').entries()) {
    if (line.trim() === '') continue;
    try {
      const { ruleId, bitsPerSecond } = parseQosLine(line);
      rates.set(ruleId, bitsPerSecond);
    } catch (error) {
      if (!(error instanceof VnicError)) throw error;
      const { code, message, remedy, details } = error;
      throw new VnicError(code, `line ${index + 1}: ${message}`, {
        ...(remedy === undefined ? {} : { remedy }),
        details: { ...details, line: index + 1 },
        cause: error,
      });
    }
  }
  return rates;
}

/** The limit keeps its scope and mode; its burst is the default for the new rate. */
export function withRates(rules: readonly Rule[], rates: ReadonlyMap<number, number>): Rule[] {
  const known = new Set(rules.map(({ id }) => id));
  for (const id of rates.keys()) if (!known.has(id)) throw unknownRule(id, rules);
  return rules.map((rule) => {
    const bitsPerSecond = rates.get(rule.id);
    if (bitsPerSecond === undefined) return rule;
    const { limit, ...rest } = formatRule(rule);
    const { scope = 'rule', mode = 'police' } = limit ?? {};
    return parseRule({ ...rest, limit: { rate: bitsPerSecond, scope, mode } });
  });
}
