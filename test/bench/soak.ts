// SPDX-License-Identifier: Apache-2.0
/** `BENCH=soak`: a scrape a second for MINUTES minutes (default 60); what the daemon's memory does meanwhile. */
import { appendFileSync, mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { attachByDaemon, deviceOf } from '../rig/scenarios/daemon.ts';
import { growthOf, type SoakSample, soak } from '../rig/scenarios/soak.ts';
import { createRig } from '../rig/topology.ts';
import { TestDaemon } from '../support/daemon.ts';
import { type DistributionResult, distribution } from './distribution.ts';
import { fromEnvironment } from './environment.ts';
import type { Part, PartOutput } from './part.ts';
import { promisedMemoryMiB } from './scrape.ts';

const promised = { growthMiB: 4 } as const;
const RATE_PPS = 1000;
const FLOWS = 1000;
const TELL_EVERY_SECONDS = 300;

const HEADING = 'seconds,scrapes,resident_mib,anonymous_mib,maps_mib\n';

function csvLine({ seconds, scrapes, resident, anonymous, maps }: SoakSample): string {
  return `${[Math.round(seconds), scrapes, ...[resident, anonymous, maps].map((value) => value.toFixed(2))].join(',')}\n`;
}

async function benchSoak(): Promise<{ results: DistributionResult[]; samples: SoakSample[] }> {
  const minutes = fromEnvironment('MINUTES', 60);
  const folder = path.join(import.meta.dirname, '../../out/bench');
  mkdirSync(folder, { recursive: true });
  const file = path.join(folder, 'soak.csv');
  writeFileSync(file, HEADING);
  using rig = createRig({ id: 'soak' });
  // What is compiled for the first time needs the compiler, whose memory stays: a daemon that was started before does not.
  await using daemon = await TestDaemon.start();
  await daemon.stop();
  await daemon.run();
  try {
    await attachByDaemon(rig, daemon);
    const { samples, scrapeMs, lost } = await soak(rig, daemon, {
      seconds: minutes * 60,
      scrapesPerSecond: 1,
      flows: FLOWS,
      ratePps: RATE_PPS,
      everySeconds: 10,
      onSample: (sample) => {
        // As it goes: a run that is broken off leaves what it saw.
        appendFileSync(file, csvLine(sample));
        const { seconds, resident, anonymous } = sample;
        if (Math.round(seconds) % TELL_EVERY_SECONDS !== 0) return;
        console.log(`  ${Math.round(seconds / 60)} min: ${resident.toFixed(1)} MiB, anonymous ${anonymous.toFixed(1)}`);
      },
    });
    const method = `A daemon with a 32-queue device and ${RATE_PPS} packets/s of ${FLOWS} flows, scraped once a second for ${minutes} min over its Unix socket; memory from /proc/PID/smaps every 10 s (out/bench/soak.csv). Growth: the least anonymous memory of the last third over that of the third before it.`;
    const results = [
      distribution([growthOf(samples)], { name: 'growth', unit: 'MiB', promise: promised.growthMiB, method }),
      distribution(
        samples.map(({ resident }) => resident),
        { name: 'resident', unit: 'MiB', promise: promisedMemoryMiB, method },
      ),
      distribution(
        samples.map(({ anonymous }) => anonymous),
        { name: 'anonymous', unit: 'MiB', promise: null, method },
      ),
      distribution(scrapeMs, { name: 'scrape', unit: 'ms', promise: null, method }),
      distribution([lost], { name: 'packets lost', unit: 'packets', promise: 0, method }),
    ];
    return { results, samples };
  } finally {
    await daemon.send('DELETE', `/api/v1/devices/${encodeURIComponent(deviceOf(rig))}?force=true`);
  }
}

export const soakPart: Part = {
  name: 'soak',
  title: 'a daemon that is scraped once a second for long (MINUTES=n, default 60); not part of a whole run',
  digits: 2,
  inQuick: false,
  onlyWhenNamed: true,
  run: async (): Promise<PartOutput> => {
    const { results, samples } = await benchSoak();
    const line = (name: string, of: (sample: SoakSample) => number) => ({
      name,
      points: samples.map((sample) => [sample.seconds / 60, of(sample)] as const),
    });
    const plot = {
      kind: 'lines',
      title: 'Memory of the daemon, scraped once a second',
      x: { label: 'minutes' },
      y: { label: 'MiB' },
      lines: [line('resident', ({ resident }) => resident), line('anonymous', ({ anonymous }) => anonymous)],
    } as const;
    return { results, plots: [plot] };
  },
};
