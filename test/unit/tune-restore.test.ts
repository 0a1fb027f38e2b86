// SPDX-License-Identifier: Apache-2.0
/** Settings that are set and put back, with failures and deaths at every step. */
import assert from 'node:assert/strict';
import { VnicError } from '../../src/errors.ts';
import { isMachineSetting, type SettingName } from '../../src/loader/settings/setting.ts';
import { holdSettings, restoreSettings, type TunePorts } from '../../src/tune/interpreter.ts';
import { foreignSettings, type Journal } from '../../src/tune/journal.ts';
import { planTuning, type TuneSpec } from '../../src/tune/plan.ts';
import { thrownBy } from '../support/thrown.ts';
import { FakeMachine, type MachineShape } from '../support/tune-machines.ts';

const shape: MachineShape = { nodes: 2, cores: 4, threads: 2, deviceNode: 1, queues: 4, maxQueues: 32 };
const spec: TuneSpec = { queues: 8, numaNode: -1, numaAware: true, coalesceUsecs: 64, adaptive: false, attached: null };
const empty: Journal = {
  device: { name: 'eth0', netns: null },
  bootId: 'boot',
  ifindex: 7,
  settings: [],
  unsettled: [],
  ending: [],
};

/** The process ends here: nothing after it runs, not even what would undo. */
class Death extends Error {}

/** A machine, and its journal on a disk that outlives processes. */
class Bench {
  readonly machine: FakeMachine;
  journal = empty;
  /** Steps, writes and journals alike, until the process dies; null: it lives. */
  stepsLeft: number | null = null;
  /** Another device of the machine. */
  sibling: Bench | null = null;
  #isDead = false;

  constructor(machine = new FakeMachine(shape)) {
    this.machine = machine;
    machine.beforeWrite = () => this.#step();
  }

  /** Two devices of one machine. */
  static pair(machine: FakeMachine): [Bench, Bench] {
    const benches = [new Bench(machine), new Bench(machine)] as const;
    const [first, second] = benches;
    first.sibling = second;
    second.sibling = first;
    machine.beforeWrite = () => {
      for (const bench of benches) bench.#step();
    };
    return [first, second];
  }

  #step(): void {
    if (this.#isDead) throw new Death();
    if (this.stepsLeft === null) return;
    if (this.stepsLeft === 0) {
      this.#isDead = true;
      throw new Death();
    }
    this.stepsLeft--;
  }

  get ports(): TunePorts {
    return {
      settings: this.machine,
      other: (name) =>
        (isMachineSetting(name) && this.sibling?.journal.settings.find((held) => held.name === name)) || null,
      journal: {
        write: (journal) => {
          this.#step();
          this.journal = JSON.parse(JSON.stringify(journal)) as Journal;
        },
      },
    };
  }

