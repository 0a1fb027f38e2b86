// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import fc from 'fast-check';
import { EventFollower, EventParser, type StreamEvent } from '../../src/daemon/page/event-stream.mjs';
import * as format from '../../src/daemon/page/format.mjs';
import { Poller } from '../../src/daemon/page/poller.mjs';
import { History, heatStep, Rates } from '../../src/daemon/page/rates.mjs';
import { until } from '../support/http.ts';

describe('numbers on the live page', () => {
  it('have three digits and a scale', () => {
    const cases: [number | null, string][] = [
      [null, '–'],
      [0, '0'],
      [0.4, '0.4'],
      [9.96, '10.0'],
      [999, '999'],
      [999.6, '1.00k'],
      [1234, '1.23k'],
      [99_949, '99.9k'],
      [99_951, '100k'],
      [999_999, '1.00M'],
      [18_446_744_073_709_552_000, '18.4E'],
    ];
    for (const [value, text] of cases) assert.equal(format.formatShort(value), text);
    assert.equal(format.formatUnit(1500, 'bit/s'), '1.50 kbit/s');
    assert.equal(format.formatUnit(7, 'p/s'), '7 p/s');
    assert.equal(format.formatUnit(null, 'p/s'), '–');
  });

  it('are right to the last digit that is shown', () => {
    const factors: Record<string, number> = { '': 1, k: 1e3, M: 1e6, G: 1e9, T: 1e12, P: 1e15, E: 1e18 };
    fc.assert(
      fc.property(fc.double({ min: 10, max: 9e20, noNaN: true }), (value) => {
        const [, digits, scale] = /^([\d.]+)(\D*)$/.exec(format.formatShort(value))!;
        assert.ok(Math.abs((Number(digits) * factors[scale!]!) / value - 1) <= 0.05);
        if (value >= 100) assert.ok(Math.abs((Number(digits) * factors[scale!]!) / value - 1) <= 0.005);
      }),
    );
  });

  it('of times have the unit that suits them', () => {
    assert.deepEqual([850, 8700, 1_510_000, 2.5e9, null].map(format.formatNs), [
      '850 ns',
      '8.70 µs',
      '1.51 ms',
      '2.50 s',
      '–',
    ]);
    assert.deepEqual([0, 1.7, 500, 61_000, 3_600_000 * 5, 86_400_000 * 3].map(format.formatMs), [
      '0 ms',
      '1.7 ms',
      '500 ms',
      '1 min 1 s',
      '5 h',
      '3 days',
    ]);
    const now = new Date(2026, 0, 2, 3, 4, 5);
    assert.equal(format.formatTime(now, now), '03:04:05');
    assert.equal(format.formatTime(new Date(2026, 0, 1, 23, 0, 0), now), '2026-01-01 23:00:00');
  });

  it('are put into words for queues, flows, rules and events', () => {
    assert.equal(format.formatRanges([0, 1, 2, 5, 7, 8]), '0–2, 5, 7–8');
    assert.equal(format.formatEndpoint('fd00::1', 80), '[fd00::1]:80');
    assert.equal(format.formatEndpoint('10.0.0.1', 0), '10.0.0.1');
    assert.equal(format.formatMatch({}), 'everything');
    assert.equal(
      format.formatMatch({ src: '10.0.0.0/8', dst: 'fd00::/8', proto: 'udp', srcPort: '1-9', dstPort: 53 }),
      'udp from 10.0.0.0/8 port 1-9 to fd00::/8 port 53',
    );
    const counters = { packets: 0, bytes: 0, droppedPackets: 0, droppedBytes: 0 };
    assert.equal(
      format.formatAction({
        id: 1,
        action: 'pass',
        shadow: true,
        limit: { rate: '10mbit', burst: '16kb', scope: 'flow', mode: 'shape' },
        queues: [1, 2],
        counters,
      }),
      'pass (shadow), shape to 10mbit burst 16kb per flow, queues 1–2',
    );
    assert.equal(format.formatEventData({ az: 'a', cause: null, moved: 3, list: [1] }), 'az a · moved 3 · list [1]');
    assert.ok(format.formatEventData({ text: 'x'.repeat(10_000) }).length < 1000);
  });
});

