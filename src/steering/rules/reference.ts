// SPDX-License-Identifier: Apache-2.0
/**
 * Two matchers to check the dataplane and the compiler with. `matchRules` is the definition: it looks at every rule and
 * shares nothing with the compiler but the rule itself. `compiledMatcher` does what the BPF program does with the
 * compiled maps.
 */
import { VnicDirection, VnicRuleKey } from '../../maps/generated/abi.ts';
import { type CompiledRules, decodeEntries } from './compile.ts';
import { type Flow, type Match, type PortRange, type Rule, specificity } from './model.ts';
import type { Prefix } from './prefix.ts';

/** The rule that wins for a flow: highest priority, then most specific, then lowest id. */
export function matchRules(rules: readonly Rule[], flow: Flow): Rule | undefined {
  let best: Rule | undefined;
  for (const rule of rules) {
    if (rule.direction !== flow.direction || !matches(rule.match, flow)) continue;
    if (best === undefined || beats(rule, best)) best = rule;
  }
  return best;
}

function beats(a: Rule, b: Rule): boolean {
  if (a.priority !== b.priority) return a.priority > b.priority;
  const difference = specificity(a.match) - specificity(b.match);
  return difference === 0 ? a.id < b.id : difference > 0;
}

function matches(match: Match, flow: Flow): boolean {
  return (
    inPrefix(match.src, flow.src) &&
    inPrefix(match.dst, flow.dst) &&
    (match.proto === undefined || match.proto === flow.proto) &&
    inRange(match.srcPort, flow.sport) &&
    inRange(match.dstPort, flow.dport)
  );
}

function inPrefix(prefix: Prefix | undefined, address: Uint8Array): boolean {
  if (prefix === undefined) return true;
  for (let bit = 0; bit < prefix.bits; bit++) {
    if (bitAt(prefix.address, bit) !== bitAt(address, bit)) return false;
  }
  return true;
}

function bitAt(bytes: Uint8Array, bit: number): number {
  return ((bytes[bit >> 3] ?? 0) >> (7 - (bit & 7))) & 1;
}

function inRange(range: PortRange | undefined, port: number): boolean {
  return range === undefined || (port >= range.first && port <= range.last);
}

export interface CompiledMatch {
  readonly slot: number;
  readonly order: number;
  /** Shapes looked at before the search ended. */
  readonly lookups: number;
}

/** The search of bpf/rules.h over compiled rules; undefined if no rule matches. */
export function compiledMatcher(compiled: CompiledRules): (flow: Flow) => CompiledMatch | undefined {
  const table = new Map(decodeEntries(compiled).map((entry) => [keyText(entry.key), entry]));
  return (flow) => {
    const shapes = flow.direction === 'ingress' ? compiled.ingress : compiled.egress;
    let best: CompiledMatch | undefined;
    let lookups = 0;
    for (const [index, shape] of shapes.entries()) {
      if (best !== undefined && shape.bestOrder >= best.order) break;
      lookups++;
      const entry = table.get(
        keyText({
          src: { bytes: masked(flow.src, shape.srcMask.bytes) },
          dst: { bytes: masked(flow.dst, shape.dstMask.bytes) },
          sport: flow.sport & shape.sportMask,
          dport: flow.dport & shape.dportMask,
          proto: flow.proto & shape.protoMask,
          direction: VnicDirection[flow.direction],
          shape: index,
        }),
      );
      if (entry !== undefined && (best === undefined || entry.order < best.order)) {
        best = { slot: entry.slot, order: entry.order, lookups };
      }
    }
    return best === undefined ? undefined : { ...best, lookups };
  };
}

function masked(address: Uint8Array, mask: Uint8Array): Uint8Array {
  return address.map((byte, index) => byte & (mask[index] ?? 0));
}

function keyText(key: VnicRuleKey): string {
  return Buffer.from(VnicRuleKey.encode(key)).toString('latin1');
}
