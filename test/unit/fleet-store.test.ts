// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import type { AddressInfo } from 'node:net';
import { createServer } from 'node:net';
import { EtcdStore } from '../../src/fleet/etcd/etcd-store.ts';
import { MemoryCluster, MemoryStore } from '../../src/fleet/memory-store.ts';
import { EtcdCluster, etcdProgram, noEtcd, open } from '../support/etcd.ts';
import { Collector, describeStore } from '../support/fleet-store-contract.ts';
import { skip } from '../support/skip.ts';
import { codeOf } from '../support/thrown.ts';

const memory = new MemoryCluster();
describeStore('memory', () => ({
  client: () => new MemoryStore(memory),
  compact: async (revision) => memory.compact(revision),
}));

describe('etcd', function () {
  this.timeout(60_000);
  let cluster: EtcdCluster;

  before(async function () {
    if (etcdProgram === null) skip(this, noEtcd);
    cluster = await EtcdCluster.start();
  });
  after(() => cluster?.[Symbol.asyncDispose]());

  describeStore('etcd', () => ({
    client: () => cluster.members[0]!.store(),
    compact: async (revision) => void cluster.ctl('compact', String(revision)),
  }));

  it('is not waited for longer than the deadline when it is frozen, and a watch on it goes on after', async () => {
    const [member] = cluster.members;
    const store = member!.store();
    const collector = new Collector();
    await store.watch('/frozen/', 1 + (await store.read([])).revision, collector);
    member!.freeze();
    try {
      assert.equal(await codeOf(store.newest('/')), 'fleet_unreachable');
    } finally {
      member!.thaw();
    }
    await store.commit({ puts: [{ key: '/frozen/a', value: Buffer.from('1') }] });
    assert.deepEqual(await collector.events(1), ['put /frozen/a 1']);
    store.close();
  });

  it('ends watches when it dies', async () => {
    const [member] = cluster.members;
    const store = member!.store();
    const collector = new Collector();
    await store.watch('/dead/', 1 + (await store.read([])).revision, collector);
    await member!.kill();
    assert.match(String(await collector.end.promise), /cannot be reached/);
    assert.equal(await codeOf(store.newest('/')), 'fleet_unreachable');
    store.close();
    member!.run();
    await cluster.ready();
  });
});

describe('a server that is no etcd', () => {
  it('is an error that says so', async () => {
    const server = createServer((socket) => socket.end('HTTP/1.1 404 Not Found\r\ncontent-length: 5\r\n\r\nhello'));
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as AddressInfo;
    const store = new EtcdStore(`http://127.0.0.1:${port}`, open);
    await assert.rejects(store.newest('/'), { code: 'failed', message: /hello/ });
    store.close();
    server.close();
    assert.equal(await codeOf(new EtcdStore(`http://127.0.0.1:${port}`, open).newest('/')), 'fleet_unreachable');
  });
});
