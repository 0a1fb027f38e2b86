// SPDX-License-Identifier: Apache-2.0
/** Records on a disk that is full or may not be written. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { type DamageReport, RecordStore } from '../../src/app/record.ts';
import { asked, eth0, recordNumber, ruleInputs } from '../support/records.ts';
import { thrownBy } from '../support/thrown.ts';

function run(...args: string[]): void {
  const { status, stderr } = spawnSync(args[0]!, args.slice(1), { encoding: 'utf8' });
  assert.equal(status, 0, `${args.join(' ')}: ${stderr}`);
}

describe('device records on a small disk', () => {
  let disk: string;
  let reports: DamageReport[];
  const open = (): RecordStore => new RecordStore(disk, (report) => reports.push(report));
  const files = (): string[] => readdirSync(path.join(disk, 'devices')).sort();

  beforeEach(() => {
    disk = mkdtempSync(path.join(tmpdir(), 'vnic-disk-'));
    run('mount', '-t', 'tmpfs', '-o', 'size=64k', 'vnic-disk', disk);
    reports = [];
  });
  afterEach(() => {
    run('umount', disk);
    rmdirSync(disk);
  });

  it('stay in force when the disk is full, with one error that says so; writing goes on when there is space', () => {
    const store = open();
    const record = store.write(recordNumber(1, ruleInputs(1, 50)));
    const before = files();
    const error = thrownBy(() => store.write(recordNumber(2, ruleInputs(2, 1000))));
    assert.equal(error.code, 'failed');
    assert.match(error.message, /record of eth0 could not be written to .*no space left on device/);
    assert.match(error.remedy ?? '', /space/);
    assert.deepEqual(files(), before, 'something of it was left');
    assert.deepEqual(open().read(eth0), record);

    // Room for the rules, but not for the record that names them.
    const filler = path.join(disk, 'filler');
    const rules = ruleInputs(3, 30);
    for (let kib = 0; ; kib += 4) {
      assert.ok(kib < 64, 'the disk was never full');
      try {
        store.write(recordNumber(3, rules));
        store.write(recordNumber(1, record.spec.rules!));
      } catch (full) {
        assert.equal((full as { code?: unknown }).code, 'failed');
        break;
      }
      writeFileSync(filler, Buffer.alloc(1024 * (kib + 4)));
    }
    assert.ok([1, 3].includes(open().read(eth0)!.ruleGeneration));
    assert.deepEqual(
      files().filter((name) => name.endsWith('.tmp')),
      [],
    );
    rmSync(filler);
    store.write(recordNumber(4, rules));
    assert.equal(open().read(eth0)?.ruleGeneration, 4);
    assert.deepEqual(reports, []);
  });

  it('are read from a full disk, the one before if need be, and nothing is left lying about', () => {
    const older = recordNumber(1, ruleInputs(1, 2));
    open().write(older);
    open().write(recordNumber(2, ruleInputs(2, 2)));
    const damaged = path.join(disk, 'devices', 'eth0.json');
    writeFileSync(damaged, 'x');
    const filler = path.join(disk, 'filler');
    assert.throws(() => writeFileSync(filler, Buffer.alloc(65_536)), /ENOSPC/);
    const before = files();
    for (let times = 0; times < 2; times++) {
      assert.deepEqual(asked(open().read(eth0)), older);
      assert.deepEqual(files(), before);
    }
    rmSync(filler);
    assert.deepEqual(asked(open().read(eth0)), older);
    assert.deepEqual(
      reports.map(({ keptAs }) => keptAs !== null),
      [false, false, true],
    );
  });

  it('are read from a disk that may not be written, the one before if need be', () => {
    const older = recordNumber(1, ruleInputs(1, 2));
    open().write(older);
    const newer = open().write(recordNumber(2, ruleInputs(2, 2)));
    run('mount', '-o', 'remount,ro', disk);
    const error = thrownBy(() => open().write(recordNumber(3, [])));
    assert.equal(error.code, 'failed');
    assert.match(error.message, /read-only file system/);
    assert.deepEqual(open().read(eth0), newer);

    run('mount', '-o', 'remount,rw', disk);
    const damaged = path.join(disk, 'devices', 'eth0.json');
    writeFileSync(damaged, 'x');
    run('mount', '-o', 'remount,ro', disk);
    assert.deepEqual(asked(open().read(eth0)), older);
    assert.deepEqual(
      reports.map(({ file, keptAs, used }) => ({ file, keptAs, used })),
      [{ file: damaged, keptAs: null, used: 'previous' }],
    );
    run('mount', '-o', 'remount,rw', disk);
    assert.deepEqual(asked(open().read(eth0)), older);
    assert.equal(reports[1]?.used, 'previous');
    assert.deepEqual(open().damaged(eth0), [reports[1]?.keptAs]);
  });
});
