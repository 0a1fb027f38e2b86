// SPDX-License-Identifier: Apache-2.0
/** The story that an operator runs before trusting a failover: it holds, and it would not if the product did not. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import path from 'node:path';

const script = path.join(import.meta.dirname, '../failover.sh');
/** It waits for at most so long for each thing; as a whole it takes about half a minute. */
const TIMEOUT_MS = 170_000;

interface Story {
  code: number | null;
  text: string;
  /** Its last line. */
  verdict: string;
  namespacesLeft: string[];
}

function tell(env: Record<string, string> = {}): Story {
  const { status, stdout, stderr, pid } = spawnSync(script, {
    encoding: 'utf8',
    env: { ...process.env, ...env },
    timeout: TIMEOUT_MS,
  });
  const text = `${stdout}${stderr}`;
  const verdict = stdout.trimEnd().split('\n').at(-1) ?? '';
  const namespacesLeft = readdirSync('/run/netns').filter((name) => name.endsWith(`-${pid}`));
  return { code: status, text, verdict, namespacesLeft };
}

describe('test/failover.sh', function () {
  this.timeout(3 * TIMEOUT_MS);

  it('tells the whole story and ends with PASS', function () {
    // The machine may stand still for longer than a silence; a fault fails each time.
    this.retries(2);
    const { code, text, verdict, namespacesLeft } = tell();
    assert.equal(verdict, 'VERDICT: PASS', text);
    assert.equal(code, 0);
    assert.match(text, /collateral/);
    assert.match(text, /the kernel has failed it over by itself/);
    assert.deepEqual(namespacesLeft, []);
  });

  it('ends with FAIL when nobody listens whether the zones are alive, and cleans up all the same', () => {
    const { code, verdict, namespacesLeft } = tell({ WATCH: 'off' });
    assert.match(verdict, /^VERDICT: FAIL: az-b is dead and still in use/);
    assert.equal(code, 1);
    assert.deepEqual(namespacesLeft, []);
  });
});
