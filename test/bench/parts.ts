// SPDX-License-Identifier: Apache-2.0
/** The parts of the benchmark, in the order in which they run. A new one is a file and a line here. */
import { failoverPart } from './failover.ts';
import { ffiPart } from './ffi.ts';
import { fleetPart } from './fleet.ts';
import { floodPart } from './flood.ts';
import { latencyPart } from './latency.ts';
import { limiterPart } from './limiter.ts';
import { livePart } from './live.ts';
import { memoryPart } from './memory.ts';
import { packetPart } from './packet.ts';
import { pagePart } from './page.ts';
import type { Part } from './part.ts';
import { restPart } from './rest.ts';
import { rulesPart } from './rules.ts';
import { scrapePart } from './scrape.ts';
import { soakPart } from './soak.ts';
import { topologiesPart } from './topologies.ts';

export const parts: readonly Part[] = [
  packetPart,
  livePart,
  topologiesPart,
  floodPart,
  latencyPart,
  limiterPart,
  rulesPart,
  ffiPart,
  memoryPart,
  restPart,
  scrapePart,
  pagePart,
  failoverPart,
  fleetPart,
  soakPart,
];
