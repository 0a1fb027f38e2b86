// SPDX-License-Identifier: Apache-2.0
/** Changes of AZs that were recorded, and cut off before the switch: who comes next finishes them. */
import assert from 'node:assert/strict';
import type { AttachedDevice } from '../../src/app/attached-device.ts';
import { Controller } from '../../src/app/controller.ts';
import { TableStore } from '../../src/app/table-store.ts';
import { parseDevice } from '../../src/config/device.ts';
import { loadNative } from '../../src/loader/ffi/index.ts';
import { queuesOf } from '../../src/steering/table.ts';
import { CliRig } from '../support/cli.ts';

const native = loadNative();
native.setPrint(null);

const { azs, ...config } = parseDevice('vnic0', {
  num_queues: 32,
  azs: [
    { name: 'az-a', queues: '0-9', prefixes: ['10.1.0.0/16'] },
    { name: 'az-b', queues: '10-19', prefixes: ['10.2.0.0/16'] },
    { name: 'az-c', queues: '20-29', prefixes: ['10.3.0.0/16'] },
  ],
});

/** In the place of a kill. */
class Killed extends Error {}

describe('a change of AZs that is cut off before its switch', function () {
  this.timeout(60_000);
  let rig: CliRig;
  let controller: Controller;

  const device = () => ({ name: 'vnic0', netns: rig.guest });
  const inDevice = <T>(action: (attached: AttachedDevice) => T): T => controller.withDevice(device(), action);

  before(() => {
    rig = new CliRig('interrupted');
  });
  beforeEach(() => {
    controller = new Controller({ native, stateFolder: rig.stateFolder });
    controller.attach(device(), { config: { ...config, azs }, mode: 'native', maxFlows: 1024, maxRules: 16 });
  });
  afterEach(() => {
    controller.detach(device(), true);
    controller.close();
  });
  after(() => rig?.[Symbol.dispose]());

  /** @param meanwhile what happens while nobody looks after the device */
  function cutOff(
    change: (attached: AttachedDevice) => void,
    meanwhile: (tables: TableStore) => void = () => {},
  ): void {
    inDevice((attached) => {
      const { tables } = attached;
      tables.activate = () => {
        throw new Killed();
      };
      assert.throws(() => change(attached), Killed);
      meanwhile(new TableStore(attached.dataplane));
    });
    controller.close();
    controller = new Controller({ native, stateFolder: rig.stateFolder });
  }

  /** As the daemon does when it starts. Gives the AZs that are out of use. */
  function goOn(): string[] {
    return inDevice((attached) => {
      assert.equal(attached.finishInterrupted().length, 1);
      attached.steering.adoptLosses();
      assert.deepEqual(attached.drift(), []);
      assert.deepEqual(attached.finishInterrupted(), []);
      const failed = attached.azs().filter(({ state }) => state === 'failed');
      const lost = new Set(failed.flatMap(({ queues }) => queues));
      const left = Array.from({ length: 32 }, (_, queue) => queue).filter((queue) => !lost.has(queue));
      assert.deepEqual(queuesOf(attached.steering.usableQueues()), left);
      return failed.map(({ name }) => name);
    });
  }

  it('is finished when it gives an AZ other queues', () => {
    cutOff((attached) => attached.spec.setAz({ ...azs[0]!, queues: azs[0]!.queues.slice(1) }));
    assert.deepEqual(goOn(), []);
  });

  it('is finished when it takes an AZ into use again', () => {
    inDevice((attached) => attached.failAz('az-a'));
    cutOff((attached) => attached.recoverAz('az-a'));
    assert.deepEqual(goOn(), []);
  });

  it('is finished when it gives the AZs other rows', () => {
    inDevice((attached) => attached.failAz('az-b'));
    cutOff((attached) => attached.spec.replaceAzs(azs.slice(1)));
    assert.deepEqual(goOn(), ['az-b']);
  });

  it('goes without an AZ that the kernel lost meanwhile', () => {
    inDevice((attached) => attached.failAz('az-a'));
    cutOff(
      (attached) => attached.recoverAz('az-a'),
      (tables) => {
        const lostAzs = 0b101;
        tables.activate(tables.standbyFor(lostAzs)!, { lostAzs });
      },
    );
    assert.deepEqual(goOn(), ['az-c']);
  });
});
