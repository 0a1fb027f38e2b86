// SPDX-License-Identifier: Apache-2.0
/** A daemon that is killed, whose files are damaged, and whose disk is full: what was acknowledged is there. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { randomSource } from '../support/random.ts';
import { type Status, SurvivalRig } from '../support/survival.ts';
import {
  type Asked,
  Changes,
  firstAsked,
  parsedAzs,
  parsedRules,
  QUEUES,
  queuesInUse,
  textOf,
  textOfAnswers,
} from '../support/survival-changes.ts';
import { expectRules, expectTable, expectVerdicts } from '../support/survival-kernel.ts';

const KILLS = Number(process.env['SURVIVAL_KILLS'] ?? 50);
const CHANGES_A_ROUND = 20;
const MOST_DELAY_MS = 60;
const SOURCES = ['10.0.0.1', '10.1.0.5', '10.2.0.3', '10.3.0.7', '10.1.0.200', '10.9.0.2', '192.0.2.1'];

/** To go through the same changes again: SURVIVAL_SEED as printed. When the kills come is left to the machine. */
const seed = Number(process.env['SURVIVAL_SEED'] ?? 1 + Math.floor(Math.random() * 0xffff_fffe));
const source = randomSource(seed);
const random = (below: number): number => source() % below;

/** What a client knows when the daemon died under it. */
interface Known {
  acknowledged: Asked;
  /** Sent, but not answered. */
  inFlight: Asked | null;
  changes: number;
}

describe('a daemon killed during changes', function () {
  this.timeout(900_000);
  let rig: SurvivalRig;
  before(async () => {
    rig = await SurvivalRig.start('killed');
  });
  after(async () => {
    await rig?.[Symbol.asyncDispose]();
  });

  /** Changes one after the other; after CHANGES_A_ROUND the kill comes at a random moment, while they go on. */
  async function changeUntilKilled(start: Asked, changes: Changes, withAzs: boolean): Promise<Known> {
    const known: Known = { acknowledged: start, inFlight: null, changes: 0 };
    let killed: Promise<void> | undefined;
    for (;;) {
      if (known.changes === CHANGES_A_ROUND) {
        killed = sleep((random(1000) * MOST_DELAY_MS) / 1000).then(() => rig.daemon.kill());
      }
      const { method, rest, body, leadsTo } = changes.next(known.acknowledged, withAzs);
      known.inFlight = leadsTo;
      const reply = await rig
        .send(method, rig.url(rest), body === undefined ? {} : { body })
        .catch((error: NodeJS.ErrnoException) => error);
      if (reply instanceof Error) {
        // Nobody was there to be sent anything to.
        if (reply.code === 'ECONNREFUSED' || reply.code === 'ENOENT') known.inFlight = null;
        assert.ok(killed !== undefined, `the daemon died by itself: ${String(reply)} ${rig.daemon.stderr}`);
        await killed;
        return known;
      }
      assert.ok(reply.status < 300, `${method} ${rest}: ${reply.status} ${reply.text}`);
      known.acknowledged = leadsTo;
      known.inFlight = null;
      known.changes++;
    }
  }

  /** Which of the states that may be there is there. */
  async function findState({ acknowledged, inFlight }: Known, moment: string): Promise<'old' | 'new'> {
    const { items: azs } = await rig.ask<{ items: Status['azs'] }>('GET', rig.url('/azs'));
    const exported = await rig.send('GET', rig.url('/rules'), { headers: { accept: 'application/x-ndjson' } });
    assert.equal(exported.status, 200, moment);
    const rules = exported.text.split('\n').flatMap((line) => (line === '' ? [] : [JSON.parse(line) as unknown]));
    const found = textOfAnswers(rules, azs);
    if (inFlight !== null && found === textOf(inFlight)) return 'new';
    assert.equal(found, textOf(acknowledged), `${moment}: neither what was acknowledged nor what was in flight`);
    return 'old';
  }

  it(`keeps all that was acknowledged and at most what was in flight, ${KILLS} times`, async function () {
    await rig.attach({ azs: firstAsked.azs, num_queues: QUEUES });
    const changes = new Changes(random);
    const outcomes = { changes: 0, none: 0, old: 0, new: 0, finished: 0 };
    let asked = firstAsked;
    for (let kill = 0; kill < KILLS; kill++) {
      const moment = `kill ${kill}, seed ${seed}`;
      const known = await changeUntilKilled(asked, changes, kill % 2 === 1);
      await rig.daemon.run();
      const state = await findState(known, moment);
      asked = state === 'new' && known.inFlight !== null ? known.inFlight : known.acknowledged;
      outcomes.changes += known.changes;
      outcomes[known.inFlight === null ? 'none' : state]++;

      const status = await rig.status();
      assert.deepEqual(rig.daemon.events('device.failed'), [], moment);
      assert.deepEqual(status.drift, [], moment);
      assert.deepEqual(status.damagedFiles, [], moment);
      using dataplane = rig.dataplane();
      const [rules, queues] = [parsedRules(asked), queuesInUse(asked)];
      expectRules(dataplane, rules, parsedAzs(asked), moment);
      expectTable(dataplane, queues, asked.azs.length, moment);
      expectVerdicts(dataplane, rules, queues, SOURCES, moment);
    }
    outcomes.finished = rig.events('device.finished').length;
    const text = JSON.stringify(outcomes);
    this.test!.title += ` ${text}`;
    assert.ok(outcomes.changes >= KILLS * CHANGES_A_ROUND, text);
    assert.ok(outcomes.old > 0 && outcomes.new > 0, `no kill came amid a change: ${text}`);
    assert.deepEqual(rig.events('state.damaged'), []);
  });
});

