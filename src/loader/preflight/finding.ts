// SPDX-License-Identifier: Apache-2.0
/** A finding in its case, and what findings amount to. Pure. */
import { VnicError } from '../../errors.ts';
import {
  type FindingCode,
  type FindingKind,
  findingTable,
  type Severity,
  type WhoMustChange,
} from './finding-table.ts';

export interface Finding {
  readonly code: FindingCode;
  readonly severity: Severity;
  /** One sentence that names the device and the numbers of this case. */
  readonly message: string;
  readonly whoMustChange: WhoMustChange;
  /** A command or a hypervisor's option; null where there is nothing to do. */
  readonly remedy: string | null;
  /** Where it is documented: a kernel file. */
  readonly source?: string;
  /** The facts of the case for machines. */
  readonly details?: Readonly<Record<string, unknown>>;
}

export interface FindingExtras {
  readonly whoMustChange?: WhoMustChange;
  readonly source?: string;
  readonly details?: Readonly<Record<string, unknown>>;
}

export function kindOf(code: FindingCode): FindingKind {
  return findingTable[code];
}

export function finding(
  code: FindingCode,
  message: string,
  remedy: string | null,
  extras: FindingExtras = {},
): Finding {
  const { severity, whoMustChange } = kindOf(code);
  return { code, severity, message, whoMustChange, remedy, ...extras };
}

export type Verdict = 'ok' | 'degraded' | 'blocked';

export function verdict(findings: readonly Finding[]): Verdict {
  if (findings.some(({ severity }) => severity === 'blocks')) return 'blocked';
  return findings.some(({ severity }) => severity === 'degrades') ? 'degraded' : 'ok';
}

/**
 * Throws if a finding blocks, with all that block in `details.findings`. The first one gives message, remedy and code:
 * `not_found` (no such device), `not_permitted` (a capability is missing), `conflict` (a foreign XDP program), else
 * `preflight_refused`.
 */
export function refuseIfBlocked(findings: readonly Finding[]): void {
  const blocking = findings.filter(({ severity }) => severity === 'blocks');
  const [first] = blocking;
  if (first === undefined) return;
  const more = blocking.length - 1;
  const rest = more === 0 ? '' : ` (${more} more ${more === 1 ? 'finding blocks' : 'findings block'} it, too.)`;
  throw new VnicError(kindOf(first.code).refusal ?? 'preflight_refused', `${first.message}${rest}`, {
    ...(first.remedy === null ? {} : { remedy: first.remedy }),
    details: { findings: blocking },
  });
}
