// SPDX-License-Identifier: Apache-2.0
/** A kernel that was tampered with behind the daemon's back, and devices that go and come back. */
import assert from 'node:assert/strict';
import { existsSync, readdirSync, rmSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Controller } from '../../src/app/controller.ts';
import type { Dataplane } from '../../src/app/dataplane.ts';
import type { Drift } from '../../src/app/drift.ts';
import { Keeper } from '../../src/app/keeper.ts';
import { RuleStore } from '../../src/app/rule-store.ts';
import { TableStore } from '../../src/app/table-store.ts';
import { FileLock } from '../../src/loader/lock.ts';
import { VnicControl, VnicLimits } from '../../src/maps/generated/abi.ts';
import { ip, macOf, SurvivalRig, until } from '../support/survival.ts';

interface MendResult {
  performed: boolean;
  drift: Drift[];
  actions: string[];
}

const azs = [
  { name: 'az-a', queues: '0-9', prefixes: ['10.9.0.0/16'] },
  { name: 'az-b', queues: '10-19' },
];
const rules = [
  { id: 1, action: 'drop', match: { src: '10.0.0.1' } },
  { id: 2, action: 'drop', match: { src: '10.0.0.2' } },
];
const second = { name: 'vnic1', peer: 'peer1', mac: '19:01' };
const MAC = '09:01';

/** Some looks of the daemon, which come once a second. */
const LOOKS_MS = 2500;

describe('a kernel tampered with', function () {
  this.timeout(600_000);
  let rig: SurvivalRig;

  before(async () => {
    rig = await SurvivalRig.start('drift');
    await rig.attach({ azs, rules });
    await rig.send('POST', rig.url('/azs/az-b/fail'));
  });
  after(async () => {
    await rig?.[Symbol.asyncDispose]();
  });

  const mend = async (dryRun: boolean): Promise<MendResult> =>
    await rig.ask<MendResult>('POST', rig.url(`/apply${dryRun ? '?dryRun=true' : ''}`));

  const cases: { title: string; what: Drift['what'][]; tamper: (dataplane: Dataplane) => void }[] = [
    {
      title: 'another steering table made active',
      what: ['steering table'],
      tamper: (dataplane) => {
        const tables = new TableStore(dataplane);
        const { rows } = tables.read(tables.active() ?? 0);
        tables.commit({ rows, usableQueues: 0b111n });
      },
    },
    {
      title: 'a CPUMAP entry deleted',
      what: ['CPUMAP'],
      tamper: ({ cpus }) => assert.equal(cpus.delete(0), true),
    },
    {
      title: 'the rule generation set back',
      what: ['rule generation'],
      tamper: (dataplane) => {
        const { ruleGeneration } = dataplane.control.read(0);
        // By two: the same set stays live.
        dataplane.control.storeU32(0, VnicControl.offsets.ruleGeneration, ruleGeneration - 2);
      },
    },
    {
      title: 'a rule wiped out of the live set',
      what: ['rules'],
      tamper: (dataplane) => {
        const store = new RuleStore(dataplane);
        const at = (store.generation() % VnicLimits.ruleSets) * dataplane.maxRules + store.slots().get(2)!;
        dataplane.ruleActions.span(at, 1).fill(0);
      },
    },
    {
      title: 'the egress link unpinned',
      what: ['egress link'],
      tamper: () => rmSync(path.join(rig.rig.pinFolder, 'link_egress')),
    },
  ];

  for (const { title, what, tamper } of cases) {
    it(`is noticed, told once and mended: ${title}`, async () => {
      // Two changes: both sets have been live, and the daemon knows what it loaded.
      for (const id of [8, 9]) assert.ok((await rig.putRule(id, { action: 'drop', priority: id })).status < 300);
      const [found, mended] = ['drift.found', 'drift.mended'].map((type) => rig.events(type).length) as [
        number,
        number,
      ];
      {
        using dataplane = rig.dataplane();
        tamper(dataplane);
      }
      const named = (drift: readonly Drift[]): string[] => drift.map((entry) => entry.what);
      assert.deepEqual(named((await rig.status()).drift), what);
      await rig.event('drift.found', found + 1);

      const planned = await mend(true);
      assert.equal(planned.performed, false);
      assert.deepEqual(named(planned.drift), what);
      assert.ok(planned.actions.length > 0);
      assert.deepEqual(named((await rig.status()).drift), what, 'a dry run changed something');
      await sleep(LOOKS_MS);
      assert.equal(rig.events('drift.found').length, found + 1, 'told again');

      const done = await mend(false);
      assert.equal(done.performed, true);
      assert.deepEqual(done.actions, planned.actions);
      await rig.event('drift.mended', mended + 1);
      const status = await rig.status();
      assert.deepEqual(status.drift, []);
      assert.equal(status.azs[1]?.state, 'failed');
      assert.deepEqual(await rig.ruleIds(), [1, 2, 8, 9]);
      assert.equal((await rig.explain('10.0.0.2')).verdict, 'drop');
      for (const id of [8, 9]) assert.ok((await rig.send('DELETE', rig.url(`/rules/${id}`))).status < 300);
      await rig.expectSteered();
      assert.equal(rig.events('drift.found').length, found + 1);
      assert.deepEqual((await mend(false)).actions, [], 'nothing is left to mend');
    });
  }

  it('steers again after steering was switched off', async () => {
    {
      using dataplane = rig.dataplane();
      new TableStore(dataplane).deactivate();
    }
    // Any vnicctl takes pins without an active table for those of an attach that was killed: then the device returns.
    await until('the device is steered', async () => {
      const reply = await rig.send('POST', rig.url('/apply'));
      return reply.status < 300 && (await rig.status()).activeTable !== null;
    });
    assert.deepEqual((await rig.status()).drift, []);
    assert.equal((await rig.status()).azs[1]?.state, 'failed');
    assert.deepEqual(await rig.ruleIds(), [1, 2]);
    await rig.expectSteered();
  });
});

