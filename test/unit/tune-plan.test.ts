// SPDX-License-Identifier: Apache-2.0
/** Tuning plans on machines of many shapes. */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { parseCpuList } from '../../src/loader/cpu-set.ts';
import { placeQueues, shareTxQueues } from '../../src/tune/placement.ts';
import { planTuning, type TuneSpec } from '../../src/tune/plan.ts';
import { thrownBy } from '../support/thrown.ts';
import { FakeMachine, type MachineShape } from '../support/tune-machines.ts';

const asked: TuneSpec = { numaNode: -1, numaAware: true, coalesceUsecs: 64, adaptive: true, attached: null };

const oneNode: MachineShape = { nodes: 1, cores: 4, threads: 1, deviceNode: 0, queues: 4, maxQueues: 32 };
const twoNodes: MachineShape = { nodes: 2, cores: 4, threads: 2, deviceNode: 1, queues: 8, maxQueues: 32 };

const shapes: fc.Arbitrary<MachineShape> = fc
  .record({
    nodes: fc.constantFrom(1, 2, 4),
    cores: fc.integer({ min: 1, max: 16 }),
    threads: fc.constantFrom(1 as const, 2 as const),
    siblingsLast: fc.boolean(),
    queues: fc.integer({ min: 1, max: 64 }),
    deviceNode: fc.integer({ min: -1, max: 3 }),
    offlineSeed: fc.array(fc.nat(127), { maxLength: 20 }),
    driver: fc.constantFrom('virtio_net' as const, 'ena' as const),
  })
  .map(({ offlineSeed, ...shape }) => {
    const cpus = shape.nodes * shape.cores * shape.threads;
    // CPU 0 stays.
    const offline = [...new Set(offlineSeed.map((seed) => seed % cpus))].filter((cpu) => cpu !== 0);
    return { ...shape, deviceNode: Math.min(shape.deviceNode, shape.nodes - 1), offline };
  });

