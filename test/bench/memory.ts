// SPDX-License-Identifier: Apache-2.0
/** `BENCH=memory`: what the kernel keeps for a device's maps; the hash tables of rules, which are as large as the set, apart. */
import { readdirSync, readFileSync } from 'node:fs';
import { summary } from './measure.ts';
import { loadDataplane } from './packet-subjects.ts';
import type { Part } from './part.ts';
import type { Result } from './result.ts';

const MIB = 2 ** 20;

/** Bytes of all BPF maps that a process holds, each once. */
export function mapBytes(pid: number | 'self' = 'self'): number {
  const maps = new Map<string, number>();
  for (const fd of readdirSync(`/proc/${pid}/fdinfo`)) {
    let text = '';
    try {
      text = readFileSync(`/proc/${pid}/fdinfo/${fd}`, 'utf8');
    } catch {
      // Closed meanwhile: the folder's own.
    }
    const id = /^map_id:\t(\d+)$/m.exec(text)?.[1];
    if (id !== undefined) maps.set(id, Number(/^memlock:\t(\d+)$/m.exec(text)?.[1]));
  }
  return [...maps.values()].reduce((sum, bytes) => sum + bytes, 0);
}

const cases = [
  { name: 'maps: 65,536 flows', maxFlows: 65_536 },
  { name: 'maps: 1,048,576 flows', maxFlows: 1_048_576 },
] as const;

export const memoryPart: Part = {
  name: 'memory',
  title: 'MiB of kernel memory for the maps of one device (memlock of /proc/PID/fdinfo), and the ratio to the first',
  digits: 1,
  run({ native }) {
    const before = mapBytes();
    const values = cases.map(({ maxFlows }) => {
      using _ = loadDataplane(native, { maxFlows });
      return (mapBytes() - before) / MIB;
    });
    const results = cases.map(
      ({ name }, index): Result => summary({ name, unit: 'MiB' }, [values[index]!], [values[0]!]),
    );
    return { results };
  },
};
