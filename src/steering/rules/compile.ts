// SPDX-License-Identifier: Apache-2.0
/** From rules to the bytes of the dataplane's maps. Nothing is given out unless the whole set fits. */
import { VnicError } from '../../errors.ts';
import {
  VnicRuleAction,
  VnicRuleEntry,
  VnicRuleKey,
  type VnicShape,
  VnicVerdictFlag,
} from '../../maps/generated/abi.ts';
import { limiterNumbers } from './limiter.ts';
import type { Rule } from './model.ts';
import { portMask } from './ports.ts';
import { prefixMask } from './prefix.ts';
import type { Shape } from './shapes.ts';
import { buildTupleSpace, type TupleSpace, type TupleSpaceLimits } from './tuple-space.ts';

export interface CompiledEntries {
  /** Shapes of each direction, ascending bestOrder; an entry's `shape` is the position here. */
  readonly ingress: readonly VnicShape[];
  readonly egress: readonly VnicShape[];
  readonly entryCount: number;
  /** vnic_rule_key of each entry, one after the other, ready for a batch update. */
  readonly keys: Uint8Array<ArrayBuffer>;
  /** vnic_rule_entry of each entry, in the same order. */
  readonly values: Uint8Array<ArrayBuffer>;
}

export interface CompiledRules extends CompiledEntries {
  /** Slot of each action, by the position of its rule; add `set * slots` for the array index. */
  readonly actionSlots: Uint32Array<ArrayBuffer>;
  /** vnic_rule_action of each slot in actionSlots. */
  readonly actionValues: Uint8Array<ArrayBuffer>;
}

/**
 * Compiles rules with unique ids (see validateRules) and their slots (see assignSlots). A rule's order is its rank:
 * higher priority, then more specific, then lower id. Throws too_many_shapes or capacity_exceeded.
 */
export function compileRules(
  rules: readonly Rule[],
  slots: ReadonlyMap<number, number>,
  limits: TupleSpaceLimits = {},
): CompiledRules {
  const space = buildTupleSpace(rules, limits);
  const actionSlots = slotsOf(rules, slots);
  const actionValues = new Uint8Array(rules.length * VnicRuleAction.size);
  const actionView = new DataView(actionValues.buffer);
  for (const [position, rule] of rules.entries()) {
    VnicRuleAction.write(actionView, position * VnicRuleAction.size, ruleAction(rule));
  }
  return { ...compileEntries(space, actionSlots), actionSlots, actionValues };
}

/** @param slots of each rule, by its position in the space's rules */
export function compileEntries(space: TupleSpace, slots: Uint32Array): CompiledEntries {
  const values = new Uint8Array(space.entryCount * VnicRuleEntry.size);
  const words = new Uint32Array(values.buffer);
  const stride = VnicRuleEntry.size / Uint32Array.BYTES_PER_ELEMENT;
  const orderWord = VnicRuleEntry.offsets.order / Uint32Array.BYTES_PER_ELEMENT;
  const slotWord = VnicRuleEntry.offsets.slot / Uint32Array.BYTES_PER_ELEMENT;
  for (let entry = 0; entry < space.entryCount; entry++) {
    const order = space.orders[entry]!;
    words[entry * stride + orderWord] = order;
    words[entry * stride + slotWord] = slots[space.positions[order]!]!;
  }
  return {
    ingress: space.shapes.ingress.map(encodeShape),
    egress: space.shapes.egress.map(encodeShape),
    entryCount: space.entryCount,
    keys: space.keys,
    values,
  };
}

/** The slot of each rule, by position. */
function slotsOf(rules: readonly Rule[], slots: ReadonlyMap<number, number>): Uint32Array<ArrayBuffer> {
  const found = new Uint32Array(rules.length);
  for (let position = 0; position < rules.length; position++) {
    const { id } = rules[position]!;
    const slot = slots.get(id);
    if (slot === undefined) throw new VnicError('failed', `rule ${id} has no slot`);
    found[position] = slot;
  }
  return found;
}

const unlimited = { costPerByte: 0n, costPerPacket: 0n, tolerance: 0n };

/** What a rule does, in the dataplane's terms. Where the device cannot shape, a limit that asks for it polices. */
export function ruleAction(rule: Rule, canShape = true): VnicRuleAction {
  const { limit } = rule;
  let flags = 0;
  if (rule.action === 'drop') flags |= VnicVerdictFlag.drop;
  if (limit?.scope === 'rule') flags |= VnicVerdictFlag.limitRule;
  if (limit?.scope === 'flow') flags |= VnicVerdictFlag.limitFlow;
  if (limit?.mode === 'shape' && canShape) flags |= VnicVerdictFlag.shape;
  if (rule.queues !== undefined) flags |= VnicVerdictFlag.queues;
  if (rule.shadow) flags |= VnicVerdictFlag.shadow;
  const { costPerByte, costPerPacket, tolerance } = limit === undefined ? unlimited : limiterNumbers(limit);
  const queues = rule.queues === undefined ? 0n : queueMask(rule.queues);
  return { ruleId: rule.id, flags, queues, costPerByte, costPerPacket, tolerance };
}

/** An entry in readable form, for tests and debugging; the arrays are what is loaded. */
export interface DecodedEntry {
  readonly key: VnicRuleKey;
  readonly order: number;
  readonly slot: number;
}

export function decodeEntries(compiled: CompiledRules): DecodedEntry[] {
  return Array.from({ length: compiled.entryCount }, (_, entry) => ({
    key: VnicRuleKey.decode(compiled.keys, entry * VnicRuleKey.size),
    ...VnicRuleEntry.decode(compiled.values, entry * VnicRuleEntry.size),
  }));
}

export function decodeActions(compiled: CompiledRules): (VnicRuleAction & { slot: number })[] {
  return Array.from(compiled.actionSlots, (slot, index) => ({
    slot,
    ...VnicRuleAction.decode(compiled.actionValues, index * VnicRuleAction.size),
  }));
}

function queueMask(queues: readonly number[]): bigint {
  return queues.reduce((mask, queue) => mask | (1n << BigInt(queue)), 0n);
}

function encodeShape(shape: Shape): VnicShape {
  return {
    srcMask: { bytes: prefixMask(shape.srcBits) },
    dstMask: { bytes: prefixMask(shape.dstBits) },
    sportMask: portMask(shape.sportBits),
    dportMask: portMask(shape.dportBits),
    protoMask: shape.protoGiven ? 0xff : 0,
    bestOrder: shape.bestOrder,
  };
}