describe('the CPUs of queues', () => {
  it('are one for each queue, online, shared evenly, local ones first, siblings of a core last', () => {
    fc.assert(
      fc.property(shapes, (shape) => {
        const machine = new FakeMachine(shape);
        const { cpus, node } = machine.facts();
        const placed = placeQueues(cpus, shape.queues, { numaNode: -1, numaAware: true, deviceNode: node });
        assert.equal(placed.length, shape.queues);
        const queuesOf = new Map(machine.online().map((cpu) => [cpu, 0]));
        for (const cpu of placed) queuesOf.set(cpu, queuesOf.get(cpu)! + 1);
        assert.deepEqual(
          [...queuesOf.keys()].sort((a, b) => a - b),
          machine.online(),
        );
        const counts = [...queuesOf.values()];
        assert.ok(Math.max(...counts) - Math.min(...counts) <= 1, `uneven: ${counts.join(' ')}`);
        const isLocal = (cpu: number) => machine.nodeOf(cpu) === shape.deviceNode;
        const idle = (cpu: number) => queuesOf.get(cpu) === 0;
        if (shape.deviceNode !== -1 && placed.some((cpu) => !isLocal(cpu))) {
          assert.ok(
            !machine.online().some((cpu) => isLocal(cpu) && idle(cpu)),
            'a remote CPU while a local one is idle',
          );
        }
        for (const cpu of machine.online().filter((one) => !idle(one))) {
          const used = machine.siblingsOf(cpu).filter((sibling) => queuesOf.has(sibling) && !idle(sibling));
          if (used.length < 2) continue;
          const freeCore = machine
            .online()
            .find(
              (other) =>
                (shape.deviceNode === -1 || isLocal(other) === isLocal(cpu)) &&
                machine.siblingsOf(other).every((one) => !queuesOf.has(one) || idle(one)),
            );
          assert.equal(freeCore, undefined, `cores shared while that of CPU ${freeCore} is idle`);
        }
      }),
    );
  });

  it('are dealt anew where queues outnumber them: 64 CPUs for 32 queues, and 32 for 64', () => {
    const wide = new FakeMachine({ nodes: 2, cores: 16, threads: 2, deviceNode: 1, queues: 32 });
    const wish = { numaNode: -1, numaAware: true, deviceNode: 1 };
    const local = placeQueues(wide.facts().cpus, 32, wish);
    assert.deepEqual(local, [
      ...Array.from({ length: 16 }, (_, at) => 16 + at),
      ...Array.from({ length: 16 }, (_, at) => 48 + at),
    ]);
    const narrow = new FakeMachine({ nodes: 2, cores: 16, threads: 1, deviceNode: 0, queues: 64 });
    const twice = placeQueues(narrow.facts().cpus, 64, { ...wish, deviceNode: 0 });
    assert.deepEqual(twice.slice(0, 32), twice.slice(32));
    assert.deepEqual(
      twice.slice(0, 32),
      Array.from({ length: 32 }, (_, cpu) => cpu),
    );
  });

  it('are only those of numa_node, and take no notice of nodes without enable_numa_aware', () => {
    const { cpus, node } = new FakeMachine(twoNodes).facts();
    assert.equal(node, 1);
    const wish = { numaNode: -1, numaAware: true, deviceNode: node };
    assert.deepEqual(placeQueues(cpus, 4, wish), [4, 5, 6, 7]);
    assert.deepEqual(placeQueues(cpus, 4, { ...wish, numaAware: false }), [0, 1, 2, 3]);
    assert.deepEqual(placeQueues(cpus, 6, { ...wish, numaNode: 0 }), [0, 1, 2, 3, 8, 9]);
    const refused = thrownBy(() => placeQueues(cpus, 6, { ...wish, numaNode: 7 }));
    assert.equal(refused.code, 'invalid_config');
    assert.match(refused.remedy ?? '', /0-1/);
  });

  it('send by some TX queue each: by the nearest where there is none of its own', () => {
    fc.assert(
      fc.property(shapes, (shape) => {
        const machine = new FakeMachine(shape);
        const { cpus } = machine.facts();
        const queueCpus = placeQueues(cpus, shape.queues, {
          numaNode: -1,
          numaAware: true,
          deviceNode: shape.deviceNode,
        });
        const shares = shareTxQueues(cpus, queueCpus);
        assert.equal(shares.length, shape.queues);
        assert.deepEqual(
          [...new Set(shares.flat())].sort((a, b) => a - b),
          machine.online(),
        );
        shares.forEach((share, queue) => {
          assert.equal(share[0], queueCpus[queue]);
        });
      }),
    );
  });
});

