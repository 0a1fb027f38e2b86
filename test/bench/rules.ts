// SPDX-License-Identifier: Apache-2.0
/**
 * `BENCH=rules`: how long a rule set takes from the parsed JSON body to the point where one store makes it live, stage by
 * stage. The floor is JSON.parse of the same body in the same round, so that ratios hold on other machines.
 */
import { Dataplane } from '../../src/app/dataplane.ts';
import { RuleStore } from '../../src/app/rule-store.ts';
import { type DeviceConfig, type FormattedDevice, formatDevice, parseDevice } from '../../src/config/device.ts';
import type { Native } from '../../src/loader/ffi/index.ts';
import { compareRules, reuseRules } from '../../src/steering/rules/changes.ts';
import type { Rule } from '../../src/steering/rules/model.ts';
import { parseRule, parseRules } from '../../src/steering/rules/parse.ts';
import type { RuleInput } from '../../src/steering/rules/schema.ts';
import { planRules, type RulePlan } from '../../src/steering/rules/validate.ts';
import { randomSource } from '../support/random.ts';
import { quantile } from './measure.ts';
import type { Part } from './part.ts';
import type { Measured } from './result.ts';

const QUEUES = 32;
const MAX_RULES = 131_072;
const COUNTS = [1000, 10_000, 100_000] as const;
const ROUNDS = 7;
const QUICK_COUNTS = [100_000] as const;
const QUICK_ROUNDS = 3;

/** Of 100,000 rules, in times of JSON.parse of their body: twice what is usual. */
const bounds: Readonly<Record<string, number>> = { all: 14, 'one action': 2, 'one match': 5 };

/** Prefixes of several lengths in both families, protocols, ports and ranges; limits on a fifth, queues on a tenth. */
export function mixedRules(count: number, seed: number): RuleInput[] {
  const random = randomSource(seed);
  const hex = (value: number): string => value.toString(16);
  return Array.from({ length: count }, (_, index) => {
    const [a, b, c] = [(index >> 16) & 255, (index >> 8) & 255, index & 255];
    const port = 1 + (random() % 60_000);
    const matches: RuleInput['match'][] = [
      { src: `10.${a}.${b}.${c}` },
      { src: `11.${a}.${b}.${c}/32`, dst: '192.0.2.0/24', proto: 'tcp', dstPort: 443 },
      { src: `172.${16 + (index % 16)}.${b}.0/24`, proto: 'udp', dstPort: port },
      { dst: `10.${a}.${b}.${c}`, proto: 'tcp', dstPort: port },
      { src: `fd00:${hex(a)}:${hex(b)}:${hex(c)}::/64` },
      { src: `2001:db8:${hex(a)}:${hex(b)}:${hex(c)}::1`, dst: 'fd00:100::/32', proto: 'tcp', dstPort: 443 },
      { dst: `2001:db8:${hex(index & 0xffff)}::/48`, proto: 'udp', dstPort: 53 },
      { src: `12.${a}.${b}.${c}`, proto: 'udp', dstPort: index % 80 === 7 ? '1000-2000' : '8080-8081' },
      { src: `13.${a}.${b}.0/24`, dst: `14.${a}.${b}.${c}`, proto: 'sctp' },
      { src: `15.${b}.${c}.0/24`, dst: `10.${a}.0.0/16`, proto: 'tcp', srcPort: port },
    ];
    const isDrop = random() % 10 < 3;
    const hasLimit = !isDrop && random() % 7 < 2;
    const hasQueues = !isDrop && random() % 7 === 0;
    const rate = random() % 3 === 0 ? `${1 + (random() % 90)}kpps` : `${1 + (random() % 900)}mbit`;
    return {
      id: index + 1,
      priority: (index + seed) % 7,
      direction: random() % 4 === 0 ? 'egress' : 'ingress',
      match: matches[index % matches.length],
      action: isDrop ? 'drop' : 'pass',
      ...(hasLimit ? { limit: { rate, scope: random() % 2 === 0 ? 'rule' : 'flow' } } : {}),
      ...(hasQueues ? { queues: [random() % 16, 16 + (random() % 16)] } : {}),
    };
  });
}

