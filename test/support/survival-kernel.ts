// SPDX-License-Identifier: Apache-2.0
/** What the kernel holds of a device, read from its pins and held against rules and AZs that were worked out anew. */
import assert from 'node:assert/strict';
import type { Dataplane } from '../../src/app/dataplane.ts';
import { explainFrame } from '../../src/app/explain.ts';
import { RuleStore } from '../../src/app/rule-store.ts';
import { TableStore } from '../../src/app/table-store.ts';
import { buildFrame } from '../../src/captures/build-frame.ts';
import { VnicDirection, VnicLimits, VnicRuleAction, VnicRuleEntry, VnicRuleKey } from '../../src/maps/generated/abi.ts';
import { BpfMap, HashMap } from '../../src/maps/index.ts';
import type { AzConfig } from '../../src/steering/azs.ts';
import { compileEntries, ruleAction } from '../../src/steering/rules/compile.ts';
import type { Rule } from '../../src/steering/rules/model.ts';
import { formatAddress, parseAddress } from '../../src/steering/rules/prefix.ts';
import { matchRules } from '../../src/steering/rules/reference.ts';
import { buildTupleSpace } from '../../src/steering/rules/tuple-space.ts';
import { maxQueues, noQueue } from '../../src/steering/table.ts';

const PROTO_UDP = 17;
/** Set number and padding before the address in an LPM key (bits). */
const SET_BITS = 32;

function hexEntries(entries: Iterable<readonly [Uint8Array, Uint8Array]>): string[] {
  return Array.from(entries, ([key, value]) => Buffer.concat([key, value]).toString('hex')).sort();
}

/** The live set is exactly these rules: entries, shapes, actions; and the prefixes of these AZs. */
export function expectRules(
  dataplane: Dataplane,
  rules: readonly Rule[],
  azs: readonly AzConfig[],
  moment: string,
): void {
  const store = new RuleStore(dataplane);
  const slots = store.slots();
  const sorted = (ids: Iterable<number>): number[] => [...ids].sort((a, b) => a - b);
  assert.deepEqual(sorted(slots.keys()), sorted(rules.map(({ id }) => id)), `${moment}: ids of the live set`);
  const set = store.generation() % VnicLimits.ruleSets;
  for (const rule of rules) {
    const loaded = dataplane.ruleActions.read(set * dataplane.maxRules + slots.get(rule.id)!);
    const wanted = VnicRuleAction.decode(VnicRuleAction.encode(ruleAction(rule)));
    assert.deepEqual(loaded, wanted, `${moment}: action of rule ${rule.id}`);
  }
  const space = buildTupleSpace(rules);
  const wanted = compileEntries(
    space,
    Uint32Array.from(space.rules, ({ id }) => slots.get(id)!),
  );
  assert.deepEqual(liveEntries(dataplane, set), hexEntries(pairs(wanted)), `${moment}: entries`);
  for (const direction of ['ingress', 'egress'] as const) {
    const index = set * VnicDirection.directions + VnicDirection[direction];
    const { count } = dataplane.shapeCounts.read(index);
    const shapes = Array.from({ length: count }, (_, at) => dataplane.shapes.read(index * VnicLimits.maxShapes + at));
    assert.deepEqual(shapes, wanted[direction], `${moment}: ${direction} shapes`);
  }
  const prefixes = [...dataplane.azPrefixes.entries()]
    .filter(([key]) => key.set === set)
    .map(([key, { az }]) => `${formatAddress(key.addr.bytes)}/${key.prefixlen - SET_BITS} ${az}`);
  const wantedPrefixes = azs.flatMap((az, index) =>
    az.prefixes.map(({ address, bits }) => `${formatAddress(address)}/${bits} ${index + 1}`),
  );
  assert.deepEqual(prefixes.sort(), wantedPrefixes.sort(), `${moment}: prefixes of AZs`);
}

function* pairs({ keys, values, entryCount }: ReturnType<typeof compileEntries>) {
  for (let entry = 0; entry < entryCount; entry++) {
    const key = keys.subarray(entry * VnicRuleKey.size, (entry + 1) * VnicRuleKey.size);
    yield [key, values.subarray(entry * VnicRuleEntry.size, (entry + 1) * VnicRuleEntry.size)] as const;
  }
}

function liveEntries({ native, rules }: Dataplane, set: number): string[] {
  const id = rules.innerId(set);
  assert.ok(id !== undefined, 'there is no live set');
  using inner = BpfMap.fromId(native, id);
  const map = new HashMap(native, inner, VnicRuleKey, VnicRuleEntry);
  return hexEntries(
    Array.from(map.entries(), ([key, entry]) => [VnicRuleKey.encode(key), VnicRuleEntry.encode(entry)]),
  );
}

/** The active table uses exactly these queues, each of them, in the rows of no AZ and of the first `azCount`. */
export function expectTable(dataplane: Dataplane, queues: readonly number[], azCount: number, moment: string): void {
  const tables = new TableStore(dataplane);
  const active = tables.active();
  assert.ok(active !== null, `${moment}: no table is active`);
  const { rows, usableQueues } = tables.read(active);
  const mask = queues.reduce((bits, queue) => bits | (1n << BigInt(queue)), 0n);
  assert.equal(usableQueues.toString(16), mask.toString(16), `${moment}: queues in use`);
  const [any = [], ...ofAzs] = rows.slice(0, azCount + 1).map((row) => [...new Set(row)].sort((a, b) => a - b));
  assert.deepEqual(any, [...queues], `${moment}: queues of the row without an AZ`);
  for (const [index, row] of ofAzs.entries()) {
    assert.ok(
      row.every((queue) => queue !== noQueue && queue < maxQueues && queues.includes(queue)),
      `${moment}: the row of AZ ${index + 1} has queues ${row.join()}, in use are ${queues.join()}`,
    );
  }
}

/** The loaded program finds the rule that the definition finds, and a queue in use. Flows are not remembered by it. */
export function expectVerdicts(
  dataplane: Dataplane,
  rules: readonly Rule[],
  queues: readonly number[],
  sources: readonly string[],
  moment: string,
): void {
  const names = {
    azName: (index: number) => String(index),
    ruleId: (slot: number, generation: number) =>
      dataplane.ruleActions.read((generation % VnicLimits.ruleSets) * dataplane.maxRules + slot).ruleId || null,
  };
  const dst = parseAddress('10.9.0.1');
  for (const source of sources) {
    const src = parseAddress(source);
    const frame = buildFrame({ src, dst, srcPort: 7, dstPort: 9, proto: PROTO_UDP });
    const { rule, queue, verdict } = explainFrame(dataplane, frame, 'ingress', names);
    const flow = { direction: 'ingress', src, dst, sport: 7, dport: 9, proto: PROTO_UDP } as const;
    const wanted = matchRules(rules, flow);
    assert.equal(rule, wanted?.id ?? null, `${moment}: rule for a packet from ${source}`);
    assert.equal(verdict, wanted?.action === 'drop' ? 'drop' : 'pass', `${moment}: verdict for ${source}`);
    if (verdict === 'pass') assert.ok(queues.includes(queue ?? -1), `${moment}: queue ${queue} for ${source}`);
  }
}
