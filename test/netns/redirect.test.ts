// SPDX-License-Identifier: Apache-2.0
/**
 * Redirect modes on a veth pair whose other end follows what it is sent, as a multiqueue tap does: what is chosen and why,
 * that it is used when the device obeys and left when it does not, and that settings come back.
 */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import type { Explanation } from '../../src/app/explain.ts';
import type { RedirectStatus } from '../../src/app/redirecting.ts';
import { loadNative } from '../../src/loader/ffi/index.ts';
import { DeviceSettings } from '../../src/loader/settings/device-settings.ts';
import type { SettingName } from '../../src/loader/settings/setting.ts';
import { CliRig } from '../support/cli.ts';
import { FollowingPeer } from '../support/following-peer.ts';

const FLOWS = 24;
const ROUNDS = 12;

interface Status {
  redirect: RedirectStatus;
  counters: { movesRisked: number; redirected: number };
  drift: { what: string }[];
}

interface Queue {
  queue: number;
  az: string;
  cpu: number;
  steeredPackets: number;
  missedPackets: number;
  directPackets: number;
  offCpuPackets: number;
}

describe('redirect modes', function () {
  this.timeout(180_000);
  let rig: CliRig;
  let peer: FollowingPeer;
  const config = (): string => path.join(rig.folder, 'vnic.json');

  beforeEach(async () => {
    rig = new CliRig('redirect');
    writeFileSync(
      config(),
      JSON.stringify({
        devices: {
          vnic0: {
            azs: [
              { name: 'az-a', queues: '0-15', prefixes: ['10.9.0.0/16'] },
              { name: 'az-b', queues: '16-31', prefixes: ['10.8.0.0/16'] },
            ],
          },
        },
      }),
    );
    peer = new FollowingPeer(rig);
    await peer.ready();
  });
  afterEach(() => {
    peer[Symbol.dispose]();
    rig[Symbol.dispose]();
  });

  const attach = (...options: string[]): string => rig.ok(['attach', 'vnic0', '--config', config(), ...options]);
  const status = (): Status => rig.json<Status>(['status', 'vnic0']);
  const queues = (): Queue[] => rig.json<Queue[]>(['queues', 'vnic0']);
  const grown = (before: Queue[], field: keyof Queue): Map<number, number> =>
    new Map(queues().map((queue, index) => [queue.queue, Number(queue[field]) - Number(before[index]![field])]));
  const sum = (counts: Map<number, number>, among: (queue: number) => boolean = () => true): number =>
    [...counts].reduce((total, [queue, count]) => total + (among(queue) ? count : 0), 0);
  const onCpu = (): ((queue: number) => boolean) => {
    const there = new Set(queues().flatMap(({ queue, cpu }) => (cpu === peer.cpu ? [queue] : [])));
    return (queue) => there.has(queue);
  };
  const talk = (flows = FLOWS): void =>
    assert.equal(peer.converse({ flows, rounds: ROUNDS }), flows * ROUNDS, 'each packet comes back');

  function setting(name: SettingName, value?: string): string | null {
    using settings = new DeviceSettings(loadNative(), { name: 'vnic0', netns: rig.guest });
    if (value !== undefined) settings.write(name, value);
    return settings.read(name);
  }

  it('tries whether the device follows, begins with it when flows show that it does, and ends it when they show the contrary', () => {
    assert.match(
      rig.ok(['doctor', 'vnic0']),
      /--redirect auto {2}cpumap, follow on trial: the device has no RSS table, and /,
    );
    attach('--redirect', 'auto');
    const first = status().redirect;
    assert.deepEqual([first.asked, first.mode, first.trial], ['auto', 'cpumap', 'follow']);
    assert.deepEqual(first.device, { flows: 0, obeyed: 0, verdict: 'unknown' });

    talk();
    const tried = status();
    assert.equal(tried.redirect.device?.verdict, 'obeys', JSON.stringify(tried.redirect));
    assert.equal(tried.redirect.directPackets, 0, 'on trial everything is redirected');
    assert.match(rig.ok(['apply', 'vnic0']), /begin with what is on trial: the device obeys/);

    const before = queues();
    talk();
    const steered = grown(before, 'steeredPackets');
    const direct = grown(before, 'directPackets');
    const begun = status();
    assert.deepEqual([begun.redirect.mode, begun.redirect.trial], ['follow', null]);
    assert.equal(begun.counters.movesRisked, 0);
    assert.ok(sum(steered) >= FLOWS * ROUNDS);
    const offCpu = grown(before, 'offCpuPackets');
    const there = onCpu();
    assert.ok(
      sum(direct, there) >= 0.8 * sum(steered, there),
      `${sum(direct, there)} of ${sum(steered, there)} passed where they arrived, on the CPU of their queue`,
    );
    assert.ok(sum(direct) + sum(offCpu) >= 0.8 * sum(steered));
    assert.equal(
      sum(direct, (queue) => !there(queue)),
      0,
      'queues of other CPUs',
    );
    assert.equal(sum(offCpu, there), 0);
    assert.equal(
      sum(steered, (queue) => queue > 15),
      0,
      'only queues of the AZ',
    );

    peer.forget();
    // More than those before, which are remembered for a minute.
    talk(4 * FLOWS);
    assert.match(rig.ok(['status', 'vnic0']), /redirect +follow: .*\narrival .*flows arrive where the device should/);
    assert.match(rig.ok(['apply', 'vnic0']), /go back to redirect mode cpumap: the device does not obey follow/);
    const ended = status().redirect;
    assert.deepEqual([ended.mode, ended.trial], ['cpumap', null]);
    assert.match(ended.reason, /does not obey follow: \d+ of \d+ flows/);
    const redirectedFrom = queues();
    talk();
    assert.equal(sum(grown(redirectedFrom, 'directPackets')), 0);
  });

  it('keeps a mode that is asked for, counts what the device puts elsewhere, and says so of a flow', () => {
    attach('--redirect', 'follow');
    peer.forget();
    const before = queues();
    talk();
    const { redirect } = status();
    assert.deepEqual([redirect.asked, redirect.mode, redirect.reason], ['follow', 'follow', 'asked for']);
    assert.equal(redirect.device?.verdict, 'disobeys');
    const steered = sum(grown(before, 'steeredPackets'));
    assert.equal(sum(grown(before, 'missedPackets')) + sum(grown(before, 'directPackets')) <= steered, true);
    assert.ok(sum(grown(before, 'missedPackets')) > steered / 2);
    rig.send({ fromPort: 999, toPort: 1000, packets: 3, bytes: 10 });
    const packet = ['--src', '10.9.0.2:999', '--dst', '10.9.0.1:1000', '--proto', 'udp'];
    const { arrival, queue } = rig.json<Explanation>(['explain', 'vnic0', ...packet]);
    assert.ok(arrival !== null);
    assert.equal(arrival.direct, arrival.queue === queue);
    assert.match(rig.ok(['explain', 'vnic0', ...packet]), /arrival +its last packet arrived on .*queue \d+/);
    rig.ok(['apply', 'vnic0']);
    assert.equal(status().redirect.mode, 'follow');
  });

  it('fails over and back: flows are passed on the queues that they have then', () => {
    writeFileSync(
      config(),
      JSON.stringify({
        devices: {
          vnic0: {
            redirect: 'follow',
            azs: [
              { name: 'az-a', queues: '0-15' },
              { name: 'az-b', queues: '16-31' },
            ],
          },
        },
      }),
    );
    attach();
    assert.equal(status().redirect.asked, 'follow', 'the configuration asks for it');
    for (const [command, lost] of [
      [['az', 'fail', 'az-b', '--yes'], true],
      [['az', 'recover', 'az-b'], false],
    ] as const) {
      rig.ok([...command]);
      const before = queues();
      talk();
      const [direct, offCpu] = [grown(before, 'directPackets'), grown(before, 'offCpuPackets')];
      const ofLost = sum(grown(before, 'steeredPackets'), (queue) => queue > 15);
      assert.equal(ofLost > 0, !lost, `${ofLost} packets for az-b after ${command.join(' ')}`);
      assert.ok(sum(direct) > 0, `${sum(direct)} passed where they arrived`);
      assert.ok(sum(direct) + sum(offCpu) > 0.5 * FLOWS * ROUNDS);
    }
  });

  it('refuses what the device cannot do, with exit code 3, and changes nothing', () => {
    const { lines, problem } = rig.refused(3, ['attach', 'vnic0', '--redirect', 'rss']);
    assert.equal(problem.code, 'preflight_refused');
    assert.match(lines[0]!, /Redirect mode rss is not possible: the device has no RSS table\./);
    const off = rig.refused(3, ['attach', 'vnic0', '--redirect', 'follow', '--egress', 'off']);
    assert.match(off.lines[0]!, /the egress program, which chooses transmit queues, is off/);
    assert.deepEqual(rig.traces(), []);
    writeFileSync(config(), JSON.stringify({ devices: { vnic0: { redirect: 'fast' } } }));
    assert.match(rig.refused(2, ['config', 'check', config()]).lines.join(), /auto, cpumap, rss, follow/);
  });

  it('takes XPS out of the way while it is attached, notices when somebody sets it, and puts it back', () => {
    const names = ['tx-0/xps_cpus', 'tx-7/xps_cpus', 'tx-31/xps_cpus'] as const;
    const former = ['0', '1', '0-1'];
    names.forEach((name, index) => {
      setting(name, former[index]);
    });
    attach('--redirect', 'follow');
    assert.deepEqual(
      names.map((name) => setting(name)),
      ['', '', ''],
    );
    setting('tx-7/xps_cpus', '0');
    assert.deepEqual(
      status().drift.map(({ what }) => what),
      ['XPS'],
    );
    assert.match(rig.ok(['apply', 'vnic0']), /clear XPS again/);
    assert.equal(setting('tx-7/xps_cpus'), '');
    rig.ok(['detach', 'vnic0', '--yes']);
    assert.deepEqual(
      names.map((name) => setting(name)),
      former,
    );
    attach();
    assert.deepEqual([status().redirect.asked, status().redirect.mode], ['cpumap', 'cpumap']);
    assert.deepEqual(
      names.map((name) => setting(name)),
      former,
      'nothing is asked of the device',
    );
  });

  it('puts XPS back after an attach that was killed at any moment', async () => {
    setting('tx-3/xps_cpus', '0');
    for (const afterMs of [300, 500, 650, 750, 850, 950, 1100]) {
      const { child, done } = rig.start(['attach', 'vnic0', '--redirect', 'follow']);
      await new Promise((resolve) => setTimeout(resolve, afterMs));
      child.kill('SIGKILL');
      await done;
      if (rig.json<unknown[]>(['status']).length > 0) {
        assert.equal(setting('tx-3/xps_cpus'), '', 'an attach that was done');
        rig.ok(['detach', 'vnic0', '--yes']);
      }
      assert.equal(setting('tx-3/xps_cpus'), '0', `killed after ${afterMs} ms`);
      assert.deepEqual(rig.traces(), []);
    }
  });
});
