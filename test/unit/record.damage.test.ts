// SPDX-License-Identifier: Apache-2.0
/** Damaged records: found whatever the damage is, kept, and replaced by the record before. */
import assert from 'node:assert/strict';
import { isDeepStrictEqual } from 'node:util';
import fc from 'fast-check';
import { sealText, unsealText } from '../../src/app/records/format.ts';
import { VnicError } from '../../src/errors.ts';
import { asked, eth0, MemoryFiles, openStore, recordNumber, ruleInputs } from '../support/records.ts';
import { thrownBy } from '../support/thrown.ts';

const CURRENT = 'eth0.json';
const older = recordNumber(1, ruleInputs(1, 2));
const newer = recordNumber(2, ruleInputs(2, 2));

/** A folder with these records written one after the other. */
function written(...records: ReturnType<typeof recordNumber>[]): MemoryFiles {
  const files = new MemoryFiles();
  for (const record of records) openStore(files).store.write(record);
  return files;
}

function rulesOf(files: MemoryFiles, record: typeof older): string {
  const { rulesSha256 } = openStore(new MemoryFiles()).store.write(record);
  return files.names().find((name) => name.includes(rulesSha256))!;
}

function copyWith(files: MemoryFiles, name: string, contents: Buffer): MemoryFiles {
  return new MemoryFiles([...files.entries, [name, contents]]);
}

/** Every file that is shorter, and every one with one bit changed. */
function* damages(contents: Buffer): Generator<Buffer> {
  for (let length = 0; length < contents.length; length++) yield contents.subarray(0, length);
  for (let bit = 0; bit < contents.length * 8; bit++) {
    const flipped = Buffer.from(contents);
    flipped[bit >> 3]! ^= 1 << (bit & 7);
    yield flipped;
  }
}

/** The previous record is used, once reported, and stays in force; the damaged file is kept as it is. */
function expectPrevious(files: MemoryFiles, name: string): void {
  const contents = files.read(name);
  const { store, reports } = openStore(files);
  const read = store.read(eth0);
  assert.deepEqual(asked(read), older);
  const [report] = reports;
  assert.equal(reports.length, 1);
  assert.deepEqual([report?.device, report?.file, report?.used], [eth0, files.pathOf(name), 'previous']);
  assert.deepEqual(files.read(report!.keptAs!.slice('/state/'.length)), contents);
  assert.ok(store.damaged(eth0).includes(report!.keptAs!));
  const again = openStore(files);
  assert.deepEqual(again.store.read(eth0), read);
  assert.deepEqual(again.reports, []);
}

function expectNothing(files: MemoryFiles, name: string): void {
  const contents = files.read(name);
  const { store, reports } = openStore(files);
  const error = thrownBy(() => store.read(eth0));
  assert.equal(error.code, 'state_damaged');
  const { keptAs, used } = reports.find(({ file }) => file === files.pathOf(name))!;
  assert.equal(used, 'none');
  assert.deepEqual(files.read(keptAs!.slice('/state/'.length)), contents);
  assert.ok(error.message.includes(`moved to ${keptAs}`), error.message);
  assert.equal(openStore(files).store.read(eth0), null);
}