describe('a tuning plan', () => {
  const namesOf = <Setting extends { name: string }>(settings: readonly Setting[], pattern: RegExp): Setting[] =>
    settings.filter(({ name }) => pattern.test(name));

  it('brings interrupts to the CPUs of their queues, and leaves those that belong to none', () => {
    for (const driver of ['virtio_net', 'ena'] as const) {
      const machine = new FakeMachine({ ...oneNode, maxQueues: 4, driver });
      const { settings } = planTuning(machine.facts(), asked);
      const affinity = namesOf(settings, /^irq-/);
      assert.equal(affinity.length, driver === 'ena' ? 4 : 8);
      assert.ok(!affinity.some(({ name }) => name === 'irq-40/smp_affinity_list'), 'the configuration interrupt');
      for (const { to, from, why } of affinity) {
        assert.equal(from, '0-3');
        const queue = Number(/queue (\d+)/.exec(why)?.[1]);
        assert.equal(to, String(queue));
      }
    }
  });

  it('asks for nothing more once it is carried out', () => {
    fc.assert(
      fc.property(
        shapes,
        fc.boolean(),
        fc.option(fc.integer({ min: 1, max: 64 }), { nil: undefined }),
        (shape, adaptive, queues) => {
          const machine = new FakeMachine({ ...shape, maxQueues: 64 });
          const spec = { ...asked, adaptive, ...(queues === undefined ? {} : { queues }) };
          const plan = planTuning(machine.facts(), spec);
          for (const { name, to } of plan.settings) machine.write(name, to);
          assert.deepEqual(planTuning(machine.facts(), spec).settings, []);
        },
      ),
    );
  });

  it('sets channels before attaching and not after, and says so', () => {
    const machine = new FakeMachine({ ...oneNode, queues: 2 });
    const before = planTuning(machine.facts(), { ...asked, queues: 8 });
    assert.deepEqual(before.settings[0], {
      name: 'channels/combined',
      from: '2',
      to: '8',
      why: 'one queue for each CPU that serves them',
    });
    assert.equal(namesOf(before.settings, /^tx-7\/xps_cpus/).length, 1);
    const attached = { queueCpus: [0, 1], steersTx: true, redirect: 'cpumap' as const };
    const after = planTuning(machine.facts(), { ...asked, queues: 8, attached });
    assert.equal(namesOf(after.settings, /^channels/).length, 0);
    assert.match(after.notes.find(({ code }) => code === 'channels_attached')?.text ?? '', /2 channels, not 8/);
  });

  it('clears XPS and RPS where the dataplane chooses, and places interrupts by its queues', () => {
    const machine = new FakeMachine(oneNode);
    machine.values.set('rx-1/rps_cpus', '0-3');
    machine.values.set('rx-1/rps_flow_cnt', '4096');
    machine.values.set('tx-1/xps_rxqs', '1');
    const attached = { queueCpus: [3, 2, 1, 0], steersTx: true, redirect: 'cpumap' as const };
    const { settings } = planTuning(machine.facts(), { ...asked, attached });
    const to = new Map(settings.map((setting) => [setting.name as string, setting.to]));
    assert.deepEqual(
      [0, 1, 2, 3].map((queue) => to.get(`tx-${queue}/xps_cpus`)),
      ['', '', '', ''],
    );
    assert.deepEqual([to.get('rx-1/rps_cpus'), to.get('rx-1/rps_flow_cnt'), to.get('tx-1/xps_rxqs')], ['', '0', '']);
    assert.deepEqual(
      [41, 43, 45, 47].map((irq) => to.get(`irq-${irq}/smp_affinity_list`)),
      ['3', '2', '1', '0'],
    );
    const follow = planTuning(machine.facts(), { ...asked, attached: { ...attached, redirect: 'follow' } });
    assert.deepEqual(
      follow.settings.filter(({ name }) => name.includes('xps')),
      [],
      'attaching holds XPS',
    );
    const free = planTuning(machine.facts(), { ...asked, attached: { ...attached, steersTx: false } });
    assert.deepEqual(
      free.settings.filter(({ name }) => name.endsWith('xps_cpus')).map((setting) => setting.to),
      ['3', '2', '1', '0'],
    );
  });

  it('spreads an RSS table evenly, but not on virtio_net, where that would switch it on', () => {
    for (const [driver, expected] of [
      ['ena', '0,1,2,3,0,1,2,3'],
      ['virtio_net', undefined],
    ] as const) {
      const machine = new FakeMachine({ ...oneNode, driver });
      machine.values.set('rss/table', '0,0,0,0,1,1,1,1');
      const { settings } = planTuning(machine.facts(), asked);
      assert.equal(settings.find(({ name }) => name === 'rss/table')?.to, expected);
    }
  });

  it('sets a fixed delay by what the device has: its own, else that of NAPI; adaptive ones are the daemon’s', () => {
    const facts = new FakeMachine(oneNode).facts();
    const delays = (spec: Partial<TuneSpec>, more: Partial<typeof facts> = {}) =>
      planTuning({ ...facts, ...more }, { ...asked, ...spec })
        .settings.filter(({ name }) => /coalesce|gro|napi/.test(name))
        .map(({ name, to }) => [name, to]);
    assert.deepEqual(delays({ adaptive: true }), []);
    assert.deepEqual(delays({ adaptive: false }), [
      ['gro_flush_timeout', '64000'],
      ['napi_defer_hard_irqs', '2'],
    ]);
    assert.deepEqual(delays({ adaptive: false, coalesceUsecs: 0 }), []);
    const settings = new Map([...facts.settings, ['coalesce/rx-usecs', '3'], ['coalesce/adaptive-rx', 'on']] as [
      never,
      string,
    ][]);
    assert.deepEqual(delays({ adaptive: false }, { rxUsecs: true, settings }), [
      ['coalesce/adaptive-rx', 'off'],
      ['coalesce/rx-usecs', '64'],
    ]);
  });

  it('lets CPUs that packets are handed to poll before they halt, on a guest whose governor does that', () => {
    const haltpoll = { driver: 'haltpoll', governor: 'haltpoll' };
    const guest: MachineShape = { ...oneNode, idle: haltpoll, haltPollNs: 0 };
    const attached = { queueCpus: [0, 1, 2, 3], steersTx: true, redirect: 'cpumap' as const };
    const polling = (shape: MachineShape, more: Partial<TuneSpec> = {}, heldByOthers = false) =>
      planTuning(new FakeMachine(shape).facts(heldByOthers), { ...asked, attached, ...more }).settings.filter(
        ({ name }) => name === 'guest_halt_poll_ns',
      );
    const [planned] = polling(guest);
    assert.deepEqual([planned?.from, planned?.to], ['0', '200000']);
    assert.match(planned?.why ?? '', /polls up to 0\.2 ms before it sleeps, and is busy that long/);
    assert.equal(polling({ ...guest, haltPollNs: 199_999 }).length, 1);
    for (const [left, shape] of [
      ['the default', { ...guest, haltPollNs: 200_000 }],
      ['a higher value', { ...guest, haltPollNs: 400_000 }],
      ['another driver', { ...guest, idle: { ...haltpoll, driver: 'intel_idle' } }],
      ['another governor', { ...guest, idle: { ...haltpoll, governor: 'menu' } }],
      ['no cpuidle', { ...oneNode, haltPollNs: 0 }],
      ['no such file', { ...oneNode, idle: haltpoll }],
      ['one CPU', { ...guest, cores: 1 }],
    ] as const) {
      assert.deepEqual(polling(shape), [], left);
    }
    assert.deepEqual(polling(guest, { attached: null }), [], 'not attached');
    const [shared] = polling({ ...guest, haltPollNs: 200_000 }, {}, true);
    assert.deepEqual([shared?.from, shared?.to], ['200000', '200000']);
    assert.match(shared?.why ?? '', /another device has set it/);
    assert.deepEqual(polling({ ...guest, haltPollNs: 400_000 }, {}, true), []);
  });

  it('leaves interrupts to irqbalance where it runs, and tells', () => {
    const plan = planTuning(new FakeMachine({ ...oneNode, irqbalance: true }).facts(), asked);
    assert.deepEqual(namesOf(plan.settings, /^irq-/), []);
    assert.match(plan.notes.find(({ code }) => code === 'irqbalance')?.text ?? '', /process 811.*systemctl/);
  });

  it('keeps to CPUs that are online', () => {
    const machine = new FakeMachine({ ...twoNodes, offline: [4, 5, 12] });
    const { settings, queueCpus } = planTuning(machine.facts(), asked);
    // 13 is alone in its core.
    assert.deepEqual(queueCpus.slice(0, 8), [6, 7, 13, 14, 15, 0, 1, 2]);
    for (const { name, to } of settings) {
      if (!/cpus|affinity/.test(name)) continue;
      for (const cpu of parseCpuList(to)) assert.ok(machine.online().includes(cpu), `${name} ${to}`);
    }
  });

  it('tells when the device does not say where it is', () => {
    const { notes } = planTuning(new FakeMachine({ ...twoNodes, deviceNode: -1 }).facts(), asked);
    assert.ok(notes.some(({ code }) => code === 'node_unknown'));
  });
});