describe('devices that go and come back', function () {
  this.timeout(600_000);
  let rig: SurvivalRig;

  beforeEach(async () => {
    rig = await SurvivalRig.start('return');
    await rig.attach({ azs, rules });
    await rig.send('POST', rig.url('/azs/az-b/fail'));
  });
  afterEach(async () => {
    await rig?.[Symbol.asyncDispose]();
  });

  /** Attached with all that was asked of vnic0, under this name. */
  async function expectWhole(name: string): Promise<void> {
    const status = await rig.status(name);
    assert.deepEqual(status.drift, []);
    assert.deepEqual(
      status.azs.map((az) => [az.name, az.state]),
      [
        ['az-a', 'up'],
        ['az-b', 'failed'],
      ],
    );
    assert.deepEqual(await rig.ruleIds(name), [1, 2]);
    assert.equal((await rig.explain('10.0.0.2', name)).rule, 2);
    const { rule, az, queue } = await rig.explain('10.9.0.2', name);
    assert.deepEqual([rule, az], [null, 'az-a']);
    assert.ok(queue !== null && queue < 10, `queue ${queue}`);
  }

  it('is told, and the device is attached again with all that belongs to it', async () => {
    rig.rig.removeDevice();
    await rig.event('device.gone');
    await until('the list says so', async () => (await rig.summary())?.state === 'gone');
    const gone = await rig.send('GET', rig.url());
    assert.equal(gone.status, 404, gone.text);
    rig.rig.addDevice();
    await rig.event('device.returned');
    assert.equal((await rig.summary())?.state, 'attached');
    await expectWhole('vnic0');
    await rig.expectSteered();
    // And once more: what the first time left is not in the way.
    rig.rig.removeDevice();
    await rig.event('device.gone', 2);
    rig.rig.addDevice();
    await rig.event('device.returned', 2);
    await expectWhole('vnic0');
    assert.equal((await rig.putRule(3)).status, 201);
    assert.deepEqual(rig.events('device.failed'), []);
  });

  it('under another name with the same address: attached under that, the old record is gone', async () => {
    rig.rig.removeDevice();
    await rig.event('device.gone');
    rig.addVeth({ name: 'vnic9', peer: 'peer0', mac: MAC });
    const event = await rig.event('device.returned', 1, rig.text('vnic9'));
    assert.deepEqual([event['mac'], event['earlierName']], [macOf({ mac: MAC }), 'vnic0']);
    await expectWhole('vnic9');
    assert.equal(await rig.summary(), undefined);
    const records = readdirSync(path.join(rig.daemon.stateFolder, 'devices'));
    assert.deepEqual(
      records.filter((name) => name.startsWith('vnic0')),
      [],
    );
    assert.equal(existsSync(rig.pins().path), false);
  });

  it('two devices that swapped their names keep what was asked of each', async () => {
    rig.addVeth(second);
    await rig.attach({ rules: [{ id: 77, action: 'drop' }] }, 'vnic1');
    rig.rig.removeDevice();
    rig.removeVeth('vnic1');
    await rig.event('device.gone');
    await rig.event('device.gone', 1, rig.text('vnic1'));
    // Both at once: the daemon is not to see one of them alone.
    rig.daemon.signal('SIGSTOP');
    rig.addVeth({ name: 'vnic1', peer: 'peer0', mac: MAC });
    rig.addVeth({ ...second, name: 'vnic0' });
    rig.daemon.signal('SIGCONT');
    await rig.event('device.returned', 1, rig.text('vnic1'));
    await rig.event('device.returned');
    await expectWhole('vnic1');
    assert.deepEqual(await rig.ruleIds('vnic0'), [77]);
    assert.deepEqual((await rig.status('vnic0')).drift, []);
    // The daemon of tomorrow sees it the same way.
    await rig.daemon.kill();
    await rig.daemon.run();
    await expectWhole('vnic1');
    assert.deepEqual(await rig.ruleIds('vnic0'), [77]);
  });

  it('two devices that swapped their names keep what was asked of each, also when one of them cannot be attached', async () => {
    rig.addVeth(second);
    await rig.attach({ num_queues: 32, rules: [{ id: 77, action: 'drop' }] }, 'vnic1');
    rig.rig.removeDevice();
    rig.removeVeth('vnic1');
    await rig.event('device.gone');
    await rig.event('device.gone', 1, rig.text('vnic1'));
    rig.daemon.signal('SIGSTOP');
    rig.addVeth({ name: 'vnic1', peer: 'peer0', mac: MAC });
    rig.addVeth({ ...second, name: 'vnic0', queues: 4 });
    rig.daemon.signal('SIGCONT');
    await rig.event('device.returned', 1, rig.text('vnic1'));
    await rig.event('device.failed');
    await expectWhole('vnic1');
    rig.removeVeth('vnic0');
    rig.addVeth({ ...second, name: 'vnic0' });
    await rig.event('device.returned');
    assert.deepEqual(await rig.ruleIds('vnic0'), [77]);
    await expectWhole('vnic1');
  });

  it('renamed while it is attached: said so, and mended by attaching it under its new name', async () => {
    const { guest } = rig.rig;
    ip(`-n ${guest} link set vnic0 down`);
    ip(`-n ${guest} link set vnic0 name vnic9`);
    ip(`-n ${guest} link set vnic9 up`);
    await rig.event('drift.found');
    assert.deepEqual(
      (await rig.status()).drift.map(({ what, kernel }) => [what, kernel]),
      [['device name', 'vnic9']],
    );
    await rig.ask('POST', rig.url('/apply'));
    await expectWhole('vnic9');
    assert.equal(await rig.summary(), undefined);
  });

  it('with their namespace, which is made again', async () => {
    const { guest } = rig.rig;
    ip(`netns del ${guest}`);
    await rig.event('device.gone');
    assert.equal((await rig.summary())?.state, 'gone');
    ip(`netns add ${guest}`);
    rig.rig.addDevice();
    await rig.event('device.returned');
    await expectWhole('vnic0');
    await rig.expectSteered();
  });

  it('after a reboot, which leaves no pins: attached from the record', async () => {
    assert.equal((await rig.putRule(5)).status, 201);
    assert.ok((await rig.send('DELETE', rig.url('/rules/5'))).status < 300);
    assert.equal(await rig.daemon.stop(), 0);
    rig.pins().remove();
    await until('the link is gone', () => !('xdp' in rig.rig.link()));
    await rig.daemon.run();
    await rig.event('device.returned');
    await expectWhole('vnic0');
    await rig.expectSteered();
  });

  it('while no daemon runs: what came back is attached at the start, what did not is listed as gone', async () => {
    rig.addVeth(second);
    await rig.attach({ rules: [{ id: 77, action: 'drop' }] }, 'vnic1');
    await rig.daemon.kill();
    rig.rig.removeDevice();
    rig.removeVeth('vnic1');
    rig.addVeth(second);
    await rig.daemon.run();
    await rig.event('device.returned', 1, rig.text('vnic1'));
    assert.deepEqual(await rig.ruleIds('vnic1'), [77]);
    assert.equal((await rig.summary())?.state, 'gone');
    rig.rig.addDevice();
    await rig.event('device.returned');
    await expectWhole('vnic0');
  });
});

