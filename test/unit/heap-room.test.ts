// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import path from 'node:path';
import { pathToFileURL } from 'node:url';

const source = pathToFileURL(path.join(import.meta.dirname, '../../src/daemon/heap-room.ts')).href;

/** How often a process collects all of its garbage while it works on so many bytes, and keeps a fifth of it. */
function fullCollections(bytes: number): number {
  const script = `
    import { constants, PerformanceObserver } from 'node:perf_hooks';
    import { setTimeout as sleep } from 'node:timers/promises';
    import { withRoomFor } from ${JSON.stringify(source)};
    let full = 0;
    const observer = new PerformanceObserver((list) => {
      for (const { detail } of list.getEntries()) if (detail.kind === constants.NODE_PERFORMANCE_GC_MAJOR) full++;
    });
    observer.observe({ entryTypes: ['gc'] });
    const kept = [];
    await withRoomFor(${bytes}, async () => {
      for (let n = 0; n < 1_500_000; n++) kept[n % 300_000] = { n, text: [n] };
    });
    await sleep(50);
    console.log(kept.length > 0 ? full : -1);
  `;
  const args = ['--memory-saver-mode', '--max-semi-space-size=4', '--input-type=module', '--eval', script];
  const { status, stdout, stderr } = spawnSync(process.execPath, args, { encoding: 'utf8' });
  assert.equal(status, 0, stderr);
  return Number(stdout);
}

describe('room for a large rule set', () => {
  it('has a process that saves memory collect all garbage less often, and only for a large one', function () {
    this.timeout(120_000);
    const small = fullCollections(1000);
    const large = fullCollections(10_000_000);
    assert.ok(small >= 5, `${small} collections without room`);
    assert.ok(large * 2 <= small, `${large} collections with room, ${small} without`);
  });
});
