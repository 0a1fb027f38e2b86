// SPDX-License-Identifier: Apache-2.0
/** What is allowed in a rule set and yet hardly meant. */
import type { Rule } from './model.ts';
import { coversAllIpv4, familyOf } from './prefix.ts';
import { isExtensionHeader, PROTO_ICMP, PROTO_ICMPV6 } from './protocols.ts';

export interface RuleWarning {
  readonly code:
    | 'duplicate_match'
    | 'unreachable_rule'
    | 'wrong_icmp'
    | 'extension_header'
    | 'matches_fragments'
    | 'policed_not_shaped'
    | 'more_warnings';
  /** The rule concerned first, then the rules that are the reason. */
  readonly ruleIds: readonly number[];
  readonly message: string;
}

/** A set can give one warning for each of 100,000 rules; nobody reads more than these. */
export const MAX_WARNINGS = 1000;

/** Counts all warnings and keeps the first. */
export class WarningList {
  readonly #kept: RuleWarning[] = [];
  #count = 0;

  get count(): number {
    return this.#count;
  }

  /** Whether the next one would be kept. */
  get hasRoom(): boolean {
    return this.#count < MAX_WARNINGS;
  }

  add(code: RuleWarning['code'], ruleIds: readonly number[], message: string): void {
    if (this.hasRoom) this.#kept.push({ code, ruleIds, message });
    this.#count++;
  }

  /** Counts one that would not be kept. */
  addUnseen(): void {
    this.#count++;
  }

  /** The first ones, and how many more there are. */
  warnings(): RuleWarning[] {
    const more = this.#count - this.#kept.length;
    if (more === 0) return this.#kept;
    const message = `${more} more warning${more === 1 ? '' : 's'}, not shown`;
    return [...this.#kept, { code: 'more_warnings', ruleIds: [], message }];
  }
}

/** Whether warnOfRule may have something to say: nearly all rules need no second look. */
export function isRemarkable({ match: { proto, srcPort, dstPort } }: Rule): boolean {
  if (srcPort?.first === 0 || dstPort?.first === 0) return true;
  return proto !== undefined && (proto === PROTO_ICMP || proto === PROTO_ICMPV6 || isExtensionHeader(proto));
}

/** What one rule alone shows. */
export function warnOfRule(rule: Rule, warnings: WarningList): void {
  const { src, dst, proto, srcPort, dstPort } = rule.match;
  const prefix = src === undefined || coversAllIpv4(src) ? dst : src;
  if (prefix !== undefined && proto !== undefined) {
    const family = familyOf(prefix);
    if (proto === (family === 4 ? PROTO_ICMPV6 : PROTO_ICMP)) {
      const message = `rule ${rule.id} matches protocol ${proto} in IPv${family}, where it is not used`;
      warnings.add('wrong_icmp', [rule.id], message);
    }
    if (family === 6 && isExtensionHeader(proto)) {
      const message =
        `rule ${rule.id} matches protocol ${proto} in IPv6, where it is an extension header: the protocol behind it ` +
        'counts, and only a fragment that begins with it matches';
      warnings.add('extension_header', [rule.id], message);
    }
  }
  if ((srcPort?.first === 0 && srcPort.last < 65535) || (dstPort?.first === 0 && dstPort.last < 65535)) {
    const message = `rule ${rule.id} matches port 0, which every fragment of a datagram carries`;
    warnings.add('matches_fragments', [rule.id], message);
  }
}
