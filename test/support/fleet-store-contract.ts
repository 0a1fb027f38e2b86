// SPDX-License-Identifier: Apache-2.0
/** What every store of fleets has to do. Whatever the one in memory promises is here, so that etcd has shown it. */
import assert from 'node:assert/strict';
import type { FleetStore, Range, WatchEvent } from '../../src/fleet/store.ts';

const encode = (text: string): Uint8Array => new TextEncoder().encode(text);
const decode = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);

interface Seen {
  revision: number;
  events: WatchEvent[];
}

/** Collects what a watch tells, and waits for it. */
export class Collector {
  readonly seen: Seen[] = [];
  readonly end = Promise.withResolvers<Error | null>();
  #wake = Promise.withResolvers<void>();

  changed = (events: readonly WatchEvent[], revision: number): void => {
    this.seen.push({ events: [...events], revision });
    this.#wake.resolve();
    this.#wake = Promise.withResolvers<void>();
  };

  ended = (error: Error | null): void => this.end.resolve(error);

  /** As `put KEY VALUE` and `delete KEY`, once there are so many. */
  async events(count: number): Promise<string[]> {
    while (this.texts().length < count) await this.#wake.promise;
    return this.texts();
  }

  texts(): string[] {
    return this.seen.flatMap(({ events }) =>
      events.map((event) => (event.kind === 'put' ? `put ${event.key} ${decode(event.value)}` : `delete ${event.key}`)),
    );
  }
}

export interface StoreUnderTest {
  /** Another client of the same cluster. */
  client: () => FleetStore;
  compact: (revision: number) => Promise<void>;
}

let count = 0;