class Bench implements Disposable {
  readonly #dataplane: Dataplane;
  readonly #store: RuleStore;
  readonly #base: DeviceConfig = parseDevice('bench', {});
  readonly #samples = new Map<string, number[]>();
  #rules: readonly Rule[] = [];
  #plan: RulePlan | undefined;
  #written: FormattedDevice | undefined;
  readonly #floors: number[] = [];

  constructor(native: Native) {
    this.#dataplane = Dataplane.create(native, {
      queues: QUEUES,
      maxFlows: 1024,
      maxRules: MAX_RULES,
      hashSeed: 1,
      deliverMetadata: false,
      latencySampleShift: 6,
      replay: false,
      programs: ['vnic_ingress'],
    });
    this.#store = new RuleStore(this.#dataplane);
  }

  round(body: string): void {
    const started = performance.now();
    const input: unknown = JSON.parse(body);
    this.#floors.push(performance.now() - started);
    this.#change('all', () => parseRules(input));
    const at = this.#rules.length >> 1;
    const present = this.#rules[at]!;
    this.#change('one action', () => this.#rules.with(at, { ...present, shadow: !present.shadow }));
    const other = { id: present.id, match: { src: `9.9.${this.#floors.length}.9` }, action: 'drop' };
    this.#change('one match', () => this.#rules.with(at, parseRule(other)));
  }

  #change(what: string, make: () => Rule[]): void {
    let sum = 0;
    const stage = <T>(name: string, run: () => T): T => {
      const started = performance.now();
      const result = run();
      const took = performance.now() - started;
      sum += took;
      this.#add(`${what}: ${name}`, took);
      return result;
    };
    const given = stage('read', make);
    const rules = stage('compare', () => {
      const reused = reuseRules(this.#rules, given);
      compareRules(this.#rules, reused);
      return reused;
    });
    const plan = stage('check and lay out', () => {
      return planRules(rules, { queues: QUEUES, maxRules: MAX_RULES }, this.#plan);
    });
    const prepared = stage('load', () => this.#store.prepare(plan, []));
    const device = { ...this.#base, rules };
    const user = stage('write out', () => formatDevice(device, this.#written));
    stage('switch', () => this.#store.activate(prepared));
    this.#add(`${what}: in all`, sum);
    this.#rules = rules;
    this.#plan = plan;
    this.#written = { device, user };
  }

  #add(name: string, ms: number): void {
    const samples = this.#samples.get(name);
    if (samples === undefined) this.#samples.set(name, [ms]);
    else samples.push(ms);
  }

  results(count: number): Measured[] {
    const prefix = `${count.toLocaleString('en')} rules`;
    const floors = this.#floors;
    const floor = quantile(floors, 0.5);
    const summary = (name: string, values: readonly number[], bound: number | null): Measured => {
      const shares = values.map((value, round) => value / floors[round]!);
      return {
        name: `${prefix}, ${name}`,
        unit: 'ms',
        median: quantile(values, 0.5),
        min: Math.min(...values),
        max: Math.max(...values),
        runs: values.length,
        floor,
        ratio: quantile(shares, 0.5),
        ratioSpread: [quantile(shares, 0.25), quantile(shares, 0.75)],
        bound,
      };
    };
    const boundOf = (name: string): number | null =>
      count === 100_000 && name.endsWith(': in all') ? (bounds[name.split(':')[0]!] ?? null) : null;
    return [
      summary('JSON.parse of the body', floors, null),
      ...[...this.#samples].map(([name, values]) => summary(name, values, boundOf(name))),
    ];
  }

  [Symbol.dispose](): void {
    this.#dataplane.close();
  }
}

export function benchRules(native: Native, quick: boolean): Measured[] {
  return (quick ? QUICK_COUNTS : COUNTS).flatMap((count) => {
    using bench = new Bench(native);
    // Every rule differs from the one of the same id in the other body.
    const bodies = [1, 2].map((seed) => JSON.stringify(mixedRules(count, seed)));
    for (let round = 0; round < (quick ? QUICK_ROUNDS : ROUNDS); round++) bench.round(bodies[round % 2]!);
    return bench.results(count);
  });
}

export const rulesPart: Part = {
  name: 'rules',
  title: 'ms from the parsed body to the live set, and the ratio to JSON.parse of the body (median, quartiles)',
  digits: 1,
  run: ({ native, quick }) => ({ results: benchRules(native, quick) }),
};