describe('rates on the live page', () => {
  it('are differences by time; a counter that is new or began anew has none', () => {
    const rates = new Rates();
    assert.equal(rates.update([['a', 5]], 0)('a'), null);
    const rate = rates.update(
      [
        ['a', 505],
        ['b', 9],
      ],
      2000,
    );
    assert.deepEqual([rate('a'), rate('b'), rate('c')], [250, null, null]);
    assert.equal(rates.update([['a', 4]], 3000)('a'), null);
    assert.equal(rates.update([['a', 4]], 3010)('a'), null, 'too short to say');
    assert.equal(rates.update([['a', 5]], 4010)('a'), 1);
    rates.reset();
    assert.equal(rates.update([['a', 6]], 5010)('a'), null);
  });

  it('are drawn with gaps where nothing is known, and only so many', () => {
    const history = new History(5);
    for (const value of [99, 1, null, 2, 4, 0]) history.push(value);
    assert.equal(history.path(40, 8), 'M0.0 6.0M20.0 4.0L30.0 0.0L40.0 8.0');
    history.clear();
    assert.equal(history.path(40, 8), '');
  });

  it('are cold only if nothing comes at all', () => {
    assert.deepEqual(
      [null, 0, 0.001, 50, 99.9, 100].map((value) => heatStep(value, 100)),
      [0, 0, 1, 5, 9, 9],
    );
  });
});

function bytes(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

describe('the page’s stream of events', () => {
  it('is the same wherever it is cut', () => {
    const text =
      'retry: 7\n\nid: a.1\nevent: az.failed\ndata: {"über":1}\n\n:\n\nid: a.2\r\ndata: x\r\ndata:y\r\n\r\nevent: q\n\n';
    const expected: StreamEvent[] = [
      { id: 'a.1', type: 'az.failed', data: '{"über":1}' },
      { id: 'a.2', type: 'message', data: 'x\ny' },
    ];
    fc.assert(
      fc.property(fc.array(fc.nat(bytes(text).length)), (cuts) => {
        const parser = new EventParser();
        const edges = [0, ...cuts.sort((a, b) => a - b), bytes(text).length];
        const events = edges.flatMap((edge, index) => parser.push(bytes(text).subarray(edges[index - 1] ?? 0, edge)));
        assert.deepEqual(events, expected);
        assert.deepEqual([parser.lastId, parser.retryMs], ['a.2', 7]);
      }),
    );
  });

  it('goes on after the last event, however it broke', async () => {
    const asked: string[] = [];
    const seen: string[] = [];
    const states: (string | null)[] = [];
    const answers = ['retry: 1\n\nid: e.1\ndata: one\n\nid: e.2\ndata: cut o', 'fail', 'id: e.2\ndata: two\n\n'];
    const follower = new EventFollower({
      open: async (lastId, signal) => {
        asked.push(lastId);
        const text = answers.shift();
        if (text === 'fail') throw new Error('away');
        return new ReadableStream({
          start: (controller) => {
            if (text !== undefined) controller.enqueue(bytes(text));
            if (answers.length > 0) controller.close();
            else signal.addEventListener('abort', () => controller.error(new Error('aborted')));
          },
        });
      },
      onEvent: ({ data }) => seen.push(data),
      onState: (error) => states.push(error === null ? null : error.message),
    });
    follower.start();
    await until(() => (seen.includes('two') ? true : undefined));
    follower.stop();
    await sleep(20);
    assert.deepEqual(seen, ['one', 'two']);
    // The id of the event that was cut off had been read, its data had not: the event is asked for again.
    assert.deepEqual(asked, ['', 'e.1', 'e.1']);
    assert.deepEqual(states, [null, 'away', null]);
  });
});

describe('looks of the live page', () => {
  it('never overlap, can be hurried, and end', async () => {
    let [running, most, count] = [0, 0, 0];
    const poller = new Poller(60_000, async () => {
      running++;
      most = Math.max(most, running);
      await sleep(5);
      running--;
      count++;
    });
    poller.start();
    poller.start();
    poller.hurry();
    await until(() => (count >= 2 ? true : undefined));
    poller.hurry();
    await until(() => (count >= 3 ? true : undefined));
    poller.stop();
    poller.hurry();
    await sleep(30);
    assert.deepEqual([most, count], [1, 3]);
  });
});
