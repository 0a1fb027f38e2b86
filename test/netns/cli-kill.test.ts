// SPDX-License-Identifier: Apache-2.0
/** vnicctl killed at any moment, and two of them at once. */
import assert from 'node:assert/strict';
import { existsSync, rmSync } from 'node:fs';
import { performAttach, planAttach } from '../../src/app/attach.ts';
import { Controller } from '../../src/app/controller.ts';
import { DeviceModel } from '../../src/app/device-model.ts';
import { deviceShape, onlineCpus } from '../../src/app/machine.ts';
import { RECORD_VERSION, type RecordDraft } from '../../src/app/record.ts';
import { formatDevice, parseDevice } from '../../src/config/device.ts';
import { loadNative } from '../../src/loader/ffi/index.ts';
import { inNetns } from '../../src/loader/netns.ts';
import { CliRig } from '../support/cli.ts';

const KILLS = 30;

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** What attaching vnic0 of the rig takes, to be performed step by step. */
function attachByHand(rig: CliRig, egress: 'tcx' | 'clsact') {
  const native = loadNative();
  native.setPrint(null);
  const device = { name: 'vnic0', netns: rig.guest };
  const controller = new Controller({ native, stateFolder: rig.stateFolder });
  const config = parseDevice('vnic0', { num_queues: 32, rules: [{ id: 1, action: 'drop' }] });
  const model = DeviceModel.plan(config, 32, onlineCpus());
  const record: RecordDraft = {
    version: RECORD_VERSION,
    device,
    mac: '',
    settings: {
      mode: 'native',
      egress,
      queues: 32,
      queueCpus: model.topology.queues.map(({ cpu }) => cpu),
      maxFlows: 1024,
      maxRules: 16,
      hashSeed: 1,
      deliverMetadata: false,
      cpuQueueSize: 64,
    },
    spec: formatDevice(config),
    failedAzs: [],
    ruleGeneration: 0,
    rulesRevision: 1,
    changeId: 0,
    configSha256: null,
    objectSha256: '',
    clsactMade: false,
  };
  const { ifindex } = inNetns(native, rig.guest, () => deviceShape('vnic0'));
  const input = { record, model, ifindex };
  const actions = planAttach(input, controller.pins(device).path);
  return { native, controller, input, actions, device };
}

