// SPDX-License-Identifier: Apache-2.0
/** What a client asked of a device, and random changes of it: each with the state that it leads to. Pure. */
import { parseAz } from '../../src/config/azs.ts';
import type { AzConfig } from '../../src/steering/azs.ts';
import { formatRule } from '../../src/steering/rules/format.ts';
import type { Rule } from '../../src/steering/rules/model.ts';
import { parseRule } from '../../src/steering/rules/parse.ts';

export const QUEUES = 32;

type RuleBody = Record<string, unknown> & { id: number };
type AzBody = { name: string; queues: string; weight: number; prefixes: string[] };

/** Never changed in place. */
export interface Asked {
  readonly rules: ReadonlyMap<number, RuleBody>;
  readonly azs: readonly AzBody[];
  readonly failed: readonly string[];
}

export interface Change {
  method: string;
  /** After the device's URL. */
  rest: string;
  body?: unknown;
  leadsTo: Asked;
}

export const firstAsked: Asked = {
  rules: new Map(),
  azs: [
    { name: 'az-a', queues: '0-9', weight: 1, prefixes: ['10.1.0.0/16'] },
    { name: 'az-b', queues: '10-19', weight: 1, prefixes: ['10.2.0.0/16'] },
    { name: 'az-c', queues: '20-25', weight: 1, prefixes: ['10.3.0.0/16'] },
  ],
  failed: [],
};

export function parsedRules({ rules }: Asked): Rule[] {
  return [...rules.values()].map((rule) => parseRule(rule));
}

export function parsedAzs({ azs }: Asked): AzConfig[] {
  return azs.map((az) => parseAz(az));
}

/** Queues that are not of a failed AZ, ascending. */
export function queuesInUse(asked: Asked): number[] {
  const out = new Set(parsedAzs(asked).flatMap((az) => (asked.failed.includes(az.name) ? az.queues : [])));
  return Array.from({ length: QUEUES }, (_, queue) => queue).filter((queue) => !out.has(queue));
}

/** The same text for the same state, however it was come by. */
export function textOf(asked: Asked): string {
  const rules = parsedRules(asked)
    .sort((a, b) => a.id - b.id)
    .map(formatRule);
  const azs = parsedAzs(asked).map(({ name, queues, weight }, index) => {
    const state = asked.failed.includes(name) ? 'failed' : 'up';
    return { name, state, weight, queues, prefixes: asked.azs[index]!.prefixes };
  });
  return JSON.stringify({ rules, azs });
}

/** The state as the API shows it, as textOf() writes it. */
export function textOfAnswers(
  rules: readonly unknown[],
  azs: readonly { name: string; state: string; weight: number; queues: number[]; prefixes: string[] }[],
): string {
  const sorted = rules.map((rule) => parseRule(rule)).sort((a, b) => a.id - b.id);
  return JSON.stringify({
    rules: sorted.map(formatRule),
    azs: azs.map(({ name, state, weight, queues, prefixes }) => ({ name, state, weight, queues, prefixes })),
  });
}

/** @param random gives a whole number below its argument */
export class Changes {
  readonly #random: (below: number) => number;
  /** Grows, so that each change writes something that was not there before. */
  #count = 0;

  constructor(random: (below: number) => number) {
    this.#random = random;
  }

  #pick<T>(list: readonly T[]): T | undefined {
    return list[this.#random(list.length)];
  }

  #rule(id: number): RuleBody {
    this.#count++;
    const bits = this.#random(4) === 0 ? 24 : 32;
    const host = bits === 24 ? 0 : this.#random(8);
    const match = { src: `10.${this.#random(4)}.0.${host}/${bits}` };
    const rule = { id, priority: this.#count, match };
    switch (this.#random(3)) {
      case 0:
        return { ...rule, action: 'drop' };
      case 1:
        // Beside the AZs' queues, so that none of them is out of use.
        return { ...rule, action: 'pass', queues: [28, 29 + this.#random(3)] };
      default:
        return { ...rule, action: 'pass', limit: { rate: `${10 + this.#count}mbit` } };
    }
  }

  #some(count: number): RuleBody[] {
    const ids = new Set(Array.from({ length: count }, () => 1 + this.#random(40)));
    return Array.from(ids, (id) => this.#rule(id));
  }

  next(asked: Asked, withAzs: boolean): Change {
    return withAzs && this.#random(3) === 0 ? this.#azChange(asked) : this.#ruleChange(asked);
  }

  #ruleChange(asked: Asked): Change {
    const rules = new Map(asked.rules);
    const ids = [...rules.keys()];
    const kind = this.#random(6);
    if (kind <= 1 || ids.length === 0) {
      const { id, ...body } = this.#rule(1 + this.#random(40));
      rules.set(id, { id, ...body });
      return { method: 'PUT', rest: `/rules/${id}`, body, leadsTo: { ...asked, rules } };
    }
    if (kind === 2) {
      const id = this.#pick(ids)!;
      rules.delete(id);
      return { method: 'DELETE', rest: `/rules/${id}`, leadsTo: { ...asked, rules } };
    }
    if (kind === 3) {
      const whole = this.#some(5 + this.#random(25));
      const next = new Map(whole.map((rule) => [rule.id, rule]));
      return { method: 'PUT', rest: '/rules', body: whole, leadsTo: { ...asked, rules: next } };
    }
    const deleted = this.#pick(ids)!;
    const set = this.#some(3).filter(({ id }) => id !== deleted);
    rules.delete(deleted);
    for (const rule of set) rules.set(rule.id, rule);
    return { method: 'PATCH', rest: '/rules', body: { set, delete: [deleted] }, leadsTo: { ...asked, rules } };
  }

  #azChange(asked: Asked): Change {
    const { azs, failed } = asked;
    const az = this.#pick(azs)!;
    if (failed.includes(az.name)) {
      const left = failed.filter((name) => name !== az.name);
      return { method: 'POST', rest: `/azs/${az.name}/recover`, leadsTo: { ...asked, failed: left } };
    }
    if (failed.length === 0 && this.#random(2) === 0) {
      const leadsTo = { ...asked, failed: [az.name] };
      return { method: 'POST', rest: `/azs/${az.name}/fail`, body: {}, leadsTo };
    }
    this.#count++;
    const number = Number(/^10\.(\d)\./.exec(az.prefixes[0]!)?.[1]);
    const queues = az.name === 'az-c' ? `20-${22 + this.#random(6)}` : az.queues;
    const next = {
      ...az,
      queues,
      weight: 1 + (this.#count % 9),
      prefixes: [`10.${number}.0.0/16`, `10.${100 + number}.${this.#count % 250}.0/24`],
    };
    const leadsTo = { ...asked, azs: azs.map((other) => (other === az ? next : other)) };
    return { method: 'PUT', rest: `/azs/${az.name}`, body: next, leadsTo };
  }
}
