// SPDX-License-Identifier: Apache-2.0
/** Whether an AZ is dead or alive: decisions from results of probes, on a given clock. */
import assert from 'node:assert/strict';
import { setImmediate } from 'node:timers/promises';
import fc from 'fast-check';
import { formatAz, parseAz } from '../../src/config/azs.ts';
import { VnicError } from '../../src/errors.ts';
import {
  type AzHealth,
  afterFailure,
  afterOutsideChange,
  afterRecovery,
  afterRefusal,
  afterResult,
  type Decision,
  decide,
  type HealthPolicy,
  newAzHealth,
  policyOf,
} from '../../src/health/az-health.ts';
import { AzWatch, type Outcome } from '../../src/health/az-watch.ts';
import { isSuppressing, noPenalty, penaltyAfterFailure, penaltyAt } from '../../src/health/damping.ts';
import { evidenceOf, evidenceText } from '../../src/health/evidence.ts';
import type { ProbeResult } from '../../src/health/run-probe.ts';
import { defaultFlapDamping } from '../../src/steering/azs.ts';

const noDamping = { ...defaultFlapDamping, penalty: 0 };
const basic: HealthPolicy = { fall: 3, rise: 5, quorum: 1, holdDownMs: 0, flap: noDamping, autoRecover: true };

interface Change {
  atMs: number;
  decision: Decision;
}

/** Feeds one result after the other, each acted on at once. `o` answers, `x` fails; for one target. */
function play(pattern: string, policy: HealthPolicy, { intervalMs = 100, health = newAzHealth(['t'], 'up', 0) } = {}) {
  const changes: Change[] = [];
  let now = 0;
  let state: AzHealth = health;
  for (const letter of pattern) {
    now += intervalMs;
    state = afterResult(state, 0, { error: letter === 'o' ? null : 'refused' }, policy, now);
    const decision = decide(state, policy, now);
    if (decision === null) continue;
    changes.push({ atMs: now, decision });
    state = decision === 'fail' ? afterFailure(state, policy, now) : afterRecovery(state, now);
  }
  return { changes, health: state };
}

const results = fc.array(fc.constantFrom('o', 'x'), { maxLength: 300 }).map((letters) => letters.join(''));
const policies = fc.record({
  fall: fc.integer({ min: 1, max: 6 }),
  rise: fc.integer({ min: 1, max: 6 }),
  quorum: fc.constant(1),
  holdDownMs: fc.integer({ min: 0, max: 5000 }),
  flap: fc.constantFrom(noDamping, defaultFlapDamping, { penalty: 500, halfLifeMs: 1000, suppress: 900, reuse: 300 }),
  autoRecover: fc.boolean(),
});