  /** Whether the process died in it. */
  inProcess(action: () => void, stepsLeft: number | null = null): boolean {
    this.stepsLeft = stepsLeft;
    this.#isDead = false;
    try {
      action();
    } catch (error) {
      if (!this.#isDead) throw error;
    }
    const died = this.#isDead;
    this.stepsLeft = null;
    this.#isDead = false;
    return died;
  }

  apply(): void {
    const wanted = planTuning(this.machine.facts(), spec).settings;
    this.journal = holdSettings(this.ports, this.journal, 'tune', wanted);
  }

  restore(force = false) {
    const result = restoreSettings(this.ports, this.journal, ['tune'], force);
    this.journal = result.journal;
    return result;
  }

  readings(): Record<string, string> {
    return Object.fromEntries([...this.machine.values].sort(([a], [b]) => a.localeCompare(b)));
  }
}

describe('settings that were tuned', () => {
  it('are put back, every one of them', () => {
    const bench = new Bench();
    bench.machine.write('tx-2/xps_cpus', '0-3');
    const before = bench.readings();
    bench.apply();
    assert.notDeepEqual(bench.readings(), before);
    assert.equal(bench.readings()['channels/combined'], '8');
    const { restored, foreign, failed } = bench.restore();
    assert.ok(restored.length > 10);
    assert.deepEqual([foreign, failed, bench.journal.settings], [[], [], []]);
    assert.deepEqual(bench.readings(), before);
  });

  it('are put back after a death at any step of setting them', () => {
    for (let step = 0; ; step++) {
      const bench = new Bench();
      const before = bench.readings();
      const died = bench.inProcess(() => bench.apply(), step);
      const { foreign } = bench.restore();
      assert.deepEqual(foreign, [], `step ${step}`);
      assert.deepEqual(bench.readings(), before, `step ${step}`);
      assert.deepEqual(bench.journal.settings, [], `step ${step}`);
      if (died) continue;
      assert.ok(step > 20, `${step} steps`);
      return;
    }
  });

  it('are put back after a death at any step of putting them back, and another one in that', () => {
    for (let step = 0; ; step++) {
      const bench = new Bench();
      const before = bench.readings();
      bench.apply();
      const died = bench.inProcess(() => bench.restore(), step);
      bench.inProcess(() => bench.restore(), 3);
      assert.deepEqual(bench.restore().foreign, [], `step ${step}`);
      assert.deepEqual(bench.readings(), before, `step ${step}`);
      if (!died) return;
    }
  });

  it('may be tuned again: what was there first comes back', () => {
    const bench = new Bench();
    const before = bench.readings();
    for (const steps of [5, 12, null]) bench.inProcess(() => bench.apply(), steps);
    bench.restore();
    assert.deepEqual(bench.readings(), before);
  });

  it('that somebody else has changed meanwhile are told and left, with force put back', () => {
    for (const force of [false, true]) {
      const bench = new Bench();
      const before = bench.readings();
      bench.apply();
      bench.machine.write('gro_flush_timeout', '5000');
      const expected = { name: 'gro_flush_timeout', expected: '64000', now: '5000', before: '0' };
      assert.deepEqual(
        foreignSettings(bench.journal, (name) => bench.machine.read(name)),
        [expected],
      );
      const { foreign } = bench.restore(force);
      assert.deepEqual(foreign, force ? [] : [expected]);
      assert.deepEqual(bench.readings(), force ? before : { ...before, gro_flush_timeout: '5000' });
    }
  });

  it('that somebody else has put back already need nothing', () => {
    const bench = new Bench();
    const before = bench.readings();
    bench.apply();
    bench.machine.write('gro_flush_timeout', '0');
    assert.deepEqual(bench.restore().foreign, []);
    assert.deepEqual(bench.readings(), before);
  });

  it('are undone in reverse when one is refused, and nothing is held then', () => {
    const total = (() => {
      const bench = new Bench();
      bench.apply();
      return bench.machine.written.length;
    })();
    for (let refused = 0; refused < total; refused++) {
      const bench = new Bench();
      bench.machine.write('tx-2/xps_cpus', '0-3');
      const before = bench.readings();
      let count = 0;
      bench.machine.beforeWrite = (name) => {
        if (count++ === refused) throw new VnicError('kernel_refused', `${name} cannot be set: EINVAL.`);
      };
      const error = thrownBy(() => bench.apply());
      assert.equal(error.code, 'kernel_refused', `write ${refused}`);
      assert.deepEqual(bench.readings(), before, `write ${refused}`);
      assert.deepEqual(bench.journal, empty, `write ${refused}`);
    }
  });

  it('that the kernel took as something else are an error', () => {
    const bench = new Bench();
    const { machine } = bench;
    const write = machine.write.bind(machine);
    machine.write = (name: SettingName, value: string) =>
      write(name, name === 'gro_flush_timeout' && value !== '0' ? '1' : value);
    assert.match(thrownBy(() => bench.apply()).message, /gro_flush_timeout was set to 64000, but is 1/);
  });

  it('keep from the journal what cannot be put back, and put back the rest', () => {
    const bench = new Bench();
    const before = bench.readings();
    bench.apply();
    bench.machine.beforeWrite = (name) => {
      if (name === 'rings/rx' || name === 'gro_flush_timeout')
        throw new VnicError('kernel_refused', `${name} cannot be set: EBUSY.`);
    };
    const { failed } = bench.restore();
    assert.deepEqual(
      failed.map(({ name }) => name),
      ['gro_flush_timeout'],
    );
    assert.deepEqual(
      bench.journal.settings.map(({ name }) => name),
      ['gro_flush_timeout'],
    );
    bench.machine.beforeWrite = () => undefined;
    assert.deepEqual(bench.restore().foreign, []);
    assert.deepEqual(bench.readings(), before);
  });

  it('have several holders: the last decides, and the first value comes back with the last of them', () => {
    const bench = new Bench();
    const { machine, ports } = bench;
    machine.write('tx-0/xps_cpus', '0-3');
    const hold = (by: 'attach' | 'tune', to: string) => {
      bench.journal = holdSettings(ports, bench.journal, by, [{ name: 'tx-0/xps_cpus', to }]);
    };
    const letGo = (by: 'attach' | 'tune') => {
      bench.journal = restoreSettings(ports, bench.journal, [by], false).journal;
      return machine.read('tx-0/xps_cpus');
    };
    hold('tune', '4');
    hold('attach', '');
    assert.equal(letGo('tune'), '');
    assert.equal(letGo('attach'), '0-3');
    hold('tune', '4');
    hold('attach', '');
    assert.equal(letGo('attach'), '4');
    assert.equal(letGo('tune'), '0-3');
    assert.deepEqual(bench.journal.settings, []);
  });

  it('of the machine come back with the last device that holds them, whichever dies at any step', () => {
    const wanted = [{ name: 'guest_halt_poll_ns', to: '200000' }] as const;
    const hold = (bench: Bench) => {
      bench.journal = holdSettings(bench.ports, bench.journal, 'tune', wanted);
    };
    for (const isFirst of [true, false]) {
      for (let step = 0, died = true; died; step++) {
        const devices = Bench.pair(new FakeMachine({ ...shape, haltPollNs: 50_000 }));
        const [one, two] = isFirst ? devices : devices.toReversed();
        const now = () => one!.machine.read('guest_halt_poll_ns');
        died = devices[0].inProcess(() => hold(devices[0]), step);
        hold(devices[1]);
        assert.equal(now(), '200000');
        // One that died before its journal was written holds nothing.
        const isShared = two!.journal.settings.length > 0;
        one!.inProcess(() => one!.restore(), step);
        assert.deepEqual(one!.restore().foreign, []);
        assert.equal(now(), isShared ? '200000' : '50000', `step ${step}`);
        two!.inProcess(() => two!.restore(), step);
        assert.deepEqual(two!.restore().foreign, []);
        assert.equal(now(), '50000', `step ${step}`);
        assert.deepEqual([one!.journal.settings, two!.journal.settings], [[], []]);
      }
    }
  });
});
