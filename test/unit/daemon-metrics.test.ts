// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { SampleCache } from '../../src/daemon/metrics.ts';
import type { DeviceSample } from '../../src/telemetry/metrics/sample.ts';

/** Answers when it is told to. */
class SlowEngine {
  asked = 0;
  #waiting: PromiseWithResolvers<DeviceSample[]>[] = [];

  samples(): Promise<DeviceSample[]> {
    this.asked++;
    const waiting = Promise.withResolvers<DeviceSample[]>();
    this.#waiting.push(waiting);
    return waiting.promise;
  }

  answer(device: string): void {
    this.#waiting.shift()?.resolve([{ device } as DeviceSample]);
  }

  fail(): void {
    this.#waiting.shift()?.reject(new Error('the engine is gone'));
  }
}

describe('samples for scrapes', () => {
  let engine: SlowEngine;
  const devices = async (samples: Promise<DeviceSample[]>): Promise<string[]> =>
    (await samples).map(({ device }) => device);
  const cacheOf = (cacheMs: number): SampleCache<DeviceSample[]> => new SampleCache(engine, () => cacheMs);

  beforeEach(() => {
    engine = new SlowEngine();
  });

  it('are waited for when there are none yet, once for all scrapes that come meanwhile', async () => {
    const cache = cacheOf(0);
    const scrapes = [devices(cache.get()), devices(cache.get())];
    engine.answer('first');
    assert.deepEqual(await Promise.all(scrapes), [['first'], ['first']]);
    assert.equal(engine.asked, 1);
  });

  it('are those of the scrape before while the engine is busy, and new ones when it is not', async () => {
    const cache = cacheOf(0);
    const first = cache.get();
    engine.answer('first');
    await first;
    assert.deepEqual(await devices(cache.get()), ['first'], 'the engine has not answered');
    const third = devices(cache.get());
    engine.answer('second');
    assert.deepEqual(await third, ['second']);
    assert.equal(engine.asked, 2);
  });

  it('are kept for as long as they are asked to be', async () => {
    const cache = cacheOf(60_000);
    const first = cache.get();
    engine.answer('first');
    await first;
    assert.deepEqual(await devices(cache.get()), ['first']);
    assert.equal(engine.asked, 1);
  });

  it('fail with the engine, and come again when it does', async () => {
    const cache = cacheOf(0);
    const first = cache.get();
    engine.fail();
    await assert.rejects(first, /gone/);
    const second = devices(cache.get());
    engine.answer('back');
    assert.deepEqual(await second, ['back']);
  });
});
