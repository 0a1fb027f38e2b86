// SPDX-License-Identifier: Apache-2.0
/** The daemon calls native functions on its main thread and on its engine's worker thread. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';

import { describeEachAdapter, requireRoot } from '../support/ffi.ts';

const script = fileURLToPath(new URL('../support/ffi-threads.ts', import.meta.url));

describeEachAdapter('native functions on two threads', (fixture) => {
  it('work at once, survive the end of the worker, and let the process exit', function () {
    requireRoot(this);
    this.timeout(60_000);
    const child = spawnSync(process.execPath, [script, fixture.adapter], { encoding: 'utf8', timeout: 50_000 });
    assert.deepEqual([child.status, child.signal], [0, null], child.stdout + child.stderr);
    assert.equal(child.stderr, '');
    assert.deepEqual(child.stdout.trim().split('\n'), [
      'both threads call at once',
      'the worker gets the messages of its calls',
      'both threads see one array',
      'the main thread goes on without the worker',
      'another worker can follow',
      'ended',
    ]);
  });
});