describe('a look at the devices while another vnicctl is at work', function () {
  this.timeout(60_000);

  it('is put off, told as trouble when that goes on, does not end the daemon, and is made up for later', async () => {
    await using rig = await SurvivalRig.start('locked');
    await rig.attach({ rules });
    await rig.daemon.stop();
    const runFolder = path.join(rig.daemon.folder, 'run');
    const events: { type: string; device: string | null; data: Record<string, unknown> }[] = [];
    const { native } = rig;
    const { stateFolder } = rig.daemon;
    const controller = new Controller({ native, stateFolder, runFolder, lockTimeoutMs: 30, keepOpen: true });
    const keeper = new Keeper(controller, (event) => events.push(event));
    try {
      {
        using _lock = FileLock.acquire(native, path.join(runFolder, 'vnicctl.lock'), 1000);
        keeper.start(null);
        const waitsMs = Array.from({ length: 12 }, () => {
          const start = performance.now();
          keeper.look();
          return performance.now() - start;
        });
        // The eleventh waits for the lock.
        assert.equal(waitsMs.indexOf(Math.max(...waitsMs)), 10, waitsMs.join(' '));
      }
      assert.deepEqual(
        events.map(({ type, device, data }) => [type, device, data['code']]),
        [['device.failed', null, 'conflict']],
      );
      keeper.look();
      assert.deepEqual(
        events.slice(1).map(({ type, device }) => [type, device]),
        [['device.adopted', rig.text()]],
      );
    } finally {
      controller.close();
    }
  });
});