describe('the health of an AZ', () => {
  it('is lost with the third failure in a row, and not by one or two', () => {
    assert.deepEqual(play('ooxoxxoxox', basic).changes, []);
    assert.deepEqual(play('ooxxx', basic).changes, [{ atMs: 500, decision: 'fail' }]);
  });

  it('comes back with the fifth success in a row, and not by four', () => {
    assert.deepEqual(play('xxxooooxooooo', basic).changes, [
      { atMs: 300, decision: 'fail' },
      { atMs: 1300, decision: 'recover' },
    ]);
  });

  it('fails only after `fall` failures and recovers only after `rise` successes in a row, whatever comes', () => {
    fc.assert(
      fc.property(results, policies, (pattern, policy) => {
        for (const { atMs, decision } of play(pattern, policy).changes) {
          const until = pattern.slice(0, atMs / 100);
          const wanted = decision === 'fail' ? 'x'.repeat(policy.fall) : 'o'.repeat(policy.rise);
          // Hold-down and damping may put a recovery off; the successes before it are no fewer.
          if (decision === 'fail') assert.ok(until.endsWith(wanted));
          else
            assert.ok(until.endsWith('o') && until.slice(until.lastIndexOf('x'.repeat(policy.fall))).includes(wanted));
        }
      }),
    );
  });

  it('never flaps faster than hold-down', () => {
    fc.assert(
      fc.property(results, policies, (pattern, policy) => {
        const { changes } = play(pattern, policy);
        for (const [index, { atMs, decision }] of changes.entries()) {
          const before = changes[index - 1];
          assert.notEqual(decision, before?.decision);
          if (decision === 'recover') assert.ok(atMs - (before?.atMs ?? 0) >= policy.holdDownMs);
        }
        if (!policy.autoRecover) assert.ok(changes.every(({ decision }) => decision === 'fail'));
      }),
    );
  });

  it('needs as many targets as the quorum says', () => {
    const policy = { ...basic, quorum: 2, fall: 1, rise: 1 };
    let health = newAzHealth(['a', 'b', 'c'], 'up', 0);
    const result = (index: number, error: string | null): Decision | null => {
      health = afterResult(health, index, { error }, policy, 1);
      return decide(health, policy, 1);
    };
    assert.equal(result(0, 'refused'), null);
    assert.equal(result(1, 'no answer in 100 ms'), 'fail');
    const evidence = evidenceOf(health, policy, 51);
    assert.deepEqual([evidence.answering, evidence.quorum], [1, 2]);
    assert.deepEqual(evidence.targets[1], {
      target: 'b',
      up: false,
      failures: 1,
      successes: 0,
      failingForMs: 50,
      lastError: 'no answer in 100 ms',
    });
    assert.equal(
      evidenceText(evidence),
      '1 of 3 targets answer, 2 needed: a refused (1 in a row); b no answer in 100 ms (1 in a row)',
    );
    health = afterFailure(health, policy, 1);
    assert.equal(result(2, 'refused'), null);
    assert.equal(result(0, null), null);
    assert.equal(result(1, null), 'recover');
  });

  it('waits out the penalty of one that fails again and again, and then recovers', () => {
    const flap = { penalty: 1000, halfLifeMs: 10_000, suppress: 2000, reuse: 750 };
    const policy = { ...basic, fall: 1, rise: 1, flap };
    const { changes, health } = play('xoxoxo', policy);
    // The third failure within a second makes it 1000 + nearly 2000: more than 2000.
    assert.deepEqual(
      changes.map(({ decision }) => decision),
      ['fail', 'recover', 'fail', 'recover', 'fail'],
    );
    const left = penaltyAt(health.penalty, flap, 600);
    const reusedAtMs = 600 + 10_000 * Math.log2(left / 750);
    assert.equal(decide(health, policy, reusedAtMs - 10), null);
    assert.equal(decide(health, policy, reusedAtMs + 10), 'recover');
  });

  it('does not depend on a clock that stands still or is set back', () => {
    const policy = { ...basic, flap: defaultFlapDamping };
    fc.assert(
      fc.property(fc.array(fc.integer({ min: -10_000, max: 10_000 }), { maxLength: 30 }), (clocks) => {
        let penalty = noPenalty(0);
        for (const now of clocks) {
          penalty = penaltyAfterFailure(penalty, policy.flap, now);
          assert.ok(Number.isFinite(penalty.value) && penalty.value >= policy.flap.penalty);
          assert.ok(penaltyAt(penalty, policy.flap, now) <= penalty.value);
        }
        // Never for longer than four half-lives.
        const lastMs = Math.max(0, ...clocks);
        assert.equal(isSuppressing(penalty, policy.flap, lastMs + 4 * policy.flap.halfLifeMs), false);
      }),
    );
  });

  it('is nobody’s business but the operator’s after a failure by hand', () => {
    const held = afterOutsideChange(newAzHealth(['t'], 'up', 0), 'held', basic, 0);
    assert.deepEqual(play('oooooooooxxxxxx', basic, { health: held }).changes, []);
    // Recovered by hand while dead: failures count anew.
    const again = afterOutsideChange(play('xxxxx', basic, { health: held }).health, 'up', basic, 0);
    assert.deepEqual(play('xxx', basic, { health: again }).changes, [{ atMs: 300, decision: 'fail' }]);
  });

  it('goes on where it was after a restart, hold-down included', () => {
    const policy = { ...basic, holdDownMs: 5000 };
    const restarted = newAzHealth(['t'], 'failed', 0, 4000);
    assert.deepEqual(play('oooooooooo', policy, { health: restarted }).changes, [{ atMs: 1000, decision: 'recover' }]);
  });

  it('is not insisted on more than once a second when the policy refuses to fail it', () => {
    let { health } = play('xx', basic);
    health = afterResult(health, 0, { error: 'x' }, basic, 300);
    assert.equal(decide(health, basic, 300), 'fail');
    health = afterRefusal(health, 300);
    assert.equal(decide(afterResult(health, 0, { error: 'x' }, basic, 400), basic, 400), null);
    assert.equal(decide(health, basic, 1300), 'fail');
    for (let n = 0; n < 5; n++) health = afterResult(health, 0, { error: null }, basic, 1400);
    assert.deepEqual([decide(health, basic, 1400), health.refusedAtMs], [null, null]);
  });
});

