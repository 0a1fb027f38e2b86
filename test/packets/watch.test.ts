// SPDX-License-Identifier: Apache-2.0
/** The kernel's watch of AZs: its timer, on packets that BPF_PROG_RUN lets arrive. Nothing of user space acts. */
import assert from 'node:assert/strict';
import { writeTables } from '../../src/app/az-steering.ts';
import { configureWatch, endHeartbeat, isWatching, lossOf, startWatch } from '../../src/app/az-watch.ts';
import { DeviceModel } from '../../src/app/device-model.ts';
import { type DeviceConfig, parseDevice } from '../../src/config/device.ts';
import { VnicLoss, VnicNone, VnicWatch, VnicWatchLimits } from '../../src/maps/generated/abi.ts';
import { parseAddress } from '../../src/steering/rules/prefix.ts';
import { TestDataplane } from '../support/dataplane.ts';
import { flowFrame } from '../support/flow-frames.ts';

const SILENCE_MS = 40;

function configOf(failover: object = {}): DeviceConfig {
  const az = (name: string, net: number, queues: string) => ({
    name,
    queues,
    prefixes: [`10.${net}.0.0/16`],
    silence_ms: SILENCE_MS,
  });
  return parseDevice('vnic0', {
    num_queues: 32,
    failover,
    azs: [az('az-a', 1, '0-10'), az('az-b', 2, '11-21'), az('az-c', 3, '22-31')],
  });
}

const frames = [1, 2, 3].map((net) =>
  flowFrame(
    { src: parseAddress(`10.${net}.0.7`), dst: parseAddress('10.9.0.1'), sport: 1000, dport: 53, proto: 17 },
    100,
  ),
);

const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

