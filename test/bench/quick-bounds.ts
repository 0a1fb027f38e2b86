// SPDX-License-Identifier: Apache-2.0
/**
 * What the short form (QUICK=1) holds the ratios against, so that a change which makes one of them worse for good fails.
 * The promises are in the parts themselves, for a quiet machine.
 *
 * No ratio to a bare XDP_PASS or XDP_DROP is among them: the processor decides it (a hot flow is 2.5 times a pass where
 * returns are dear, Zen 3 with mitigations, and 9 times where they are not, Zen 5). Both sides of these do real work. How a bound was set:
 * of what the runs on a Xeon (model 207, Emerald Rapids) and on Zen 5 and the tables of docs/performance.md (Zen 3) say, the worst, and
 * half as much again; for packets that travel, twice, because two CPUs that others use as well take part.
 */
import type { Result } from './result.ts';

const bounds: Readonly<Record<string, { most: number } | { least: number }>> = {
  // Xeon 0.7 to 1.1, Zen 5 1.25; what is promised is 1.15.
  'from 1 to 100,000 rules': { most: 1.8 },
  // Xeon 1.3 to 2.0, Zen 3 1.0.
  'from one look-up in the kernel LRU hash to the hot flow': { most: 3 },
  // Xeon 1.7, Zen 5 1.8.
  'from the hot flow to a drop by rule': { most: 2.7 },
  // Xeon 1.7, Zen 5 1.8, Zen 3 1.4.
  'from the hot flow to a limit of a rule': { most: 2.7 },
  'from the hot flow to a limit of each flow': { most: 2.7 },
  // Xeon and Zen 5 1.0.
  'from IPv4 to IPv6, hot flow': { most: 1.5 },
  // Xeon 3.6 to 6.4, Zen 5 5.4 to 8.1: how far the caches reach. What is promised is 2, and missed there.
  'from 1,000 to 1,000,000 flows': { most: 12.2 },
  // Xeon 1.2 to 2.2.
  'from 1,000,000 flows to a new flow each': { most: 3.3 },
  // Xeon, busy: 0.64 to 1.2.
  '64 bytes: steer to a CPU, everything on': { least: 0.4 },
  // 1.3 to 1.5.
  '64 bytes: steer to a CPU, everything on, to RPS': { least: 0.7 },
  // 1.2 to 1.8.
  '64 bytes: limit of each source': { least: 0.6 },
  // Xeon 0.97 to 1.2, Zen 5 0.48 to 0.55.
  '32 queues, 1 CPU, 3 AZs, 10,000 flows uniform, imix, 1,000 rules': { least: 0.24 },
  // As promised: 0.9 over what was kept, and nothing that moved or grew.
  'established flows, rate kept': { most: 1 },
  'packets that changed their queue': { most: 0 },
  'growth of the BPF maps': { most: 0 },
  // Xeon 7, Zen 5 7, and 8 to 14 where a page that is touched first takes 20 us.
  '100,000 rules, all: in all': { most: 21 },
};

/** What nobody sets a bound for is told, not judged; a figure that could not be measured is not either. */
export function withQuickBounds(results: readonly Result[]): Result[] {
  return results.map((result) => {
    const committed = bounds[result.name];
    if (committed === undefined || result.ratio === null) return { ...result, bound: null };
    const [boundIs, bound] =
      'most' in committed ? (['most', committed.most] as const) : (['least', committed.least] as const);
    return { ...result, bound, boundIs };
  });
}

/** Names with a bound that a whole short run did not give: who renames a case would lose its bound without a word. */
export function unknownBounds(names: ReadonlySet<string>): string[] {
  return Object.keys(bounds).filter((name) => !names.has(name));
}
