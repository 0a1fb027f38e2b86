// SPDX-License-Identifier: Apache-2.0
/**
 * What checks and layout need of each rule, side by side. Rules are objects all over memory: they are read once, in the
 * order in which they were made, and not at all if the set before had them in the same place.
 */
import { VnicDirection, VnicRuleKey } from '../../maps/generated/abi.ts';
import { commonEnds } from './changes.ts';
import { type PortRange, type Rule, rankKey } from './model.ts';
import { type PortPrefix, portPrefixes } from './ports.ts';
import { isRemarkable } from './warnings.ts';

/** Rules that come to the same shapes: the same prefix lengths and fields, and ports that expand in the same way. */
export interface RuleClass {
  /** A rule of the class. */
  readonly rule: Rule;
  readonly sports: readonly PortPrefix[];
  readonly dports: readonly PortPrefix[];
}

export interface PackedRules {
  readonly rules: readonly Rule[];
  readonly ids: Float64Array<ArrayBuffer>;
  /** See rankKey. */
  readonly rankKeys: Float64Array<ArrayBuffer>;
  /** vnic_rule_key of each rule's first entry, without its shape. */
  readonly keys: Uint8Array<ArrayBuffer>;
  /** Position in `classes.list`. */
  readonly classOf: Uint32Array<ArrayBuffer>;
  readonly classes: ClassTable;
  /** The highest queue that the rule names; -1: none. */
  readonly lastQueues: Int16Array<ArrayBuffer>;
  /** 1: the rule alone may be worth a warning. */
  readonly remarkable: Uint8Array<ArrayBuffer>;
}

const { offsets, size: KEY_BYTES } = VnicRuleKey;

/** @param previous of the set before: what stands at its beginning and its end too is taken over */
export function packRules(rules: readonly Rule[], previous?: PackedRules): PackedRules {
  const { length } = rules;
  const earlier = previous?.classes.isWorthKeeping(length) === true ? previous : undefined;
  const packed: PackedRules = {
    rules,
    ids: new Float64Array(length),
    rankKeys: new Float64Array(length),
    keys: new Uint8Array(length * KEY_BYTES),
    classOf: new Uint32Array(length),
    classes: earlier?.classes ?? new ClassTable(),
    lastQueues: new Int16Array(length),
    remarkable: new Uint8Array(length),
  };
  const [start, end] = earlier === undefined ? [0, length] : takeOver(packed, earlier);
  for (let position = start; position < end; position++) packRule(packed, position, rules[position]!);
  return packed;
}

/** Copies what both sets have at their beginning and end; gives the part of the new one that is left. */
function takeOver(packed: PackedRules, earlier: PackedRules): [start: number, end: number] {
  const { start, end, shift } = commonEnds(earlier.rules, packed.rules, (a, b) => a === b);
  for (const field of ['ids', 'rankKeys', 'classOf', 'lastQueues', 'remarkable', 'keys'] as const) {
    const scale = field === 'keys' ? KEY_BYTES : 1;
    packed[field].set(earlier[field].subarray(0, start * scale));
    packed[field].set(earlier[field].subarray((end + shift) * scale), end * scale);
  }
  return [start, end];
}

function packRule(packed: PackedRules, position: number, rule: Rule): void {
  const { match, direction, queues } = rule;
  const { src, dst, proto } = match;
  const { keys } = packed;
  const at = position * KEY_BYTES;
  // VnicRuleKey.write field by field, without an object for each key. Ports are big-endian.
  if (src !== undefined) writeAddress(keys, at + offsets.src, src.address);
  if (dst !== undefined) writeAddress(keys, at + offsets.dst, dst.address);
  const sport = match.srcPort?.first ?? 0;
  const dport = match.dstPort?.first ?? 0;
  keys[at + offsets.sport] = sport >> 8;
  keys[at + offsets.sport + 1] = sport & 0xff;
  keys[at + offsets.dport] = dport >> 8;
  keys[at + offsets.dport + 1] = dport & 0xff;
  keys[at + offsets.proto] = proto ?? 0;
  keys[at + offsets.direction] = VnicDirection[direction];
  packed.ids[position] = rule.id;
  packed.rankKeys[position] = rankKey(rule);
  packed.classOf[position] = packed.classes.indexOf(rule);
  packed.lastQueues[position] = queues === undefined ? -1 : queues[queues.length - 1]!;
  packed.remarkable[position] = isRemarkable(rule) ? 1 : 0;
}

function writeAddress(keys: Uint8Array, at: number, address: Uint8Array): void {
  for (let byte = 0; byte < 16; byte++) keys[at + byte] = address[byte]!;
}

/** A port's prefix has 0 to 16 bits. */
const PORT_LENGTHS = 17;
/** Above the highest base code, see baseCode. */
const BASE_RANGE = 2 ** 17;

/** Classes of rules by number; a number stays for as long as the table does. */
export class ClassTable {
  readonly list: RuleClass[] = [];
  /** Codes of ranges of more than one port. */
  readonly #codes = new Map<number, number>();
  /** By source's code, then by the destination's and the base code. */
  readonly #numbers = new Map<number, Map<number, number>>();

  /** False if most of its classes are those of rules that are gone. */
  isWorthKeeping(ruleCount: number): boolean {
    return this.#codes.size + this.list.length <= 1000 + 2 * ruleCount;
  }

  indexOf(rule: Rule): number {
    const { srcPort, dstPort } = rule.match;
    const sportCode = this.#codeOf(srcPort);
    const dportCode = this.#codeOf(dstPort);
    let numbers = this.#numbers.get(sportCode);
    if (numbers === undefined) {
      numbers = new Map();
      this.#numbers.set(sportCode, numbers);
    }
    const key = dportCode * BASE_RANGE + baseCode(rule);
    let number = numbers.get(key);
    if (number === undefined) {
      number = this.list.length;
      this.list.push({ rule, sports: portPrefixes(srcPort), dports: portPrefixes(dstPort) });
      numbers.set(key, number);
    }
    return number;
  }

  /** The length of its prefix if the range comes to one, else a number of its own. */
  #codeOf(range: PortRange | undefined): number {
    if (range === undefined) return 0;
    if (range.first === range.last) return PORT_LENGTHS - 1;
    const key = range.first * 65536 + range.last;
    let code = this.#codes.get(key);
    if (code === undefined) {
      const prefixes = portPrefixes(range);
      code = prefixes.length === 1 ? prefixes[0]!.bits : PORT_LENGTHS + this.#codes.size;
      this.#codes.set(key, code);
    }
    return code;
  }
}

/** All that makes a shape but the ports, as one number. */
function baseCode({ direction, match }: Rule): number {
  const code = (VnicDirection[direction] * 129 + (match.src?.bits ?? 0)) * 129 + (match.dst?.bits ?? 0);
  return code * 2 + (match.proto === undefined ? 0 : 1);
}