describe('a daemon whose state is damaged', function () {
  this.timeout(600_000);
  let rig: SurvivalRig;

  beforeEach(async () => {
    rig = await SurvivalRig.start('damage');
    rig.addVeth({ name: 'vnic1', peer: 'peer1', mac: '19:01' });
    await rig.attach({ rules: [{ id: 1, action: 'drop' }], azs: firstAsked.azs });
    await rig.attach({ rules: [{ id: 70, action: 'drop' }] }, 'vnic1');
    assert.equal((await rig.putRule(2)).status, 201);
    assert.equal((await rig.putRule(3)).status, 201);
  });
  afterEach(async () => {
    await rig?.[Symbol.asyncDispose]();
  });

  const folder = (): string => path.join(rig.daemon.stateFolder, 'devices');
  const record = (name = 'vnic0'): string => path.join(folder(), `${encodeURIComponent(rig.text(name))}.json`);

  function flipBit(file: string): void {
    const bytes = readFileSync(file);
    const at = random(bytes.length);
    bytes[at]! ^= 1 << random(8);
    writeFileSync(file, bytes);
  }

  /** The file of the rules that the record names. */
  function rulesFile(): string {
    const { record: header } = JSON.parse(readFileSync(record(), 'utf8')) as {
      record: { rules: { sha256: string } };
    };
    const name = readdirSync(folder()).find((entry) => entry.includes(header.rules.sha256));
    return path.join(folder(), name!);
  }

  async function expectUntouched(): Promise<void> {
    assert.deepEqual(rig.events('state.damaged', rig.text('vnic1')), []);
    assert.deepEqual(await rig.ruleIds('vnic1'), [70]);
    const { drift, damagedFiles } = await rig.status('vnic1');
    assert.deepEqual([drift, damagedFiles], [[], []]);
    assert.equal((await rig.putRule(71, { action: 'drop' }, 'vnic1')).status, 201);
  }

  const damages: { title: string; damaged: () => string; damage: (file: string) => void; keptAside: number }[] = [
    { title: 'a record cut off', damaged: record, damage: (file) => truncateSync(file, 100), keptAside: 1 },
    { title: 'a bit of a record flipped', damaged: record, damage: flipBit, keptAside: 1 },
    { title: 'an empty record', damaged: record, damage: (file) => truncateSync(file), keptAside: 1 },
    { title: 'a record deleted', damaged: record, damage: rmSync, keptAside: 0 },
    // The record that names them is kept with them.
    { title: 'a bit of the rules flipped', damaged: rulesFile, damage: flipBit, keptAside: 2 },
    { title: 'the rules deleted', damaged: rulesFile, damage: rmSync, keptAside: 1 },
  ];

  for (const { title, damaged, damage, keptAside } of damages) {
    it(`goes on with the last good record: ${title}`, async () => {
      assert.equal(await rig.daemon.stop(), 0);
      const other = readFileSync(record('vnic1'));
      const file = damaged();
      damage(file);
      await rig.daemon.run();

      const event = await rig.event('state.damaged');
      assert.equal(event['file'], file);
      assert.equal(event['used'], 'previous');
      assert.equal(rig.events('state.damaged').length, 1);
      assert.deepEqual(await rig.ruleIds(), [1, 2]);
      const { drift, damagedFiles, azs } = await rig.status();
      assert.equal(damagedFiles.length, keptAside, damagedFiles.join(' '));
      const { keptAs } = event as { keptAs: string | null };
      if (keptAs !== null) assert.ok(damagedFiles.includes(keptAs));
      assert.deepEqual(
        azs.map(({ name }) => name),
        ['az-a', 'az-b', 'az-c'],
      );
      // Packets still meet what is loaded; the user decides.
      assert.deepEqual(
        drift.map(({ what }) => what),
        ['rule generation', 'rules'],
      );
      await rig.ask('POST', rig.url('/apply'));
      assert.deepEqual((await rig.status()).drift, []);
      assert.deepEqual(readFileSync(record('vnic1')), other);
      await expectUntouched();

      // What was mended stays so.
      assert.equal((await rig.putRule(4)).status, 201);
      await rig.daemon.kill();
      await rig.daemon.run();
      assert.deepEqual(await rig.ruleIds(), [1, 2, 4]);
      assert.equal(rig.events('state.damaged').length, 1);
    });
  }

  it('says which device has no readable record, serves the others, and is got out of it by detach --force', async () => {
    assert.equal(await rig.daemon.stop(), 0);
    for (const file of [record(), `${record()}.previous`]) truncateSync(file, 100);
    await rig.daemon.run();

    await rig.event('state.damaged', 2);
    const summary = await rig.summary();
    assert.equal(summary?.state, 'failed');
    assert.equal(summary?.problem?.code, 'state_damaged');
    assert.match(summary?.problem?.remedy ?? '', /--force/);
    const status = await rig.send('GET', rig.url());
    assert.equal(status.json()['code'], 'state_damaged');
    const kept = status.json()['keptAside'] as string[];
    assert.equal(kept.length, 2);
    for (const file of kept) assert.equal(readFileSync(file).length, 100);
    assert.equal((await rig.putRule(9)).json()['code'], 'state_damaged');
    assert.ok('xdp' in rig.rig.link(), 'packets are steered on');
    await expectUntouched();

    const env = { VNIC_STATE_DIR: rig.daemon.stateFolder, VNIC_SOCKET: rig.daemon.socket };
    rig.rig.ok(['detach', 'vnic0', '--force'], { env });
    assert.equal(await rig.summary(), undefined);
    assert.deepEqual(rig.rig.traces(), []);
    rig.rig.ok(['attach', 'vnic0'], { env });
    assert.equal((await rig.putRule(9, { action: 'drop', match: { src: '10.0.0.9' } })).status, 201);
    await rig.daemon.kill();
    await rig.daemon.run();
    assert.deepEqual(await rig.ruleIds(), [9]);
    assert.deepEqual((await rig.status()).drift, []);
    await rig.expectSteered();
  });
});

