// SPDX-License-Identifier: Apache-2.0
/**
 * The kernel threads behind CPUMAP entries. They are ordinary threads of nice 0, although they do what soft interrupts do
 * elsewhere: a busy process on their CPU delays packets until the ring is full. They get the highest nice priority.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { constants, setPriority } from 'node:os';

/** Raises the threads of one map; returns how many. Without CAP_SYS_NICE they stay as they are and it returns 0. */
export function raiseCpumapThreads(mapId: number): number {
  let raised = 0;
  for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    // kernel/bpf/cpumap.c names them "cpumap/<cpu>/map:<id>".
    if (!new RegExp(`^cpumap/\\d+/map:${mapId}$`).test(threadName(pid))) continue;
    try {
      setPriority(Number(pid), constants.priority.PRIORITY_HIGHEST);
      raised++;
    } catch (error) {
      // Of a failed setPriority the errno stands in `info`; `code` says ERR_SYSTEM_ERROR.
      const code = (error as { info?: { code?: string } }).info?.code;
      if (code !== 'EACCES' && code !== 'EPERM' && code !== 'ESRCH') throw error;
    }
  }
  return raised;
}

function threadName(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/comm`, 'utf8').trim();
  } catch {
    // It ended meanwhile.
    return '';
  }
}
