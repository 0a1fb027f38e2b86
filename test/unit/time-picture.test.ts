// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { columnMs, columns, type TimePicture, timePicture } from '../rig/time-picture.ts';

const base: TimePicture = { sliceMs: 2, fromMs: 0, toMs: 20, width: 10, groups: [], marks: [] };

describe('the picture of packets over time', () => {
  it('shows each slice as a column while there is room, and sums neighbours when there is not', () => {
    const values = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10];
    assert.deepEqual(columns(values, base), values);
    assert.deepEqual(columns(values, { ...base, width: 5 }), [3, 7, 11, 15, 19]);
    assert.deepEqual(columns(values, { ...base, width: 4 }), [6, 15, 24, 10]);
    assert.equal(columnMs({ ...base, width: 4 }), 6);
  });

  it('begins and ends where it is told, and never beyond what was counted', () => {
    const values = [1, 2, 3, 4, 5];
    assert.deepEqual(columns(values, { ...base, fromMs: 4, toMs: 8 }), [3, 4]);
    assert.deepEqual(columns(values, { ...base, fromMs: 6, toMs: 100, width: 100 }), [4, 5]);
  });

  it('draws one line for each counter, scaled within its group, with the marks where they happened', () => {
    const picture = timePicture({
      ...base,
      toMs: 8,
      groups: [
        [
          { name: 'from az-a', values: [8, 8, 8, 8] },
          { name: 'from az-b', values: [4, 0, 0, 1] },
        ],
        [{ name: 'queue 1', values: [1, 1, 0, 1] }],
      ],
      marks: [
        { sign: '2', atMs: 3 },
        { sign: '1', atMs: 2 },
        { sign: '3', atMs: 7 },
        { sign: '4', atMs: 9 },
      ],
    });
    assert.deepEqual(picture.split('\n'), [
      '  from az-a  ████',
      '  from az-b  ▄  ▁',
      '  queue 1    ██ █',
      '              123',
    ]);
  });

  it('fits a terminal of 100 columns', () => {
    const values = Array.from({ length: 5000 }, (_, slice) => slice % 7);
    const name = 'queues of az-b';
    const picture = timePicture({ ...base, toMs: 10_000, width: 76, groups: [[{ name, values }]] });
    for (const line of picture.split('\n')) assert.ok(Array.from(line).length <= 100, line);
  });
});