describe('a daemon whose disk is full', function () {
  this.timeout(600_000);
  let rig: SurvivalRig;
  let folder: string;

  before(async () => {
    folder = mkdtempSync(path.join(tmpdir(), 'vnic-full-'));
    mkdirSync(path.join(folder, 'state'));
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=512k', 'tmpfs', path.join(folder, 'state')]);
    rig = await SurvivalRig.start('full', { folder });
    await rig.attach({ azs: firstAsked.azs, rules: [{ id: 1, action: 'drop', match: { src: '10.0.0.1' } }] });
  });
  after(async () => {
    await rig?.[Symbol.asyncDispose]();
    execFileSync('umount', ['--lazy', path.join(folder, 'state')]);
    rmSync(folder, { recursive: true, force: true });
  });

  /** Takes all the space that is left. */
  function fill(): void {
    const file = path.join(folder, 'state', 'ballast');
    for (const bytes of [1 << 16, 1 << 12]) {
      try {
        for (;;) writeFileSync(file, new Uint8Array(bytes), { flag: 'a' });
      } catch (error) {
        assert.equal((error as NodeJS.ErrnoException).code, 'ENOSPC');
      }
    }
  }

  it('refuses changes with a clear problem, loses nothing, and works again when there is space', async () => {
    assert.equal((await rig.putRule(2)).status, 201);
    const before = await rig.status();
    fill();
    const writes: [method: string, rest: string, body?: unknown][] = [
      ['PUT', '/rules/3', { action: 'drop' }],
      ['DELETE', '/rules/1'],
      ['PUT', '/rules', [{ id: 9, action: 'drop' }]],
      ['POST', '/azs/az-a/fail'],
      ['PUT', '/azs/az-a', { queues: '0-3' }],
    ];
    const expectOld = async (): Promise<void> => {
      assert.deepEqual(await rig.ruleIds(), [1, 2]);
      const { drift, azs, rules, activeTable, ruleGeneration } = await rig.status();
      assert.deepEqual(drift, []);
      assert.deepEqual(
        { azs, rules, activeTable, ruleGeneration },
        {
          azs: before.azs,
          rules: before.rules,
          activeTable: before.activeTable,
          ruleGeneration: before.ruleGeneration,
        },
      );
      using dataplane = rig.dataplane();
      const asked = { ...firstAsked, rules: new Map([1, 2].map((id) => [id, ruleOf(id)])) };
      expectRules(dataplane, parsedRules(asked), parsedAzs(asked), 'full disk');
      expectTable(dataplane, queuesInUse(asked), 3, 'full disk');
    };
    for (const [method, rest, body] of writes) {
      const reply = await rig.send(method, rig.url(rest), body === undefined ? {} : { body });
      assert.equal(reply.status, 500, `${method} ${rest}: ${reply.text}`);
      const { code, detail, remedy } = reply.json<{ code: string; detail: string; remedy: string }>();
      assert.equal(code, 'failed');
      assert.match(detail, /ENOSPC/);
      assert.match(remedy, /space/);
      await expectOld();
    }
    // Not even a restart needs space.
    await rig.daemon.kill();
    await rig.daemon.run();
    await expectOld();
    assert.equal((await rig.send('DELETE', rig.url('/rules/1'))).status, 500);

    rmSync(path.join(folder, 'state', 'ballast'));
    assert.equal((await rig.putRule(3)).status, 201);
    assert.ok((await rig.send('POST', rig.url('/azs/az-a/fail'))).status < 300);
    await rig.daemon.kill();
    await rig.daemon.run();
    assert.deepEqual(await rig.ruleIds(), [1, 2, 3]);
    assert.equal((await rig.status()).azs[0]?.state, 'failed');
    assert.deepEqual((await rig.status()).drift, []);
    assert.deepEqual(rig.events('state.damaged'), []);
  });

  function ruleOf(id: number): { id: number; action: string; match?: { src: string } } {
    return { id, action: 'drop', ...(id === 1 ? { match: { src: '10.0.0.1' } } : {}) };
  }
});
