// SPDX-License-Identifier: Apache-2.0
/** What `make bench BENCH=failover` measures, once: times are for the benchmark, harm to others is for this. */
import assert from 'node:assert/strict';
import type { DistributionResult } from '../bench/distribution.ts';
import { benchFailover } from '../bench/failover.ts';
import { hasBfdd } from '../support/bfd-peer.ts';

describe('a zone that dies under load', function () {
  this.timeout(300_000);
  // The machine may stop everything for longer than a ring holds; a fault fails each time.
  this.retries(2);

  function measured(results: readonly DistributionResult[], name: string): number {
    const result = results.find((candidate) => candidate.name === name);
    assert.ok(result, `not measured: ${name}; there is ${results.map((one) => one.name).join(', ')}`);
    return result.max;
  }

  /** Of what nothing is allowed, nothing was seen. */
  function assertHarmless(results: readonly DistributionResult[]): void {
    const strict = results.filter(({ bound }) => bound === 0);
    assert.ok(strict.length > 0);
    for (const { name, unit, max } of strict) assert.equal(max, 0, `${name}: ${max} ${unit}`);
  }

  it('is failed over by the kernel whatever the daemon does, and nobody else is disturbed', async () => {
    const results = await benchFailover({ repetitions: 2, seconds: 1, only: ['silence'] });
    assertHarmless(results);
    assert.ok(measured(results, 'fullest queue over the emptiest of a row') <= 1);
    assert.equal(measured(results, 'switches while the heartbeat was stale'), 1);
  });

  it('is failed over when its probes or its BFD peer do not answer, and taken back', async () => {
    const results = await benchFailover({ repetitions: 1, seconds: 1, only: ['probes', 'bfd'] });
    assert.equal(results.length, hasBfdd ? 3 : 1);
  });

  it('takes its flows home in order', async () => {
    const results = await benchFailover({ repetitions: 2, seconds: 1, only: ['hand'] });
    assertHarmless(results);
    const flows = measured(results, 'planned moves of a recovery');
    assert.ok(flows > 1000, `only ${flows} flows move`);
    // Every flow is sent again within the time that is watched.
    assert.equal(measured(results, 'planned moves: made in order'), flows);
  });
});
