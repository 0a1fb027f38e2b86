// SPDX-License-Identifier: Apache-2.0
/**
 * Loaded into a daemon by NODE_OPTIONS=--import, in all of its threads: on SIGUSR2 each collects its garbage, then the
 * memory in use is written to the file that MEMORY_REPORT names.
 */
import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { BroadcastChannel, isMainThread, threadId } from 'node:worker_threads';

export interface MemoryReport {
  /** Of the process, VmRSS of /proc/self/status. */
  rssBytes: number;
  /** Of the process before garbage was collected. */
  rssUncollectedBytes: number;
  /** Heap in use of each thread, by its number; 0 is the main thread. */
  heapBytes: Record<number, number>;
  /** Array buffers and the like of each thread. */
  externalBytes: Record<number, number>;
}

interface ThreadMemory {
  thread: number;
  heap: number;
  external: number;
}

/** A thread is there; it is to collect; what it then has. */
type Message = 'here' | 'collect' | ThreadMemory;

function rssBytes(): number {
  return 1024 * Number(/^VmRSS:\s+(\d+) kB$/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1]);
}

const reportFile = process.env['MEMORY_REPORT'];
if (reportFile !== undefined) {
  setFlagsFromString('--expose-gc');
  // As if memory were short: also what V8 holds in reserve goes back, whose size depends on the moment.
  const gc = runInNewContext('gc') as (options: object) => void;
  const collect = (): void => gc({ type: 'major', execution: 'sync', flavor: 'last-resort' });
  const collected = (): ThreadMemory => {
    // What finalizers let go of is freed by the second time.
    for (let times = 0; times < 3; times++) collect();
    const { heapUsed, external } = process.memoryUsage();
    return { thread: threadId, heap: heapUsed, external };
  };
  const channel = new BroadcastChannel('memory');
  const hear = (handle: (data: Message) => void): void => {
    channel.onmessage = (event: unknown) => handle((event as { data: Message }).data);
  };
  if (isMainThread) {
    let others = 0;
    let threads: ThreadMemory[] = [];
    let rssUncollectedBytes = 0;
    const tellWhenAllAnswered = (): void => {
      if (threads.length <= others) return;
      const report: MemoryReport = {
        rssBytes: rssBytes(),
        rssUncollectedBytes,
        heapBytes: Object.fromEntries(threads.map(({ thread, heap }) => [thread, heap])),
        externalBytes: Object.fromEntries(threads.map(({ thread, external }) => [thread, external])),
      };
      writeFileSync(`${reportFile}.new`, JSON.stringify(report));
      renameSync(`${reportFile}.new`, reportFile);
    };
    hear((data) => {
      if (data === 'here') others++;
      else if (data !== 'collect') {
        threads.push(data);
        tellWhenAllAnswered();
      }
    });
    process.on('SIGUSR2', () => {
      rssUncollectedBytes = rssBytes();
      threads = [collected()];
      channel.postMessage('collect');
      tellWhenAllAnswered();
    });
  } else {
    channel.postMessage('here');
    hear((data) => {
      if (data === 'collect') channel.postMessage(collected());
    });
  }
  // A thread ends all the same.
  channel.unref();
}