describe('the watch', function () {
  this.timeout(20_000);
  let test: TestDataplane;
  let config: DeviceConfig;
  let model: DeviceModel;

  function begin(failover: object = {}): void {
    config = configOf(failover);
    model = DeviceModel.of(config, Array<number>(32).fill(0));
    test = new TestDataplane({ maxFlows: 64 });
    test.setRules([], config.azs);
    test.tables.activate(writeTables(test.tables, model.homeState(), config.failover), { lostAzs: 0 });
    configureWatch(test.dataplane, config);
  }
  afterEach(() => test.close());

  const az = (row: number) => test.dataplane.watch.read(0).azs[row]!;
  const lostAzs = () => test.tables.word().lostAzs;

  /** Packets of AZs by their rows, for so long. A test that is kept from its CPU sends to none of them meanwhile. */
  async function hear(rows: readonly number[], ms: number): Promise<void> {
    const end = performance.now() + ms;
    while (performance.now() < end) {
      for (let n = 0; n < 4; n++) for (const row of rows) test.ingress(frames[row - 1]!);
      await sleep(1);
    }
  }

  async function arm(rows: readonly number[]): Promise<void> {
    for (let tries = 0; tries < 50 && rows.some((row) => az(row).windows < VnicWatchLimits.windows); tries++)
      await hear(rows, SILENCE_MS);
    for (const row of rows) assert.equal(az(row).windows, VnicWatchLimits.windows, `AZ ${row} is armed`);
  }

  it('takes an AZ that fell silent out of use, and no other', async () => {
    begin();
    await arm([1, 2, 3]);
    const before = test.tables.active()!;
    await hear([1, 3], 4 * SILENCE_MS);
    assert.equal(lostAzs(), 0b010);
    assert.deepEqual(test.tables.read(test.tables.active()!), model.homeState(['az-b']).current);
    const loss = lossOf(test.dataplane, 2)!;
    assert.deepEqual([loss.failed.cause, loss.tableBefore, loss.tableAfter], ['silence', before, test.tables.active()]);
    assert.ok(loss.silentMs >= SILENCE_MS, `${loss.silentMs} ms`);
    assert.match(loss.failed.evidence ?? '', /nothing came from it for \d+\.\d ms, \d+ packets in 40 ms before/);
    assert.equal(az(1).losses + az(3).losses, 0);
  });

  it('takes a second one out of use by the table of the pair, before user space has done anything', async () => {
    begin();
    await arm([1, 2, 3]);
    await hear([1, 3], 4 * SILENCE_MS);
    await arm([1, 3]);
    await hear([1], 4 * SILENCE_MS);
    assert.equal(lostAzs(), 0b110);
    const { rows, usableQueues } = test.tables.read(test.tables.active()!);
    assert.equal(usableQueues, 0b111_1111_1111n);
    assert.ok(rows.every((row) => row.every((queue) => queue <= 10)));
  });

  it('lets an AZ be silent that was idle before', async () => {
    begin();
    await arm([1, 3]);
    for (let n = 0; n < 3; n++) test.ingress(frames[1]!);
    await hear([1, 3], 4 * SILENCE_MS);
    assert.equal(az(2).packets, 3n);
    assert.equal(lostAzs(), 0);
  });

  it('does not judge while nothing arrives at all, and does when others are heard again', async () => {
    begin();
    await arm([1, 2, 3]);
    await sleep(6 * SILENCE_MS);
    assert.equal(lostAzs(), 0, 'all are silent: it is this machine');
    await hear([1, 2, 3], 4 * SILENCE_MS);
    assert.equal(lostAzs(), 0, 'all are back');
    await sleep(6 * SILENCE_MS);
    await hear([1, 3], 4 * SILENCE_MS);
    assert.equal(lostAzs(), 0b010);
  });

  it('goes no further than there are tables for, and says so', async () => {
    begin({ panic_share: 0.5 });
    await arm([1, 2, 3]);
    await hear([1, 3], 4 * SILENCE_MS);
    await arm([1, 3]);
    await hear([1], 4 * SILENCE_MS);
    assert.equal(lostAzs(), 0b010);
    assert.equal(az(3).refused, VnicLoss.silence);
    // It is not held against it once it is heard again.
    await hear([1, 3], 2 * SILENCE_MS);
    assert.equal(az(3).refused, VnicLoss.none);
  });

  it('does not take an AZ again that it took, until it was heard again', async () => {
    begin();
    await arm([1, 2, 3]);
    await hear([1, 3], 4 * SILENCE_MS);
    // As a recovery by hand does.
    test.tables.activate(writeTables(test.tables, model.homeState(), config.failover), { lostAzs: 0 });
    await hear([1, 3], 4 * SILENCE_MS);
    assert.equal(lostAzs(), 0);
    await arm([1, 2, 3]);
    await hear([1, 3], 4 * SILENCE_MS);
    assert.equal(lostAzs(), 0b010);
    assert.equal(az(2).losses, 2);
  });

  it('holds the table when the daemon is gone, and goes on watching', async () => {
    begin({ deadman: { policy: 'hold', timeout_ms: 100 } });
    test.dataplane.watch.storeU64(0, VnicWatch.offsets.heartbeatNs, process.hrtime.bigint());
    await arm([1, 2, 3]);
    await hear([1, 2, 3], 200);
    assert.notEqual(test.dataplane.watch.read(0).staleSinceNs, 0n);
    assert.notEqual(test.tables.active(), null);
    await hear([1, 3], 4 * SILENCE_MS);
    assert.equal(lostAzs(), 0b010);
    const { cause, evidence } = lossOf(test.dataplane, 2)!.failed;
    assert.equal(cause, 'deadman');
    assert.match(evidence ?? '', /nothing came from it .*; the daemon's heartbeat was stale$/);
  });

  it('lets packets pass unsteered while the daemon is gone, if that is the policy, and steers again when it is back', async () => {
    begin({ deadman: { policy: 'pass', timeout_ms: 100 } });
    const beat = (): void => test.dataplane.watch.storeU64(0, VnicWatch.offsets.heartbeatNs, process.hrtime.bigint());
    const table = test.tables.active();
    await sleep(150);
    assert.equal(test.tables.active(), table, 'nobody was there who could be gone');
    beat();
    await sleep(200);
    assert.equal(test.tables.active(), null);
    beat();
    await sleep(20);
    assert.equal(test.tables.active(), table);
    assert.equal(test.dataplane.watch.read(0).passedTable, VnicNone.noTable);
    endHeartbeat(test.dataplane);
    await sleep(200);
    assert.equal(test.tables.active(), table, 'the daemon ended on purpose');
  });

  it('stops when there is nothing to watch, and starts again', async () => {
    begin();
    await sleep(20);
    assert.ok(isWatching(test.dataplane));
    const bare = {
      ...config,
      azs: config.azs.map(({ name, queues, weight, prefixes }) => ({ name, queues, weight, prefixes })),
    };
    configureWatch(test.dataplane, bare, config.azs);
    await sleep(20);
    const { ticks } = test.dataplane.watch.read(0);
    await sleep(50);
    assert.equal(test.dataplane.watch.read(0).ticks, ticks);
    configureWatch(test.dataplane, config, bare.azs);
    // Once more, as an upgrade does under a timer that runs.
    startWatch(test.dataplane);
    await sleep(50);
    assert.ok(test.dataplane.watch.read(0).ticks > ticks);
  });
});
