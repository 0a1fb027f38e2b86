// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { AnswerCache, createMetrics, type MetricsRequest, type Rendered } from '../../src/daemon/metrics.ts';

/** Answers when it is told to. */
class SlowEngine {
  asked = 0;
  #waiting: PromiseWithResolvers<string>[] = [];

  ask(): Promise<string> {
    this.asked++;
    const waiting = Promise.withResolvers<string>();
    this.#waiting.push(waiting);
    return waiting.promise;
  }

  answer(text: string): void {
    this.#waiting.shift()?.resolve(text);
  }

  fail(): void {
    this.#waiting.shift()?.reject(new Error('the engine is gone'));
  }
}

describe('answers for scrapes', () => {
  let engine: SlowEngine;
  const cacheOf = (cacheMs: number): AnswerCache<string> =>
    new AnswerCache(
      () => engine.ask(),
      () => cacheMs,
    );

  beforeEach(() => {
    engine = new SlowEngine();
  });

  it('are waited for when there are none yet, once for all scrapes that come meanwhile', async () => {
    const cache = cacheOf(0);
    const scrapes = [cache.get(), cache.get()];
    engine.answer('first');
    assert.deepEqual(await Promise.all(scrapes), ['first', 'first']);
    assert.equal(engine.asked, 1);
  });

  it('are those of the scrape before while the engine is busy, and new ones when it is not', async () => {
    const cache = cacheOf(0);
    const first = cache.get();
    engine.answer('first');
    await first;
    assert.equal(await cache.get(), 'first', 'the engine has not answered');
    const third = cache.get();
    engine.answer('second');
    assert.equal(await third, 'second');
    assert.equal(engine.asked, 2);
  });

  it('are kept for as long as they are asked to be', async () => {
    const cache = cacheOf(60_000);
    const first = cache.get();
    engine.answer('first');
    await first;
    assert.equal(await cache.get(), 'first');
    assert.equal(engine.asked, 1);
  });

  it('fail with the engine, and come again when it does', async () => {
    const cache = cacheOf(0);
    const first = cache.get();
    engine.fail();
    await assert.rejects(first, /gone/);
    const second = cache.get();
    engine.answer('back');
    assert.equal(await second, 'back');
  });
});

describe('metrics of a daemon', () => {
  const asked: MetricsRequest[] = [];
  const answers = { prometheus: 'vnic 1\n', openmetrics: 'vnic 1.0\n', json: '{"metrics":[],"unavailable":[]}' };
  const metrics = createMetrics({
    engine: {
      metrics: (request) => {
        asked.push(request);
        return Promise.resolve(Buffer.from(answers[request.format]));
      },
    },
    cacheMs: () => 0,
    fleet: () => null,
  });

  it('are what the engine wrote and what the process says, in the format that is asked for', async () => {
    const textOf = ({ body, tail }: Rendered): string => Buffer.concat([body, tail]).toString();
    const plain = await metrics.text(undefined);
    assert.equal(plain.contentType, 'text/plain; version=0.0.4; charset=utf-8');
    assert.match(textOf(plain), /^vnic 1\n# HELP process_[\s\S]*\n$/);
    const open = await metrics.text('application/openmetrics-text; version=1.0.0');
    assert.equal(open.contentType, 'application/openmetrics-text; version=1.0.0; charset=utf-8');
    assert.match(textOf(open), /^vnic 1\.0\n# HELP process_[\s\S]*\n# EOF\n$/);
    const { metrics: all } = await metrics.json();
    assert.ok(all.some(({ name }) => name === 'process_cpu_seconds_total'));
    assert.deepEqual(
      asked.map(({ format }) => format),
      ['prometheus', 'openmetrics', 'json'],
    );
  });
});
