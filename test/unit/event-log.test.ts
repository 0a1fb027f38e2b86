// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { EventLog } from '../../src/daemon/event-log.ts';

function filled(count: number, capacity: number): EventLog {
  const log = new EventLog(1_000_000, capacity);
  for (let index = 1; index <= count; index++) log.publish({ type: 'test', device: null, data: { index } });
  return log;
}

const indexes = (events: readonly { data: Record<string, unknown> }[]): number[] =>
  events.map(({ data }) => data['index'] as number);

describe('the event log', () => {
  it('gives a follower that was cut off exactly what it missed, or says that some is lost', () => {
    fc.assert(
      fc.property(fc.nat(60), fc.integer({ min: 1, max: 20 }), fc.nat(70), (count, capacity, seen) => {
        const log = filled(count, capacity);
        const last = Math.min(seen, count);
        const { events, incomplete } = log.since(`${(1_000_000).toString(36)}.${last}`);
        const kept = Array.from({ length: count - last }, (_, index) => last + 1 + index).slice(-capacity);
        assert.deepEqual(indexes(events), kept);
        assert.equal(incomplete, count - last > capacity);
      }),
    );
  });
  it('gives everything it has, as incomplete, for an id of a daemon before this one', () => {
    for (const id of ['zzz.3', 'nonsense', '', `${(1_000_000).toString(36)}.99`]) {
      const { events, incomplete } = filled(5, 3).since(id);
      assert.deepEqual(indexes(events), [3, 4, 5]);
      assert.equal(incomplete, true);
    }
  });
  it('gives a new follower nothing of the past, and what comes until it stops', () => {
    const log = filled(3, 3);
    assert.deepEqual(log.since(undefined), { events: [], incomplete: false });
    const seen: number[] = [];
    const stop = log.follow(({ data }) => seen.push(data['index'] as number));
    log.publish({ type: 'test', device: null, data: { index: 4 } });
    stop();
    log.publish({ type: 'test', device: null, data: { index: 5 } });
    assert.deepEqual(seen, [4]);
    assert.deepEqual(indexes(log.latest(2)), [4, 5]);
    assert.deepEqual(log.latest(0), []);
    assert.deepEqual(log.since(log.position), { events: [], incomplete: false });
  });
});
