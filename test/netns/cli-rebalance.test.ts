// SPDX-License-Identifier: Apache-2.0
/** vnicctl rebalance and plan, with the load of real packets. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { CliRig } from '../support/cli.ts';

interface Rebalance {
  performed: boolean;
  reason: string;
  before: number;
  after: number;
  moved: number;
  moves: { from: number; to: number; buckets: number }[];
  coolDownLeftMs: number | null;
  commitNs: number | null;
}

interface Plan {
  flows: { known: number; moved: number };
  queues: { queue: number; before: number; after: number; loadBeforePps: number; loadAfterPps: number }[];
  breaches: { queue: number }[];
}

const firstPort = 4000;
const flowCount = 12;
const toPort = 53;

describe('vnicctl rebalance', function () {
  // Each test runs vnicctl many times, perhaps on a busy machine.
  this.timeout(300_000);
  let rig: CliRig;
  /** Ports of the flows that share a queue, and carry most. */
  let hot: number[];
  let hotQueue: number;

  /** Packets of each flow, from one process: all of them now, so that none counts as over. */
  function send(packetsOf: (port: number) => number): void {
    const ports = Array.from({ length: flowCount }, (_, index) => firstPort + index);
    const script = `
      for (const [port, packets] of ${JSON.stringify(ports.map((port) => [port, packetsOf(port)]))}) {
        const socket = require('node:dgram').createSocket('udp4');
        socket.bind(port, '10.9.0.2', async () => {
          for (let n = 0; n < packets; n++) {
            await new Promise((done) => socket.send(Buffer.alloc(64), ${toPort}, '10.9.0.1', done));
          }
          socket.close();
        });
      }`;
    execFileSync('nsenter', [`--net=/run/netns/${rig.peer}`, process.execPath, '-e', script], { stdio: 'inherit' });
  }

  const sendHot = (): void => send((port) => (hot.includes(port) ? 400 : 4));
  const rebalance = (...args: string[]): Rebalance => rig.json<Rebalance>(['rebalance', ...args]);
  const queueOf = (port: number): number =>
    rig.json<{ queue: number }>(`explain vnic0 --src 10.9.0.2:${port} --dst 10.9.0.1:${toPort} --proto udp`.split(' '))
      .queue;

  before(() => {
    rig = new CliRig('rebalance');
    rig.ok(['attach', 'vnic0', '--queues', '4']);
    rig.ok('az set az-a --queues 0-1'.split(' '));
    rig.ok('az set az-b --queues 2-3'.split(' '));
    send(() => 1);
    const flows = rig
      .json<{ srcPort: number; dstPort: number; queue: number }[]>(['flows', 'vnic0', '--top', '100'])
      .filter(({ dstPort }) => dstPort === toPort);
    assert.equal(flows.length, flowCount);
    const queues = [...Map.groupBy(flows, ({ queue }) => queue)].sort(([, a], [, b]) => b.length - a.length);
    const [queue, fullest] = queues[0]!;
    hotQueue = queue;
    hot = fullest.slice(0, 3).map(({ srcPort }) => srcPort);
    assert.equal(hot.length, 3);
  });
  after(() => {
    rig?.run(['detach', 'vnic0', '--force']);
    rig?.[Symbol.dispose]();
  });

  it('says in a dry run what it would move, and moves nothing', () => {
    sendHot();
    const dry = rebalance('--dry-run');
    assert.deepEqual([dry.performed, dry.reason, dry.commitNs], [false, 'moved', null]);
    assert.ok(dry.before > 2 && dry.after < dry.before, `${dry.before} to ${dry.after}`);
    assert.ok(dry.moves.some(({ from }) => from === hotQueue));
    assert.equal(queueOf(hot[0]!), hotQueue);
    assert.match(rig.ok(['rebalance', '--dry-run']), /^vnic0@\S+: \d+ buckets? would move, fullest queue from/);
    const high = rebalance('--dry-run', '--threshold', '100');
    assert.deepEqual([high.reason, high.moved], ['balanced', 0]);
  });

  it('plans with the load that each queue has and would have', () => {
    sendHot();
    const az = hotQueue < 2 ? 'az-a' : 'az-b';
    const { flows, queues, breaches } = rig.json<Plan>(['plan', '--az', az]);
    assert.ok(
      flows.known >= flowCount && flows.moved >= hot.length && flows.moved <= flows.known,
      JSON.stringify(flows),
    );
    const loadOf = (load: 'loadBeforePps' | 'loadAfterPps'): number =>
      queues.reduce((sum, queue) => sum + queue[load], 0);
    assert.ok(Math.abs(loadOf('loadBeforePps') - loadOf('loadAfterPps')) < 1e-6 * loadOf('loadBeforePps'));
    const most = queues.toSorted((a, b) => b.loadBeforePps - a.loadBeforePps)[0];
    assert.deepEqual([most?.queue, most?.after, most?.loadAfterPps], [hotQueue, 0, 0]);
    // What a queue can take is not configured.
    assert.deepEqual(breaches, []);
  });

  it('spreads the loaded flows over more queues, then waits, unless forced', () => {
    sendHot();
    const done = rebalance();
    assert.deepEqual([done.performed, done.reason], [true, 'moved']);
    assert.ok(done.moved > 0 && (done.commitNs ?? 0) > 0);
    assert.ok(new Set(hot.map(queueOf)).size > 1);
    sendHot();
    const again = rebalance('--threshold', '1');
    assert.equal(again.reason, 'cool_down');
    assert.ok((again.coolDownLeftMs ?? 0) > 0 && (again.coolDownLeftMs ?? 0) <= 60_000);
    assert.notEqual(rebalance('--threshold', '1', '--force', '--dry-run').reason, 'cool_down');
    assert.deepEqual(rig.json<{ drift: unknown[] }>(['status', 'vnic0']).drift, []);
  });

  it('is what a recovery comes back to', () => {
    const queues = hot.map(queueOf);
    rig.ok(['az', 'fail', 'az-a']);
    assert.ok(hot.map(queueOf).every((queue) => queue >= 2));
    rig.ok(['az', 'recover', 'az-a']);
    assert.deepEqual(hot.map(queueOf), queues);
  });

  it('refuses what cannot be meant (exit 2), and devices that are not there (exit 4)', () => {
    assert.match(rig.refused(2, ['rebalance', '--threshold', '0.5']).lines[0] ?? '', /threshold: 0\.5/);
    const twisted = ['rebalance', '--threshold', '1.1', '--max-over-mean', '1.2'];
    assert.match(rig.refused(2, twisted).lines[0] ?? '', /maxOverMean.*at most the threshold/);
    rig.refused(4, ['rebalance', 'nosuch0']);
  });
});