export function describeStore(name: string, setUp: () => StoreUnderTest): void {
  describe(`the store in ${name}`, function () {
    this.timeout(30_000);
    let store: FleetStore;
    let prefix: string;

    beforeEach(() => {
      store = setUp().client();
      prefix = `/contract-${++count}/`;
    });
    afterEach(() => store.close());

    const put = async (key: string, value: string, lease?: string): Promise<number | null> =>
      await store.commit({
        puts: [{ key: prefix + key, value: encode(value), ...(lease === undefined ? {} : { lease }) }],
      });
    const list = async (range: Range = { prefix }): Promise<string[]> => {
      const {
        values: [found = []],
      } = await store.read([range]);
      return found.map(({ key, value }) => `${key.slice(prefix.length)}=${decode(value)}`);
    };

    it('gives what was put, by key and by prefix, in the order of the keys, and nothing of others', async () => {
      await put('b', '2');
      await put('a/x', '1');
      await put('c', '');
      assert.deepEqual(await list(), ['a/x=1', 'b=2', 'c=']);
      assert.deepEqual(await list({ key: `${prefix}b` }), ['b=2']);
      assert.deepEqual(await list({ key: `${prefix}nothing` }), []);
      assert.deepEqual(await list({ prefix: `${prefix}a/` }), ['a/x=1']);
    });

    it('reads several ranges at one moment', async () => {
      await put('a', '1');
      await put('b', '2');
      const { revision, values } = await store.read([{ key: `${prefix}b` }, { prefix }, { key: `${prefix}x` }]);
      assert.deepEqual(
        values.map((found) => found.map(({ key }) => key.slice(prefix.length))),
        [['b'], ['a', 'b'], []],
      );
      const newest = Math.max(...values.flat().map(({ modRevision }) => modRevision));
      assert.ok(revision >= newest && newest > 0);
    });

    it('keeps bytes as they are', async () => {
      const value = Uint8Array.from({ length: 256 }, (_, index) => index);
      await store.commit({ puts: [{ key: `${prefix}bytes`, value }] });
      const {
        values: [[found] = []],
      } = await store.read([{ key: `${prefix}bytes` }]);
      assert.deepEqual(Uint8Array.from(found!.value), value);
    });

    it('commits all of a change or nothing, by the revisions that it names', async () => {
      const first = await put('a', '1');
      assert.ok(first !== null);
      const change = {
        conditions: [
          { key: `${prefix}a`, modRevision: first },
          { key: `${prefix}b`, modRevision: 0 },
        ],
        puts: [{ key: `${prefix}b`, value: encode('2') }],
        deletes: [{ key: `${prefix}a` }],
      };
      const second = await store.commit(change);
      assert.ok(second !== null && second > first);
      assert.deepEqual(await list(), ['b=2']);
      assert.equal(await store.commit(change), null);
      assert.deepEqual(await list(), ['b=2']);
    });

    it('deletes by prefix', async () => {
      await put('a/1', '1');
      await put('a/2', '2');
      await put('b', '3');
      await store.commit({ deletes: [{ prefix: `${prefix}a/` }] });
      assert.deepEqual(await list(), ['b=3']);
    });

    it('says the newest change and how many keys there are', async () => {
      assert.deepEqual(await store.newest(prefix), { modRevision: 0, count: 0 });
      await put('a', '1');
      const at = await put('b', '2');
      assert.deepEqual(await store.newest(prefix), { modRevision: at, count: 2 });
    });

    it('tells every change from a revision on, in order, those of one change together', async () => {
      const first = (await put('a', '1'))!;
      await put('a', '2');
      const collector = new Collector();
      const watch = await store.watch(prefix, first + 1, collector);
      const at = await store.commit({
        puts: [
          { key: `${prefix}b`, value: encode('3') },
          { key: `${prefix}c`, value: encode('4') },
        ],
        deletes: [{ key: `${prefix}a` }],
      });
      await store.commit({ puts: [{ key: `/elsewhere-${prefix}`, value: encode('no') }] });
      await put('d', '5');
      const texts = (await collector.events(5)).map((text) => text.replace(prefix, ''));
      assert.equal(texts[0], 'put a 2');
      assert.deepEqual(texts.slice(1, 4).sort(), ['delete a', 'put b 3', 'put c 4']);
      assert.equal(texts[4], 'put d 5');
      const whole = collector.seen.filter(({ events }) => events.some(({ key }) => key === `${prefix}b`));
      assert.equal(whole.length, 1);
      assert.ok(whole[0]!.events.length >= 3 && whole[0]!.revision >= at!);
      watch.close();
      assert.equal(await collector.end.promise, null);
      await put('e', '6');
      assert.equal(collector.texts().length, 5);
    });

    it('tells what another client changes', async () => {
      const other = setUp().client();
      try {
        const { revision } = await store.read([{ prefix }]);
        const collector = new Collector();
        await store.watch(prefix, revision + 1, collector);
        await other.commit({ puts: [{ key: `${prefix}x`, value: encode('1') }] });
        assert.deepEqual(await collector.events(1), [`put ${prefix}x 1`]);
      } finally {
        other.close();
      }
    });

    it('refuses to watch what it has forgotten', async () => {
      const first = (await put('a', '1'))!;
      await put('a', '2');
      const last = (await put('a', '3'))!;
      await setUp().compact(last);
      const collector = new Collector();
      const error = await store.watch(prefix, first, collector).then(
        () => collector.end.promise,
        (reason: Error) => reason,
      );
      assert.match(String(error), /compacted/);
      await store.watch(prefix, last + 1, new Collector());
    });

    it('ends a watch when it is closed itself', async () => {
      const own = setUp().client();
      const collector = new Collector();
      await own.watch(prefix, 1 + (await own.read([])).revision, collector);
      own.close();
      await collector.end.promise;
    });

    it('removes what is under a lease when that ends, and tells it', async () => {
      const lease = await store.grantLease(60);
      const { revision } = await store.read([]);
      const collector = new Collector();
      await store.watch(prefix, revision + 1, collector);
      await put('mine', '1', lease);
      await put('all', '2');
      assert.equal(await store.keepLease(lease), true);
      await store.revokeLease(lease);
      assert.equal((await collector.events(3))[2], `delete ${prefix}mine`);
      assert.deepEqual(await list(), ['all=2']);
      assert.equal(await store.keepLease(lease), false);
      await store.revokeLease(lease);
      await assert.rejects(put('late', '1', lease), /lease not found/);
    });

    it('ends a lease by itself that nobody keeps', async () => {
      const lease = await store.grantLease(1);
      const { revision } = await store.read([]);
      const collector = new Collector();
      await store.watch(prefix, revision + 1, collector);
      await put('mine', '1', lease);
      assert.equal((await collector.events(2))[1], `delete ${prefix}mine`);
    });
  });
}
