// SPDX-License-Identifier: Apache-2.0
/** etcd that asks for certificates of clients and has users with rights: what docs/fleet.md shows, and what goes wrong. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { extractBlocks } from '../../scripts/docs/blocks.ts';
import { storesOf } from '../../src/fleet/connect.ts';
import { FleetNode } from '../../src/fleet/node/fleet-node.ts';
import { FleetOperator } from '../../src/fleet/operator.ts';
import {
  type CertificateFiles,
  EtcdCluster,
  etcdctlProgram,
  etcdProgram,
  noEtcd,
  TestAuthority,
} from '../support/etcd.ts';
import { FakeDevices, MemoryFiles, policy, rule, until } from '../support/fleet-node.ts';
import { skip } from '../support/skip.ts';
import { codeOf } from '../support/thrown.ts';

describe('etcd with certificates and users', function () {
  this.timeout(60_000);
  const folder = mkdtempSync(path.join(tmpdir(), 'vnic-etcd-tls-'));
  let cluster: EtcdCluster;
  let client: CertificateFiles;
  let named: CertificateFiles;

  const configOf = (user: string | null, tls: Partial<CertificateFiles> | null = client) => ({
    endpoints: cluster.endpoints,
    tls: tls === null ? null : { ca: tls.ca ?? null, cert: tls.cert ?? null, key: tls.key ?? null },
    auth: user === null ? null : { user, passwordFile: path.join(folder, user) },
  });

  function storeOf(user: string | null, tls?: Partial<CertificateFiles> | null) {
    return storesOf(configOf(user, tls))[0]!();
  }

  /** Runs what docs/fleet.md says that users and rights are made by. */
  function secureAsDocumented(): void {
    const page = readFileSync(path.join(import.meta.dirname, '../../docs/fleet.md'), 'utf8');
    const block = extractBlocks(page).find(({ commands }) => commands.includes('etcdctl auth enable'));
    const { ca, cert, key } = client;
    const options = `--endpoints ${cluster.endpoints[0]} --cacert ${ca} --cert ${cert} --key ${key}`;
    execFileSync('sh', ['-eu'], {
      input: `etcdctl() { ${etcdctlProgram} ${options} "$@" || exit; }\n${block!.commands}`,
      stdio: ['pipe', 'ignore', 'inherit'],
      env: { ...process.env, ETCDCTL_API: '3' },
    });
  }

  before(async function () {
    if (etcdProgram === null || etcdctlProgram === null) skip(this, noEtcd);
    const authority = new TestAuthority(folder);
    const server = authority.issue('server', 'server');
    client = authority.issue('client', 'client');
    named = authority.issue('named', 'client', 'root');
    const read = (file: string) => readFileSync(file);
    const credentials = { tls: { ca: read(client.ca), cert: read(client.cert), key: read(client.key) }, auth: null };
    cluster = await EtcdCluster.start({ tls: server, credentials });
    for (const user of ['root', 'node', 'operator']) writeFileSync(path.join(folder, user), 'SECRET\n');
    secureAsDocumented();
  });
  after(async () => {
    await cluster?.[Symbol.asyncDispose]();
    rmSync(folder, { recursive: true, force: true });
  });

  it('serves nodes and operators with the rights that the documentation gives them', async () => {
    const operatorStore = storeOf('operator');
    const operator = new FleetOperator(operatorStore, '/vnic', 'tester');
    const devices = new FakeDevices().add('eth0');
    const node = new FleetNode({
      settings: { prefix: '/vnic', node: 'n1', labels: {}, quorum: 'majority', mendDrift: true },
      version: '1',
      devices,
      files: new MemoryFiles(),
      stores: storesOf(configOf('node')),
      publish: () => undefined,
      timings: { lookMs: 20, checkMs: 100, retryMs: 20 },
    });
    node.start();
    try {
      await operator.apply(policy({ rules: [rule(1)] }));
      await until(
        () => node.view().appliedRevision === 1,
        () => JSON.stringify(node.view()),
      );
      await until(
        async () => (await operator.overview()).nodes[0]?.appliedRevision === 1,
        () => JSON.stringify(node.view()),
      );
      assert.deepEqual(node.view().problems, []);
      assert.deepEqual(devices.has('eth0').rules, [1]);
    } finally {
      await node.stop();
      operatorStore.close();
    }
  });

  it('lets no node write a policy', async () => {
    const store = storeOf('node');
    assert.equal(
      await codeOf(new FleetOperator(store, '/vnic', 'n').apply(policy({ rules: [rule(2)] }))),
      'not_permitted',
    );
    store.close();
  });

  const wrong: [string, () => ReturnType<typeof storeOf>, string, RegExp][] = [
    ['no user', () => storeOf(null), 'not_permitted', /permission denied/],
    ['a certificate with a common name', () => storeOf('node', named), 'unauthorized', /CommonName of client/],
    [
      'a wrong password',
      () => {
        writeFileSync(path.join(folder, 'root'), 'wrong');
        return storeOf('root');
      },
      'unauthorized',
      /authentication failed/,
    ],
    [
      'no certificate of ours',
      () => storeOf('node', { ca: client.ca }),
      'fleet_unreachable',
      /certificate required|bad certificate|socket hang up|ECONNRESET/i,
    ],
    ['an authority that is not known', () => storeOf('node', null), 'fleet_unreachable', /certificate/],
  ];
  for (const [what, open, code, message] of wrong) {
    it(`is refused with ${what}: ${code}`, async () => {
      const store = open();
      await assert.rejects(store.read([{ prefix: '/vnic/' }]), { code, message });
      store.close();
    });
  }

  it('gets another token where the one it has is not known any more', async () => {
    const store = storeOf('node');
    await store.read([{ prefix: '/vnic/' }]);
    await cluster.members[0]!.kill();
    cluster.members[0]!.run();
    await until(
      () =>
        store.read([{ prefix: '/vnic/' }]).then(
          () => true,
          () => false,
        ),
      () => 'an answer with a new token',
    );
    store.close();
  });

  it('names a file that cannot be read', () => {
    assert.throws(() => storeOf('nobody'), {
      code: 'invalid_config',
      message: /nobody, which the section fleet names/,
    });
  });
});