describe('a killed vnicctl', function () {
  this.timeout(600_000);
  let rig: CliRig;

  before(() => {
    rig = new CliRig('kill');
  });
  afterEach(() => {
    rig.run(['detach', 'vnic0', '--force']);
  });
  after(() => rig[Symbol.dispose]());

  /** Steering with all that belongs to it, or nothing at all. Which of both. */
  function expectWholeOrNothing(moment: string): 'whole' | 'nothing' {
    const status = rig.run(['-o', 'json', 'status', 'vnic0']);
    if (status.code === 4) {
      assert.deepEqual(rig.traces(), [], moment);
      return 'nothing';
    }
    assert.equal(status.code, 0, `${moment}: ${status.stderr}`);
    const { activeTable, drift } = JSON.parse(status.stdout) as { activeTable: number | null; drift: unknown[] };
    assert.notEqual(activeTable, null, moment);
    assert.deepEqual(drift, [], moment);
    assert.ok('xdp' in rig.link(), moment);
    const { queue } = rig.json<{ queue: number | null }>(
      'explain vnic0 --src 10.9.0.2:1 --dst 10.9.0.1:2 --proto udp'.split(' '),
    );
    assert.notEqual(queue, null, moment);
    rig.ok(['detach', 'vnic0']);
    return 'whole';
  }

  it(`during attach leaves a working dataplane or none, ${KILLS} times`, async () => {
    const started = performance.now();
    rig.ok(['attach', 'vnic0']);
    const attachMs = performance.now() - started;
    rig.ok(['detach', 'vnic0']);
    const outcomes = { whole: 0, nothing: 0 };
    for (let kill = 0; kill < KILLS; kill++) {
      // A third over the whole time, the others over its end, where the device is touched.
      const from = kill % 3 === 0 ? 0 : 0.6;
      const delayMs = attachMs * (from + (1.1 - from) * Math.random());
      const { child, done } = rig.start(['attach', 'vnic0', '--egress', kill % 2 === 0 ? 'tcx' : 'clsact']);
      await sleep(delayMs);
      child.kill('SIGKILL');
      await done;
      outcomes[expectWholeOrNothing(`kill ${kill} after ${delayMs.toFixed(0)} of ${attachMs.toFixed(0)} ms`)]++;
      if (kill % 10 === 9) {
        rig.ok(['attach', 'vnic0']);
        rig.ok(['detach', 'vnic0']);
      }
    }
    assert.ok(outcomes.nothing > 0, `no kill came before the end: ${JSON.stringify(outcomes)}`);
  });

  it('during detach leaves a working dataplane or none', async () => {
    for (let kill = 0; kill < 6; kill++) {
      rig.ok(['attach', 'vnic0', '--egress', kill % 2 === 0 ? 'tcx' : 'clsact']);
      const { child, done } = rig.start(['detach', 'vnic0']);
      await sleep(50 + 80 * kill);
      child.kill('SIGKILL');
      await done;
      expectWholeOrNothing(`kill ${kill}`);
    }
  });

  it('during a rule change leaves the old set or the new one', async () => {
    rig.ok(['attach', 'vnic0']);
    rig.ok(['rule', 'import', '-'], { stdin: '[{"id":1,"action":"drop"}]' });
    for (let kill = 0; kill < 8; kill++) {
      const id = kill + 2;
      const { child, done } = rig.start(['rule', 'add', '--id', String(id), '--src', `10.0.0.${id}`]);
      await sleep(100 + 60 * kill);
      child.kill('SIGKILL');
      await done;
      const before = rig.json<{ id: number }[]>(['rule', 'list']).length;
      rig.ok(['rule', 'import', '-'], { stdin: '[{"id":1,"action":"drop"}]' });
      assert.ok(before === 1 || before === 2, `${before} rules`);
      assert.deepEqual(rig.json<{ drift: unknown[] }>(['status', 'vnic0']).drift, []);
    }
  });

  for (const egress of ['tcx', 'clsact'] as const) {
    it(`between any two steps of an attach (${egress}), the next command clears away all of it`, () => {
      const { native, controller, input, actions, device } = attachByHand(rig, egress);
      const { record, model, ifindex } = input;
      const pins = controller.pins(device);
      const firstPin = actions.findIndex(({ kind }) => kind === 'pin');
      for (let steps = firstPin + 1; steps < actions.length; steps++) {
        performAttach({ record, model, ifindex }, actions.slice(0, steps), {
          native,
          pins,
          records: controller.records,
        }).close();
        const moment = `killed after: ${actions[steps - 1]?.kind}`;
        assert.equal(pins.exists(), true, moment);
        controller.locked(() => {
          assert.deepEqual(
            controller.devices().filter(({ netns }) => netns === rig.guest),
            [],
            moment,
          );
        });
        assert.deepEqual(rig.traces(), [], moment);
        assert.equal(existsSync(`${rig.recordFile}.staged`), false, moment);
        assert.equal(existsSync(rig.recordFile), false, moment);
      }
      // The last rename alone was missed: the dataplane works, so it is kept and its record with it.
      performAttach({ record, model, ifindex }, actions, { native, pins, records: controller.records }).close();
      controller.records.stage(record);
      rmSync(rig.recordFile);
      rig.ok(['status', 'vnic0']);
      assert.equal(existsSync(rig.recordFile), true);
    });
  }
});

describe('an attach with clsact', function () {
  this.timeout(120_000);

  it('has recorded that the qdisc is its own before it makes it', () => {
    using rig = new CliRig('made');
    const { native, controller, input, actions, device } = attachByHand(rig, 'clsact');
    const seen: (boolean | undefined)[] = [];
    const libbpf = {
      ...native.libbpf,
      bpf_tc_hook_create(...args: Parameters<typeof native.libbpf.bpf_tc_hook_create>) {
        seen.push(controller.records.readStaged(device)?.clsactMade);
        return native.libbpf.bpf_tc_hook_create(...args);
      },
    };
    const watched = Object.create(native, { libbpf: { value: libbpf } }) as typeof native;
    const ports = { native: watched, pins: controller.pins(device), records: controller.records };
    performAttach(input, actions, ports).close();
    assert.deepEqual(seen, [true]);
    rig.ok(['detach', 'vnic0']);
    assert.deepEqual(rig.traces(), []);
  });
});

describe('several vnicctl at once', function () {
  // Each test runs vnicctl many times, perhaps on a busy machine.
  this.timeout(300_000);
  let rig: CliRig;
  before(() => {
    rig = new CliRig('many');
  });
  after(() => {
    rig?.run(['detach', 'vnic0']);
    rig?.[Symbol.dispose]();
  });

  it('take turns: of two attaches one wins, and no rule is lost', async () => {
    const attaches = await Promise.all([1, 2].map(() => rig.start(['attach', 'vnic0']).done));
    assert.deepEqual(new Set(attaches.map(({ code }) => code)), new Set([0, 6]), JSON.stringify(attaches));
    const ids = [1, 2, 3, 4, 5, 6];
    const adds = await Promise.all(ids.map((id) => rig.start(['rule', 'add', '--id', String(id)]).done));
    assert.deepEqual(
      adds.map(({ code }) => code),
      ids.map(() => 0),
      JSON.stringify(adds),
    );
    const rules = rig.json<{ id: number }[]>(['rule', 'list']).map(({ id }) => id);
    assert.deepEqual(new Set(rules), new Set(ids));
    assert.deepEqual(rig.json<{ drift: unknown[] }>(['status', 'vnic0']).drift, []);
  });
});
