// SPDX-License-Identifier: Apache-2.0
/** `BENCH=ffi`: what a call into C costs by koffi and by ffi-napi. */
import { loadNative, type Native } from '../../src/loader/ffi/index.ts';
import { measure, type Subject } from './measure.ts';
import type { Part } from './part.ts';
import { notMeasured } from './result.ts';

const CALLS = { koffi: 200_000, 'ffi-napi': 4000 } as const;

export const ffiPart: Part = {
  name: 'ffi',
  title: 'ns a call of getpid-like weight (sched_getcpu) into C, and the ratio to koffi',
  digits: 0,
  async run() {
    const caller = (name: string, native: Native, calls: number): Subject => ({
      name,
      unit: 'ns',
      run: () => {
        const startNs = process.hrtime.bigint();
        for (let call = 0; call < calls; call++) native.libc.sched_getcpu();
        return Number(process.hrtime.bigint() - startNs) / calls;
      },
    });
    const koffi = caller('koffi', loadNative({ adapter: 'koffi' }), CALLS.koffi);
    let other: Native;
    try {
      other = loadNative({ adapter: 'ffi-napi' });
    } catch (error) {
      const results = await measure([{ floor: koffi, subject: koffi }], 5);
      return { results: [results[0]!, notMeasured('ffi-napi', 'ns', (error as Error).message)] };
    }
    return { results: await measure([{ floor: koffi, subject: caller('ffi-napi', other, CALLS['ffi-napi']) }], 5) };
  },
};