describe('a watched AZ', () => {
  const probe = parseAz({
    name: 'a',
    queues: 0,
    probe: { type: 'tcp', target: '10.0.0.1:1', interval_ms: 10, fall: 2, rise: 2 },
  }).probe!;

  /** Watches with results that come from a list, until it is used up. */
  async function watch(results: readonly ProbeResult[], outcomes: Outcome[]) {
    const done: [Decision, boolean][] = [];
    const impossible: string[] = [];
    const rest = [...results];
    const { promise, resolve } = Promise.withResolvers<void>();
    const options = { probe, policy: { ...basic, fall: 2, rise: 2 }, state: 'up' as const, stateForMs: 0 };
    const watched = new AzWatch(options, {
      probe: (_target, signal) => {
        const result = rest.shift();
        if (result !== undefined) return Promise.resolve(result);
        resolve();
        return new Promise((end) => signal.addEventListener('abort', () => end({ kind: 'failure', error: 'stopped' })));
      },
      signs: () => [],
      // A clock that goes on by itself.
      now: () => performance.now(),
      perform: (decision, _evidence, isAgain) => {
        done.push([decision, isAgain]);
        return outcomes.shift() ?? 'done';
      },
      onImpossible: (target, error) => impossible.push(`${target} ${error}`),
    });
    await promise;
    watched.stop();
    await setImmediate();
    return { done, impossible, health: watched.health };
  }

  const ok: ProbeResult = { kind: 'answer' };
  const bad: ProbeResult = { kind: 'failure', error: 'refused' };
  const late: ProbeResult = { kind: 'unknown', error: null };
  const impossible: ProbeResult = { kind: 'unknown', error: 'EMFILE' };

  it('is failed and recovered as its probes say; those that say nothing count for nothing', async () => {
    const { done, health } = await watch([ok, bad, late, bad, ok, late, ok], []);
    assert.deepEqual(done, [
      ['fail', false],
      ['recover', false],
    ]);
    assert.deepEqual([health.state, health.targets[0]?.successes], ['up', 2]);
  });

  it('stays as it is when its probes cannot be made, which is told once', async () => {
    const { done, impossible: told } = await watch([impossible, impossible, impossible, ok, impossible], []);
    assert.deepEqual([done, told], [[], ['10.0.0.1:1 EMFILE', '10.0.0.1:1 EMFILE']]);
  });

  it('is not asked for again at once after a refusal', async () => {
    const { done, health } = await watch([bad, bad, bad, bad, ok, ok, bad, bad], ['refused']);
    assert.deepEqual(done, [
      ['fail', false],
      ['fail', false],
    ]);
    assert.equal(health.state, 'failed');
  });

  it('is decided on anew where somebody else was quicker', async () => {
    const { done } = await watch([bad, bad, bad], ['outdated']);
    assert.deepEqual(done, [
      ['fail', false],
      ['fail', false],
    ]);
  });
});

