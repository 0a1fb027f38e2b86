// SPDX-License-Identifier: Apache-2.0
/** Memory of this process. */
import { readFileSync } from 'node:fs';
import { Libc } from '../maps/generated/host.ts';
import type { Native } from './ffi/index.ts';

interface Mapping {
  address: bigint;
  lengthBytes: number;
}

/**
 * Mappings of files that cannot be written, of which no page is this process's own: what is dropped of them is read from
 * the file again. A page that the dynamic linker wrote before it took the right to write away would be lost.
 * @param smaps text of /proc/PID/smaps (proc_pid_smaps(5))
 */
export function cleanFileMappings(smaps: string): Mapping[] {
  const clean: Mapping[] = [];
  let current: Mapping | null = null;
  for (const line of smaps.split('\n')) {
    const mapping = /^([0-9a-f]+)-([0-9a-f]+) (\S{4}) \S+ \S+ [1-9]\d* +\//.exec(line);
    if (mapping !== null) {
      const [, from, to, rights] = mapping;
      const address = BigInt(`0x${from}`);
      const lengthBytes = Number(BigInt(`0x${to}`) - address);
      current = rights === 'r-xp' || rights === 'r--p' ? { address, lengthBytes } : null;
    } else if (/^[0-9a-f]+-[0-9a-f]+ /.test(line)) {
      current = null;
    } else if (current !== null && /^Anonymous: +0 kB$/.test(line)) {
      clean.push(current);
    }
  }
  return clean;
}

/**
 * Gives back what only the start of a process needed: pages of programs and libraries, which come back from the page cache
 * when they are used again, and freed memory that glibc keeps. What cannot be given back stays.
 */
export function releaseUnusedMemory({ libc }: Pick<Native, 'libc'>): void {
  for (const { address, lengthBytes } of cleanFileMappings(readFileSync('/proc/self/smaps', 'utf8'))) {
    libc.madvise(address, lengthBytes, Libc.madvDontneed);
  }
  libc.malloc_trim(0);
}
