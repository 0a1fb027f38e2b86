// SPDX-License-Identifier: Apache-2.0
/** The records of devices: what is kept, counted and cleared away. */
import assert from 'node:assert/strict';
import { linkSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { type DamageReport, RECORD_VERSION, RecordStore, recordConfig } from '../../src/app/record.ts';
import { sealText } from '../../src/app/records/format.ts';
import type { DeviceId } from '../../src/loader/pins.ts';
import { failoverCauses } from '../../src/telemetry/metrics/switches.ts';
import { asked, eth0, recordNumber, ruleInputs } from '../support/records.ts';
import { thrownBy } from '../support/thrown.ts';

describe('device records', () => {
  let stateFolder: string;
  let folder: string;
  let reports: DamageReport[];
  let store: RecordStore;

  const open = (): RecordStore => new RecordStore(stateFolder, (report) => reports.push(report));
  const rulesFiles = (device = 'eth0'): string[] =>
    readdirSync(folder).filter((name) => name.startsWith(`${device}.rules-`));

  beforeEach(() => {
    stateFolder = mkdtempSync(path.join(tmpdir(), 'vnic-record-'));
    folder = path.join(stateFolder, 'devices');
    reports = [];
    store = open();
  });
  afterEach(() => {
    assert.deepEqual(
      readdirSync(stateFolder).includes('devices') ? readdirSync(folder).filter((name) => name.endsWith('.tmp')) : [],
      [],
    );
    rmSync(stateFolder, { recursive: true });
  });

  it('are read back as they were written, with rules, without, and with no list of rules at all', () => {
    for (const [n, rules] of [ruleInputs(1, 3), [], undefined].entries()) {
      const record = recordNumber(n, rules ?? []);
      if (rules === undefined) delete record.spec.rules;
      const written = store.write(record);
      assert.deepEqual(open().read(eth0), written);
      assert.deepEqual(asked(written), record);
    }
    assert.deepEqual(reports, []);
  });

  it('keep by what each AZ was failed, and what was rebalanced and when', () => {
    const since = new Date(1000).toISOString();
    const failedAzs = failoverCauses.map((cause) => ({ name: cause, cause, since, evidence: `by ${cause}` }));
    const record = { ...recordNumber(1, []), failedAzs, homeMoves: ['17:3', '', '0:1 4095:2'], lastRebalance: since };
    const written = store.write(record);
    assert.deepEqual(open().read(eth0), written);
    assert.deepEqual(asked(written), record);
  });

  it('are JSON with the record in it, and one rule a line', () => {
    const { rulesSha256 } = store.write(recordNumber(1, ruleInputs(1, 3)));
    const text = JSON.parse(readFileSync(path.join(folder, 'eth0.json'), 'utf8')) as { record: { mac: string } };
    assert.equal(text.record.mac, '02:00:00:00:00:01');
    const lines = readFileSync(path.join(folder, `eth0.rules-${rulesSha256}.ndjson`), 'utf8')
      .trimEnd()
      .split('\n');
    assert.deepEqual(
      lines.map((line) => JSON.parse(line) as unknown),
      ruleInputs(1, 3),
    );
  });

  it('are null for a device that has none', () => {
    assert.equal(store.read(eth0), null);
    assert.deepEqual(store.devices(), []);
    assert.deepEqual(store.damaged(eth0), []);
    store.promote(eth0);
    store.dropStaged(eth0);
    store.remove(eth0);
    assert.equal(readdirSync(stateFolder).length, 0, 'something was written');
  });

  it('count each write, and the rules only when they change', () => {
    const rules = ruleInputs(1, 3);
    const counted: [number, number][] = [];
    for (const set of [rules, rules, ruleInputs(1, 3), ruleInputs(2, 3), ruleInputs(1, 3)]) {
      // Each by another process, as the command line does it.
      const { changeId, rulesRevision } = open().write(recordNumber(1, set));
      counted.push([changeId, rulesRevision]);
    }
    assert.deepEqual(counted, [
      [1, 1],
      [2, 1],
      [3, 1],
      [4, 2],
      [5, 3],
    ]);
    assert.equal(store.write({ ...recordNumber(1, rules), rulesRevision: 9 }).rulesRevision, 9);
    store.remove(eth0);
    const again = store.write(recordNumber(1, ruleInputs(3, 1)));
    assert.deepEqual([again.changeId, again.rulesRevision], [7, 10], 'numbers came again');
  });

  it('of 100,000 rules stay as they are on disk when an AZ fails', function () {
    this.timeout(60_000);
    const rules = ruleInputs(1, 100_000);
    const written = store.write(recordNumber(1, rules));
    const file = path.join(folder, rulesFiles()[0]!);
    const before = statSync(file, { bigint: true });
    store.write({ ...written, failedAzs: [] });
    // Also where the list was made anew.
    store.write({ ...recordNumber(3, structuredClone(rules)), failedAzs: [] });
    const after = statSync(file, { bigint: true });
    assert.deepEqual([after.ino, after.mtimeNs, after.ctimeNs], [before.ino, before.mtimeNs, before.ctimeNs]);
    assert.equal(rulesFiles().length, 1);
    assert.ok(statSync(path.join(folder, 'eth0.json')).size < 1500);
    assert.deepEqual(store.read(eth0)?.spec.rules, rules);
  });

  it('keep the rules that the current, the previous and the staged record name, and no others', () => {
    const named = (...sets: number[]): string[] =>
      sets.map((set) => store.stage(recordNumber(0, ruleInputs(set, 2), { name: 'probe', netns: null })).rulesSha256);
    const kept = (): Set<string> => new Set(rulesFiles().map((name) => /rules-(\w+)/.exec(name)![1]!));
    store.write(recordNumber(1, ruleInputs(1, 2)));
    store.write(recordNumber(2, ruleInputs(2, 2)));
    assert.deepEqual(kept(), new Set(named(1, 2)));
    store.stage(recordNumber(3, ruleInputs(3, 2)));
    assert.deepEqual(kept(), new Set(named(1, 2, 3)));
    store.write(recordNumber(4, ruleInputs(4, 2)));
    assert.deepEqual(kept(), new Set(named(2, 4, 3)));
    store.dropStaged(eth0);
    assert.deepEqual(kept(), new Set(named(2, 4)));
    store.write(recordNumber(5, []));
    assert.deepEqual(kept(), new Set(named(4)));
    store.remove(eth0);
    assert.deepEqual(kept(), new Set());
  });

  it('of an attach under way are beside the one in force until they are put in its place', () => {
    const first = store.write(recordNumber(1, ruleInputs(1, 2)));
    const staged = store.stage(recordNumber(2, ruleInputs(2, 2)));
    assert.deepEqual(open().read(eth0), first);
    assert.deepEqual(open().readStaged(eth0), staged);
    store.promote(eth0);
    assert.deepEqual(open().read(eth0), staged);
    assert.equal(store.readStaged(eth0), null);
    writeFileSync(path.join(folder, 'eth0.json'), 'x');
    assert.deepEqual(asked(open().read(eth0)), asked(first), 'promoting did not keep the record before it');
    store.stage(recordNumber(3, []));
    store.dropStaged(eth0);
    assert.equal(store.readStaged(eth0), null);
  });

  it('of an attach under way are not put in force when they are damaged', () => {
    const first = store.write(recordNumber(1, ruleInputs(1, 2)));
    const { rulesSha256 } = store.stage(recordNumber(2, ruleInputs(2, 2)));
    writeFileSync(path.join(folder, `eth0.rules-${rulesSha256}.ndjson`), 'x');
    assert.equal(store.readStaged(eth0), null);
    assert.equal(thrownBy(() => store.promote(eth0)).code, 'state_damaged');
    assert.deepEqual(store.read(eth0), first);
    assert.deepEqual(
      reports.map(({ used }) => used),
      ['none'],
    );
    assert.equal(store.damaged(eth0).length, 2);
    store.promote(eth0);
  });

  it('of version 1 are read, and become version 2 with the next write', () => {
    const { settings, spec, failedAzs, device, mac } = recordNumber(1, ruleInputs(1, 2));
    const old = { version: 1, device, mac, settings, spec, failedAzs, ruleGeneration: 7, clsactMade: true };
    mkdirSync(folder);
    writeFileSync(path.join(folder, 'eth0.json'), `${JSON.stringify(old)}\n`);
    const read = store.read(eth0)!;
    const { version: _, ...same } = old;
    assert.deepEqual(read, {
      ...same,
      version: RECORD_VERSION,
      rulesRevision: 1,
      changeId: 0,
      configSha256: null,
      objectSha256: '',
      rulesSha256: read.rulesSha256,
    });
    const written = store.write({ ...read, failedAzs: [] });
    assert.deepEqual([written.changeId, written.rulesRevision], [1, 1]);
    assert.deepEqual(open().read(eth0), written);
    writeFileSync(path.join(folder, 'eth0.json'), 'x');
    assert.deepEqual(asked(open().read(eth0)), asked(read), 'the one of version 1 was not kept as the previous one');
    assert.equal(reports.length, 1);
  });

  it('of a later version are refused and left alone', () => {
    mkdirSync(folder);
    const text = sealText({ version: RECORD_VERSION + 1, novelty: true });
    writeFileSync(path.join(folder, 'eth0.json'), text);
    assert.equal(thrownBy(() => store.read(eth0)).code, 'abi_mismatch');
    assert.equal(thrownBy(() => store.write(recordNumber(1, []))).code, 'abi_mismatch');
    assert.deepEqual(readdirSync(folder), ['eth0.json']);
    assert.deepEqual(readFileSync(path.join(folder, 'eth0.json')), text);
  });

  it('of several devices do not touch each other', () => {
    const devices: DeviceId[] = [eth0, { name: 'eth0', netns: 'blue' }, { name: 'eth0.json', netns: null }];
    const rules = ruleInputs(1, 2);
    const written = devices.map((device, n) => store.write(recordNumber(n, rules, device)));
    const [first, second, third] = written;
    store.write(recordNumber(9, ruleInputs(2, 2)));
    store.write(recordNumber(10, ruleInputs(3, 2)));
    writeFileSync(path.join(folder, 'eth0.json'), 'x');
    assert.equal(store.read(eth0)?.ruleGeneration, 9);
    assert.deepEqual(store.read(second!.device), second);
    assert.deepEqual(store.read(third!.device), third);
    assert.deepEqual(new Set(store.devices()), new Set(devices));
    assert.deepEqual([store.damaged(second!.device), store.damaged(third!.device)], [[], []]);
    store.remove(eth0);
    assert.deepEqual(open().read(second!.device), second);
    assert.deepEqual(open().read(third!.device), third);
    assert.equal(first!.changeId, 1);
    assert.equal(second!.changeId, 1);
  });

  it('that would not be read back are not written', () => {
    const written = store.write(recordNumber(1, []));
    const bad = { ...recordNumber(2, []), ruleGeneration: -1 };
    const error = thrownBy(() => store.write(bad));
    assert.equal(error.code, 'failed');
    assert.match(error.message, /ruleGeneration/);
    assert.deepEqual(store.read(eth0), written);
  });

  it('tell their fields without the rules being read', () => {
    const { spec: _, ...fields } = store.write(recordNumber(1, ruleInputs(1, 2)));
    assert.deepEqual(open().peek(eth0), fields);
    assert.equal(open().peek({ name: 'eth1', netns: null }), null);
    rmSync(path.join(folder, rulesFiles()[0]!));
    assert.deepEqual(open().peek(eth0), fields);
    store.write(recordNumber(2, ruleInputs(1, 2)));
    writeFileSync(path.join(folder, 'eth0.json'), 'x');
    assert.equal(open().peek(eth0)?.ruleGeneration, 1);
    assert.equal(reports.length, 1);
  });

  it('are parsed once for all who ask for their configuration', () => {
    const record = store.write(recordNumber(1, ruleInputs(1, 2)));
    const same = { ...record, failedAzs: [] };
    assert.equal(recordConfig(record), recordConfig(same));
    assert.equal(recordConfig(record).rules[1]?.id, 2);
  });

  it('do not rely on rules that lie about from earlier', () => {
    const { rulesSha256 } = store.write(recordNumber(1, ruleInputs(1, 2)));
    store.write(recordNumber(2, ruleInputs(2, 2)));
    writeFileSync(path.join(folder, `eth0.rules-${rulesSha256}.ndjson`), 'damage');
    const written = store.write(recordNumber(3, ruleInputs(1, 2)));
    assert.deepEqual(open().read(eth0), written);
    assert.deepEqual(reports, []);
  });

  it('are written also where a killed writer made the current record the previous one, and no more', () => {
    store.write(recordNumber(1, []));
    linkSync(path.join(folder, 'eth0.json'), path.join(folder, 'eth0.json.previous'));
    const written = open().write(recordNumber(2, []));
    assert.deepEqual(open().read(eth0), written);
    assert.deepEqual(readdirSync(folder).sort(), ['eth0.json', 'eth0.json.previous']);
    writeFileSync(path.join(folder, 'eth0.json'), 'x');
    assert.deepEqual(asked(open().read(eth0)), recordNumber(1, []));
  });

  it('clear away temporary files and rules of writers that were killed, and of nobody else', () => {
    store.write(recordNumber(1, ruleInputs(1, 2)));
    const start = readFileSync('/proc/1/stat', 'latin1').split(') ')[1]!.split(' ')[19];
    const alive = `eth0.json.1-${start}.tmp`;
    const orphan = `blue.rules-${'0'.repeat(64)}.ndjson`;
    for (const name of ['eth0.json.999999999-1.tmp', 'blue.json.previous.1-1.tmp', alive, orphan, 'notes.txt']) {
      writeFileSync(path.join(folder, name), 'x');
    }
    const before = readdirSync(folder);
    open().read(eth0);
    assert.deepEqual(readdirSync(folder), before, 'reading cleared away');
    open().write(recordNumber(2, ruleInputs(1, 2)));
    const left = readdirSync(folder);
    const gone = new Set(before.filter((name) => !left.includes(name)));
    assert.deepEqual(gone, new Set(['eth0.json.999999999-1.tmp', 'blue.json.previous.1-1.tmp', orphan]));
    rmSync(path.join(folder, alive));
  });
});