describe('the probe of an AZ', () => {
  const az = (probe: Record<string, unknown>, fields: Record<string, unknown> = {}) => ({
    name: 'a',
    queues: 0,
    probe,
    ...fields,
  });

  it('has a timeout, a quorum and a status by default', () => {
    const { probe } = parseAz(az({ type: 'http', targets: ['10.0.0.1:80', '10.0.0.2:80', '[fd00::1]:80'] }));
    assert.deepEqual(probe, {
      type: 'http',
      targets: [
        { address: '10.0.0.1', port: 80 },
        { address: '10.0.0.2', port: 80 },
        { address: 'fd00::1', port: 80 },
      ],
      quorum: 2,
      intervalMs: 100,
      timeoutMs: 100,
      fall: 3,
      rise: 5,
      http: { path: '/', status: [200, 399] },
    });
    assert.equal(parseAz(az({ type: 'icmp', target: 'FD00::1', interval_ms: 60_000 })).probe?.timeoutMs, 1000);
    const parsed = parseAz(az({ type: 'icmp', target: '10.0.0.1' }));
    assert.deepEqual(policyOf(parsed), {
      fall: 3,
      rise: 5,
      quorum: 1,
      holdDownMs: 1000,
      flap: defaultFlapDamping,
      autoRecover: true,
    });
  });

  it('comes back the same after being written out', () => {
    const host = fc.constantFrom('10.0.0.1', '10.0.0.2', '192.0.2.7');
    const probe = fc.record(
      {
        type: fc.constantFrom('tcp', 'udp', 'http', 'icmp'),
        targets: fc.uniqueArray(host, { minLength: 1 }),
        quorum: fc.constant(1),
        interval_ms: fc.integer({ min: 500, max: 60_000 }),
        timeout_ms: fc.integer({ min: 1, max: 500 }),
        fall: fc.integer({ min: 1, max: 100 }),
        rise: fc.integer({ min: 1, max: 100 }),
        path: fc.constantFrom('/', '/a?b=%20c'),
        status: fc.constantFrom(204, '200-299', '404'),
      },
      { requiredKeys: ['type', 'targets', 'interval_ms'] },
    );
    const flap = fc.record(
      {
        penalty: fc.nat(5000),
        half_life_ms: fc.integer({ min: 100, max: 1000 }),
        suppress: fc.integer({ min: 800, max: 9000 }),
      },
      { requiredKeys: [] },
    );
    const outer = fc.record({ hold_down_ms: fc.nat(10_000), flap, auto_recover: fc.boolean() }, { requiredKeys: [] });
    fc.assert(
      fc.property(probe, outer, ({ path, status, targets, ...rest }, fields) => {
        const isHttp = rest.type === 'http';
        const input = {
          ...rest,
          targets: rest.type === 'icmp' ? targets : targets.map((address) => `${address}:80`),
          ...(isHttp && path !== undefined ? { path } : {}),
          ...(isHttp && status !== undefined ? { status } : {}),
        };
        const parsed = parseAz(az(input, fields));
        assert.deepEqual(parseAz(formatAz(parsed)), parsed);
        assert.deepEqual(formatAz(parseAz(formatAz(parsed))), formatAz(parsed));
      }),
    );
  });

  it('is refused where its fields do not fit together', () => {
    const tcp = { type: 'tcp', target: '10.0.0.1:1' };
    const wrong: [Record<string, unknown>, RegExp][] = [
      [az({ type: 'tcp' }), /probe\.target: is missing/],
      [az({ ...tcp, targets: ['10.0.0.2:1'] }), /probe\.target: target and targets are both given/],
      [az({ type: 'tcp', targets: ['10.0.0.2:1', '10.0.0.2:1'] }), /targets\[1\]: 10\.0\.0\.2:1 is named twice/],
      [az({ type: 'tcp', targets: [] }), /targets: \[\] is not a list of at least one/],
      [az({ type: 'icmp', target: '10.0.0.1:1' }), /probe\.target: .* without a port/],
      [az({ type: 'tcp', target: 7 }), /probe\.target: 7 is not an address and port/],
      [az({ ...tcp, quorum: 2 }), /probe\.quorum: quorum 2 is more than the 1 targets/],
      [az({ ...tcp, interval_ms: 50, timeout_ms: 60 }), /probe\.timeout_ms: .* longer than interval_ms 50/],
      [az({ ...tcp, path: '/' }), /probe\.path: path belongs to probes of type http/],
      [az({ ...tcp, type: 'http', path: 'x\r\ny' }), /probe\.path: .* is not a path/],
      [az({ ...tcp, type: 'http', status: '300-200' }), /probe\.status: "300-200" is not a status/],
      [az(tcp, { flap: { suppress: 100, reuse: 100 } }), /flap\.reuse: reuse 100 is not below suppress 100/],
      [az(tcp, { hold_down_ms: -1 }), /hold_down_ms: -1 is not a whole number/],
    ];
    for (const [input, message] of wrong) {
      assert.throws(
        () => parseAz(input),
        (error) => {
          assert.ok(error instanceof VnicError && error.code === 'invalid_config');
          assert.match(error.message, message);
          assert.ok(error.remedy !== undefined && error.remedy !== '');
          return true;
        },
      );
    }
  });
});
