// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { formatCpuList, formatCpuMask, parseCpuList, parseCpuMask } from '../../src/loader/cpu-set.ts';

const sets = fc.uniqueArray(fc.nat(300)).map((cpus) => cpus.sort((a, b) => a - b));

describe('sets of CPUs', () => {
  it('are read and written as the kernel does it', () => {
    assert.deepEqual(parseCpuList('0-3,8\n'), [0, 1, 2, 3, 8]);
    assert.deepEqual(parseCpuList('\n'), []);
    assert.equal(formatCpuList([8, 0, 1, 2, 3]), '0-3,8');
    assert.deepEqual(parseCpuMask('00000001,00000003\n'), [0, 1, 32]);
    assert.deepEqual(parseCpuMask('0\n'), []);
    assert.equal(formatCpuMask([0, 1, 63]), '80000000,00000003');
    assert.equal(formatCpuMask([]), '0');
  });

  it('are the same after being written and read', () => {
    fc.assert(
      fc.property(sets, (cpus) => {
        assert.deepEqual(parseCpuList(formatCpuList(cpus)), cpus);
        assert.deepEqual(parseCpuMask(formatCpuMask(cpus)), cpus);
      }),
    );
  });
});