describe('damaged device records', function () {
  this.timeout(120_000);

  it('cut off at any byte or with any bit changed give way to the one before', () => {
    const files = written(older, newer);
    for (const damage of damages(files.read(CURRENT)!)) expectPrevious(copyWith(files, CURRENT, damage), CURRENT);
  });

  it('give way to the one before when their rules are cut off or changed', () => {
    const files = written(older, newer);
    const rules = rulesOf(files, newer);
    for (const damage of damages(files.read(rules)!)) expectPrevious(copyWith(files, rules, damage), rules);
  });

  it('are state_damaged and kept where there is none before', () => {
    const files = written(newer);
    const rules = rulesOf(files, newer);
    for (const damage of damages(files.read(CURRENT)!)) expectNothing(copyWith(files, CURRENT, damage), CURRENT);
    for (const damage of damages(files.read(rules)!)) expectNothing(copyWith(files, rules, damage), rules);
  });

  it('are state_damaged where the one before has the same rules, and those are damaged', () => {
    const files = written(recordNumber(1, newer.spec.rules!), newer);
    const rules = rulesOf(files, newer);
    expectNothing(copyWith(files, rules, Buffer.from('{}\n')), rules);
  });

  it('are replaced where a file is missing', () => {
    for (const name of [CURRENT, rulesOf(written(older, newer), newer)]) {
      const files = written(older, newer);
      files.entries.delete(name);
      const { store, reports } = openStore(files);
      assert.deepEqual(asked(store.read(eth0)), older);
      assert.deepEqual(
        reports.map(({ file, keptAs, used }) => ({ file, keptAs, used })),
        [{ file: files.pathOf(name), keptAs: null, used: 'previous' }],
      );
    }
  });

  it('are all kept, however often and however fast it happens', () => {
    const files = written(older, newer);
    const bad = [1, 2, 3, 4].map((n) => Buffer.from(`damage ${n}`));
    for (const contents of bad) {
      files.entries.set(CURRENT, contents);
      openStore(files).store.read(eth0);
    }
    const kept = openStore(files).store.damaged(eth0);
    assert.deepEqual(
      new Set(kept.map((file) => files.read(file.slice('/state/'.length))?.toString())),
      new Set(bad.map(String)),
    );
  });

  it('are noticed by a writer, do not become the previous record, and are kept', () => {
    const files = written(older, newer);
    files.entries.set(CURRENT, Buffer.from('x'));
    const { store, reports } = openStore(files);
    store.write(recordNumber(3, ruleInputs(3, 2)));
    assert.deepEqual(
      reports.map(({ used }) => used),
      ['written'],
    );
    assert.equal(store.damaged(eth0).length, 1);
    files.entries.set(CURRENT, Buffer.from('y'));
    assert.deepEqual(asked(store.read(eth0)), older);
  });

  it('do not let numbers come again: who saw the lost record sees a change', () => {
    const files = written(older, newer);
    const lost = openStore(files).store.read(eth0)!;
    files.entries.set(CURRENT, Buffer.from('x'));
    const restored = openStore(files).store.read(eth0)!;
    assert.ok(restored.changeId > lost.changeId);
    assert.ok(restored.rulesRevision > lost.rulesRevision);
  });

  it('do not keep the one before from being used where the folder cannot be written', () => {
    const files = written(older, newer);
    files.entries.set(CURRENT, Buffer.from('x'));
    for (let changes = 0; changes < 8; changes++) {
      const copy = new MemoryFiles(files.entries);
      copy.changesLeft = changes;
      const { store, reports } = openStore(copy);
      assert.deepEqual(asked(store.read(eth0)), older);
      assert.equal(reports[0]?.used, 'previous');
    }
  });

  it('lose nothing and leave nothing behind where putting the one before in force fails half-way', () => {
    for (const name of [CURRENT, rulesOf(written(older, newer), newer)]) {
      for (let changes = 0; changes < 16; changes++) {
        const files = copyWith(written(older, newer), name, Buffer.from('damage'));
        files.changesUntilFull = changes;
        assert.deepEqual(asked(openStore(files).store.read(eth0)), older);
        assert.deepEqual(asked(openStore(files).store.read(eth0)), older);
        assert.ok(
          [...files.entries.values()].some((contents) => contents.toString() === 'damage'),
          `lost when change ${changes} failed`,
        );
        assert.deepEqual(
          files.names().filter((left) => left.endsWith('.tmp')),
          [],
        );
      }
    }
  });

  it('never give a record that was not written, whatever is done to the files', () => {
    const third = recordNumber(3, newer.spec.rules!);
    const other = recordNumber(4, ruleInputs(4, 1), { name: 'eth1', netns: null });
    const files = written(older, newer, third, other);
    const edit = fc.record({
      file: fc.nat(),
      from: fc.nat(),
      length: fc.oneof(fc.constant(0), fc.nat(8), fc.nat()),
      insert: fc.oneof(
        fc.uint8Array({ maxLength: 8 }),
        fc
          .string({ maxLength: 8, unit: fc.constantFrom(...'{ } [ ] " , : 0 1 2 9 a e f'.split(' ')) })
          .map((text) => Buffer.from(text)),
      ),
      copyOf: fc.option(fc.nat(), { freq: 4 }),
    });
    fc.assert(
      fc.property(fc.array(edit, { minLength: 1, maxLength: 4 }), (edits) => {
        const copy = new MemoryFiles(files.entries);
        const names = copy.names();
        for (const { file, from, length, insert, copyOf } of edits) {
          const name = names[file % names.length]!;
          const contents = copyOf === null ? copy.read(name)! : copy.read(names[copyOf % names.length]!)!;
          const at = from % (contents.length + 1);
          const edited = Buffer.concat([contents.subarray(0, at), insert, contents.subarray(at + length)]);
          copy.entries.set(name, copyOf === null ? edited : contents);
        }
        try {
          const read = asked(openStore(copy).store.read(eth0));
          assert.ok(read !== null);
          assert.ok(
            [older, newer, third].some((record) => isDeepStrictEqual(record, read)),
            JSON.stringify(read),
          );
        } catch (error) {
          if (!(error instanceof VnicError && error.code === 'state_damaged')) throw error;
        }
      }),
      { numRuns: 3000 },
    );
  });

  it('are found where a hand has put nonsense into a field and a right checksum beside it', () => {
    const files = written(older, newer);
    const change = (where: string, value: unknown): Buffer => {
      const record = unsealText(files.read(CURRENT)!) as Record<string, unknown>;
      const path = where.split('.');
      const field = path.pop()!;
      let holder = record;
      for (const part of path) holder = holder[part] as Record<string, unknown>;
      if (value === undefined) delete holder[field];
      else holder[field] = value;
      return sealText(record);
    };
    const nonsense: [string, ...unknown[]][] = [
      ['version', 1, 0, '2', null, undefined],
      ['changeId', -1, 0, 1.5, '3', undefined],
      ['device', null, 'eth0', undefined],
      ['device.name', '', 'eth1', 'a/b', 7],
      ['device.netns', '', 'blue', undefined],
      ['mac', 'x', null, 7],
      ['settings', null, [], undefined],
      ['settings.mode', 'offload', undefined],
      ['settings.egress', 'xdp', undefined],
      ['settings.queues', 0, 3, 65, '4', undefined],
      ['settings.queueCpus', null, [0, 1], [0, 1, 0, -1], [0, 1, 0, '1'], [0, 1, 0, 1.5]],
      ['settings.maxFlows', 0, -1, 2 ** 32, undefined],
      ['settings.maxRules', 0, 1, 1.5, undefined],
      ['settings.hashSeed', -1, 2 ** 32, null],
      ['settings.deliverMetadata', 0, undefined],
      ['settings.cpuQueueSize', 0, undefined],
      ['settings.colour', 'red'],
      ['spec', null, [], 'x', undefined],
      ['spec.num_queues', 0, 'x'],
      ['spec.azs', {}, [{ name: 'az' }], [{ name: 'az', queues: '9' }], [{ name: 'az', queues: '0', colour: 1 }]],
      ['spec.rules', []],
      ['rules', undefined, 'x', { sha256: 'x', count: 1 }, { sha256: '0'.repeat(64), count: 1 }],
      ['rules.count', 1, 3, 0, -1],
      ['rulesRevision', 0, -1, '1', undefined],
      ['failedAzs', null, {}, ['az'], [{ name: 'az', cause: 'manual', since: 'yesterday' }]],
      ['failedAzs.0.cause', 'mood', undefined],
      ['homeMoves', null, 'x', [1], ['17:99'], ['9:1 8:1']],
      ['lastRebalance', null, 'yesterday', 7],
      ['ruleGeneration', -1, 2 ** 32, 'x', undefined],
      ['clsactMade', 'yes', undefined],
      ['configSha256', '', 'abc', undefined],
      ['objectSha256', 'abc', null, undefined],
      ['colour', 'red'],
    ];
    for (const [where, ...values] of nonsense) {
      for (const value of values) {
        const copy = copyWith(files, CURRENT, change(where, value));
        const { store, reports } = openStore(copy);
        assert.deepEqual(asked(store.read(eth0)), older, `${where}: ${JSON.stringify(value)} was accepted`);
        assert.equal(reports.length, 1);
      }
    }
    const same = openStore(copyWith(files, CURRENT, change('clsactMade', false)));
    assert.deepEqual(
      asked(same.store.read(eth0)),
      newer,
      'the unchanged record is not accepted, so nothing was tested',
    );
  });

  it('of version 1 are found by their syntax and their fields', () => {
    const { settings, spec, failedAzs, device, mac } = older;
    const old = { version: 1, device, mac, settings, spec, failedAzs, ruleGeneration: 7, clsactMade: true };
    const text = (value: unknown): Buffer => Buffer.from(JSON.stringify(value));
    assert.equal(openStore(new MemoryFiles([[CURRENT, text(old)]])).store.read(eth0)?.ruleGeneration, 7);
    const bad: unknown[] = [
      { ...old, changeId: 1 },
      { ...old, clsactMade: 1 },
      { ...old, spec: { rules: 'all' } },
      { ...old, spec: { rules: ['all'] } },
      { ...old, spec: { rules: [{ id: 1 }] } },
      { ...old, spec: { rules: [{ id: 1, action: 'drop', queues: [4] }] } },
      { ...old, spec: { colour: 'red' } },
      { ...old, version: undefined },
      [old],
      null,
    ];
    for (const value of bad) expectNothing(new MemoryFiles([[CURRENT, text(value)]]), CURRENT);
    expectNothing(new MemoryFiles([[CURRENT, text(old).subarray(0, -1)]]), CURRENT);
  });
});
