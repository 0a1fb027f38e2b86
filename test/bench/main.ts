// SPDX-License-Identifier: Apache-2.0
/** `make bench`, `make bench BENCH=packet`: exit code 1 when a promised ratio is missed. */
import path from 'node:path';
import { loadNative } from '../../src/loader/ffi/index.ts';
import { rulesGrowth } from './cases.ts';
import { distributionHeading, distributionLine, isDistribution } from './distribution.ts';
import { benchFailover } from './failover.ts';
import { benchPackets, type PacketResult } from './packet.ts';
import { describeMachine, writeReport } from './report.ts';
import { benchRest } from './rest.ts';
import { benchRules } from './rules.ts';

const root = path.join(import.meta.dirname, '../..');
const native = loadNative();

interface Part {
  title: string;
  digits: number;
  run: () => PacketResult[] | Promise<PacketResult[]>;
}

const parts: Record<string, Part> = {
  packet: {
    title: 'ns a packet, and the ratio to a bare XDP_PASS (median of interleaved rounds, quartiles)',
    digits: 0,
    run: () => benchPackets(native, path.join(root, 'build/test/bench_floor.bpf.o')),
  },
  rules: {
    title: 'ms from the parsed body to the live set, and the ratio to JSON.parse of the body (median, quartiles)',
    digits: 1,
    run: () => benchRules(native),
  },
  rest: {
    title: 'ms under 100 kpps of traffic, and the worst against what is promised (quartiles)',
    digits: 1,
    run: () => benchRest(),
  },
  failover: {
    title: 'zones die under traffic of 10,000 flows (REPS=n repetitions, SECONDS=n of the long run; default 30 and 60)',
    digits: 2,
    run: () => benchFailover(),
  },
};

const asked = process.argv.slice(2);
const unknown = asked.filter((name) => !(name in parts));
if (unknown.length > 0) {
  console.error(`There is no benchmark ${unknown.join(', ')}.\nKnown: ${Object.keys(parts).join(', ')}`);
  process.exit(2);
}

const results = {
  ...describeMachine(native.libbpf.libbpf_version_string()),
  parts: {} as Record<string, PacketResult[]>,
};
let missed = 0;
for (const [name, { title: heading, digits, run }] of Object.entries(parts)) {
  if (asked.length > 0 && !asked.includes(name)) continue;
  const list = await run();
  results.parts[name] = list;
  console.log(`${name}: ${heading}`);
  if (list.some(isDistribution)) console.log(distributionHeading);
  for (const result of list) {
    const { name: title, unit, median, ratio, ratioSpread, bound } = result;
    const verdict = bound === null ? '' : ratio <= bound ? `<= ${bound} met` : `<= ${bound} MISSED`;
    // Not `ratio > bound`: what is not a number is not met.
    if (bound !== null && !(ratio <= bound)) missed++;
    if (isDistribution(result)) {
      console.log(distributionLine(result, digits));
      continue;
    }
    const spread = ratioSpread.map((value) => value.toFixed(2)).join('-');
    console.log(
      `  ${title.padEnd(48)} ${median.toFixed(digits).padStart(7)} ${unit}  ${ratio.toFixed(2).padStart(5)} (${spread})  ${verdict}`,
    );
  }
}
for (const method of new Set(
  Object.values(results.parts)
    .flat()
    .filter(isDistribution)
    .map((result) => result.method),
)) {
  console.log(`  ${method}`);
}
const medianOf = (name: string): number | undefined =>
  results.parts['packet']?.find((result) => result.name === name)?.median;
const [from, to] = [medianOf(rulesGrowth.from), medianOf(rulesGrowth.to)];
if (from !== undefined && to !== undefined) {
  const growth = to / from;
  const met = growth <= rulesGrowth.bound;
  if (!met) missed++;
  console.log(
    `  from 1 to 100,000 rules: ${growth.toFixed(2)} times as much, <= ${rulesGrowth.bound} ${met ? 'met' : 'MISSED'}`,
  );
}
const folder = path.join(root, 'out/bench');
writeReport(results, folder);
console.log(`Written: out/bench/results.json, out/bench/report.html`);
if (missed > 0) process.exitCode = 1;
