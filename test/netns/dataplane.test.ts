// SPDX-License-Identifier: Apache-2.0
/** The dataplane under real traffic on the rig: what `make demo` shows, as assertions. */
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { bucketOf, flowHash } from '../../src/steering/hash.ts';
import { formatRule } from '../../src/steering/rules/format.ts';
import { parseRules } from '../../src/steering/rules/parse.ts';
import { checkFailover } from '../rig/scenarios/failover.ts';
import { checkLimits } from '../rig/scenarios/limits.ts';
import { deviceInput, Setting } from '../rig/scenarios/setting.ts';
import { checkSteering } from '../rig/scenarios/steering.ts';
import { startSockets } from '../rig/sockets.ts';
import { createRig, type Rig } from '../rig/topology.ts';

describe('the dataplane under traffic', function () {
  this.timeout(120_000);
  let rig: Rig;
  let setting: Setting;

  before(() => {
    rig = createRig({ id: 'dataplane' });
    setting = new Setting(rig);
    setting.attach();
  });

  after(() => {
    setting?.dispose();
    rig?.dispose();
  });

  it('sends every one of a million packets to the queue and CPU that the table names, in order', async () => {
    const result = await checkSteering(setting, { flows: 10_000, packets: 1_000_000, ratePps: 500_000 });
    assert.equal(result.wrongQueue, 0);
    assert.equal(result.wrongCpu, 0);
    assert.equal(result.noMetadata, 0);
    assert.equal(result.reordered, 0);
    assert.equal(result.packets + result.lost, 1_000_000);
    assert.ok(result.maxOverMean < 1.01, `fullest queue over the mean: ${result.maxOverMean}`);
  });

  it('accounts for every packet: what was redirected and not received is what the checker misses', async () => {
    const before = setting.controller.withDevice(setting.device, (device) => device.status().counters);
    const result = await checkSteering(setting, { flows: 3000, packets: 200_000, ratePps: 400_000 });
    const after = setting.controller.withDevice(setting.device, (device) => device.status().counters);
    assert.equal(after.rxPackets - before.rxPackets >= 200_000n, true);
    assert.equal(Number(after.notReceived - before.notReceived), result.lost);
  });

  it('moves only the buckets of a failed AZ, disturbs no other flow, and restores the table', async function () {
    // The machine may stop everything for longer than a ring holds; a wrong table fails each time.
    this.retries(2);
    const result = await checkFailover(setting, { az: 'az-b', flows: 10_000, ratePps: 300_000, phaseMs: 1500 });
    assert.equal(result.collateral, 0);
    assert.equal(result.bucketsMoved, result.bucketsOnFailed);
    assert.equal(result.wrongQueue, 0);
    assert.equal(result.reorderedSurviving, 0);
    assert.equal(result.lostSurviving, 0);
    assert.ok(result.survivingFlows > 0);
    assert.ok(result.recovery.homeTableBack);
    assert.ok(
      result.perQueue.during.slice(11, 22).every((packets) => packets === 0),
      'queues of az-b are silent',
    );
    assert.ok(
      result.perQueue.after.slice(11, 22).every((packets) => packets > 0),
      'queues of az-b are back',
    );
  });

  it('limits live traffic to the rates asked for, and lets nothing through a drop rule', async function () {
    this.retries(2);
    const result = await checkLimits(setting);
    for (const limit of result.limits) {
      assert.ok(limit.errorRatio < 0.02, `rule ${limit.rule}: ${limit.measuredBps} of ${limit.configuredBps} bit/s`);
    }
    assert.ok(result.droppedSent > 1000);
    assert.equal(result.droppedReceived, 0);
  });

  it('drops nothing in shadow mode and counts what it would have dropped', async () => {
    const { controller, device } = setting;
    const shadowed = parseRules([
      {
        id: 77,
        match: { proto: 'udp', dstPort: 9100 },
        action: 'pass',
        limit: { rate: '10pps', burst: '1 pkts', scope: 'rule' },
        shadow: true,
      },
    ]);
    const former = controller.withDevice(device, (open) => {
      const rules = open.config.rules;
      open.spec.changeRules(shadowed, { dryRun: false });
      return rules;
    });
    const traffic = await startSockets(rig, { az: 'az-b', protocol: 'udp', port: 9100, messagesPerSecond: 400 });
    await sleep(500);
    const { client, server } = await traffic.stop();
    const counters = controller.withDevice(device, (open) => {
      const ofRule = open.countersOf(77);
      open.spec.changeRules(former, { dryRun: false });
      return ofRule;
    });
    assert.equal(server.receivedBytes, client.sentBytes);
    assert.ok(counters.droppedPackets > 10, 'most packets were over the limit');
  });

  it('carries TCP and UDP of ordinary sockets, IPv4 and IPv6', async () => {
    const runs = [
      { az: 'az-a', protocol: 'tcp', family: 4, port: 9001, connections: 8 },
      { az: 'az-b', protocol: 'tcp', family: 6, port: 9002 },
      { az: 'az-c', protocol: 'udp', family: 4, port: 9003 },
      { az: 'az-a', protocol: 'udp', family: 6, port: 9004 },
    ] as const;
    const traffic = await Promise.all(runs.map((run) => startSockets(rig, { ...run, messagesPerSecond: 200 })));
    await sleep(700);
    for (const [index, item] of traffic.entries()) {
      const { client, server } = await item.stop();
      const what = JSON.stringify(runs[index]);
      assert.ok(client.sentBytes > 0, what);
      assert.equal(server.receivedBytes, client.sentBytes, what);
      assert.equal(client.receivedBytes, server.sentBytes, what);
      assert.deepEqual([...client.errors, ...server.errors], [], what);
    }
  });

  it('sends answers out by the TX queue of the same bucket', async () => {
    rig.fabric.forgetDepartures();
    const traffic = await startSockets(rig, {
      az: 'az-a',
      protocol: 'udp',
      port: 9010,
      connections: 16,
      messagesPerSecond: 400,
    });
    await sleep(700);
    await traffic.stop();
    const table = setting.activeTable();
    const seed = setting.hashSeed();
    const departures = rig.fabric.departures().filter((departure) => departure.sport === 9010);
    assert.equal(departures.length, 16, 'every connection was answered');
    for (const departure of departures) {
      const hash = flowHash(departure, seed);
      const queue = table.rows[rig.az('az-a').index]?.[bucketOf(hash)];
      assert.deepEqual(departure.queues, [queue], `client port ${departure.dport}`);
    }
  });

  it('keeps its configuration word for word', () => {
    const rules = setting.controller.withDevice(setting.device, (device) => device.config.rules.map(formatRule));
    assert.equal(rules.length, (deviceInput(rig)['rules'] as unknown[]).length);
  });
});
