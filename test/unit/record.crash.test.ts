// SPDX-License-Identifier: Apache-2.0
/** Records when the power goes or the writer is killed: what was acknowledged is there, and nothing is damaged. */
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { isDeepStrictEqual } from 'node:util';
import fc from 'fast-check';
import { type DamageReport, type RecordDraft, RecordStore } from '../../src/app/record.ts';
import { VnicError } from '../../src/errors.ts';
import type { DeviceId } from '../../src/loader/pins.ts';
import { asked, eth0, MemoryFiles, openStore, PowerLoss, recordNumber, ruleInputs } from '../support/records.ts';
import { skip } from '../support/skip.ts';

const KILLS = 30;
const child = path.join(import.meta.dirname, '../support/record-child.ts');
const devices: readonly DeviceId[] = [eth0, { name: 'eth1', netns: 'blue' }];

type Step = { kind: 'write' | 'stage' | 'promote' | 'dropStaged' | 'remove'; device: number; rules: number };

interface Kept {
  current: RecordDraft | null;
  staged: RecordDraft | null;
}

/** What is kept after a step, and the change that it asks of the store. */
function perform(
  store: RecordStore,
  kept: Kept,
  { kind, device, rules }: Step,
  n: number,
): { next: Kept; run: () => void } {
  const id = devices[device]!;
  const record = recordNumber(n, ruleInputs(rules, rules), id);
  switch (kind) {
    case 'write':
      return { next: { ...kept, current: record }, run: () => void store.write(record) };
    case 'stage':
      return { next: { ...kept, staged: record }, run: () => void store.stage(record) };
    case 'promote':
      return {
        next: { current: kept.staged ?? kept.current, staged: null },
        run: () => store.promote(id),
      };
    case 'dropStaged':
      return { next: { ...kept, staged: null }, run: () => store.dropStaged(id) };
    case 'remove':
      return { next: { ...kept, current: null }, run: () => store.remove(id) };
  }
}

const step: fc.Arbitrary<Step> = fc.record({
  kind: fc.constantFrom('write', 'write', 'write', 'stage', 'promote', 'dropStaged', 'remove'),
  device: fc.nat(1),
  rules: fc.nat(3),
});

describe('device records and a disk that fills up', () => {
  it('are the old ones, with nothing left of the new, at whatever change of a write it is full', () => {
    const outcomes = new Set<string>();
    for (let changes = 0; changes < 16; changes++) {
      const files = new MemoryFiles();
      openStore(files).store.write(recordNumber(1, ruleInputs(1, 2)));
      const { store } = openStore(files);
      const second = store.write(recordNumber(2, ruleInputs(2, 2)));
      const before = files.names();
      files.changesUntilFull = changes;
      const third = recordNumber(3, ruleInputs(3, 2));
      const error = thrownOrNull(() => store.write(third));
      files.changesUntilFull = Number.POSITIVE_INFINITY;
      const read = openStore(files).store.read(eth0);
      assert.deepEqual(
        files.names().filter((name) => name.endsWith('.tmp')),
        [],
      );
      if (isDeepStrictEqual(asked(read), third)) {
        // In force, but it may not be on disk: that is no success. Old rules that could not be removed are not its concern.
        outcomes.add(error === null ? 'written' : 'in force but not on disk');
        continue;
      }
      outcomes.add('old');
      assert.equal(error?.code, 'failed');
      assert.deepEqual(read, second);
      const left = files.names().filter((name) => !before.includes(name));
      assert.deepEqual(left, [], `left when change ${changes} failed`);
    }
    assert.deepEqual(outcomes, new Set(['old', 'in force but not on disk', 'written']));
  });
});

function thrownOrNull(action: () => unknown): VnicError | null {
  try {
    action();
    return null;
  } catch (error) {
    assert.ok(error instanceof VnicError, String(error));
    return error;
  }
}

describe('device records and a power loss', function () {
  this.timeout(180_000);

  it('are the last acknowledged ones or those in flight, at whatever change the power goes', () => {
    fc.assert(
      fc.property(
        fc.array(step, { minLength: 1, maxLength: 8 }),
        fc.array(fc.tuple(fc.nat(12), fc.infiniteStream(fc.nat(100))), { minLength: 1, maxLength: 4 }),
        (steps, losses) => {
          let files = new MemoryFiles();
          let kept: Kept[] = devices.map(() => ({ current: null, staged: null }));
          let n = 0;
          for (const [changes, picks] of losses) {
            const allowed = kept.map((state) => [state]);
            const { store, reports } = openStore(files);
            files.changesLeft = changes;
            for (const each of steps) {
              const state = kept[each.device]!;
              const { next, run } = perform(store, state, each, ++n);
              try {
                run();
              } catch (error) {
                assert.ok((error as Error).cause instanceof PowerLoss, String(error));
                allowed[each.device] = [state, next];
                break;
              }
              kept = kept.with(each.device, next);
              allowed[each.device] = [next];
            }
            files = files.restarted((choices) => picks.next().value! % choices);
            const after = openStore(files);
            kept = devices.map((device, index) => {
              const found: Kept = {
                current: asked(after.store.read(device)),
                staged: asked(after.store.readStaged(device)),
              };
              // A promotion replaces the one and removes the other: between the two, the staged one is there still.
              const possible = allowed[index]!.flatMap(({ current, staged }) => [
                { current, staged },
                ...(allowed[index]!.length > 1 ? [{ current, staged: found.staged }] : []),
              ]);
              assert.ok(
                possible.some((state) => isDeepStrictEqual(state, found)),
                `${JSON.stringify(found)}, but allowed are ${JSON.stringify(allowed[index])}`,
              );
              return found;
            });
            assert.deepEqual([...reports, ...after.reports], [], 'a power loss was taken for damage');
          }
        },
      ),
      { numRuns: 2000 },
    );
  });

  it('come back whole when it goes while a damaged one is replaced, and the damaged file is not lost', () => {
    const older = recordNumber(1, ruleInputs(1, 2));
    const whole = new MemoryFiles();
    for (const record of [older, recordNumber(2, ruleInputs(2, 2))]) openStore(whole).store.write(record);
    const rules = whole.names().filter((name) => name.includes('.rules-'));
    for (const name of ['eth0.json', ...rules]) {
      if (name !== 'eth0.json' && isOlderRules(whole, name)) continue;
      for (let changes = 0; changes < 12; changes++) {
        fc.assert(
          fc.property(fc.infiniteStream(fc.nat(100)), (picks) => {
            const files = new MemoryFiles([...whole.entries, [name, Buffer.from('damage')]]);
            files.changesLeft = changes;
            openStore(files).store.read(eth0);
            const after = files.restarted((choices) => picks.next().value! % choices);
            assert.deepEqual(asked(openStore(after).store.read(eth0)), older);
            assert.ok([...after.entries.values()].some((contents) => contents.toString() === 'damage'));
          }),
          { numRuns: 100 },
        );
      }
    }
  });

  it('do not lose a damaged one that a write replaces when it goes', () => {
    // The third has no rules: writing them would put names on disk as well.
    const [older, newer, third] = [2, 1, 0].map((count, n) => recordNumber(n, ruleInputs(n, count)));
    const whole = new MemoryFiles();
    for (const record of [older!, newer!]) openStore(whole).store.write(record);
    fc.assert(
      fc.property(fc.nat(14), fc.infiniteStream(fc.nat(100)), (changes, picks) => {
        const files = new MemoryFiles([...whole.entries, ['eth0.json', Buffer.from('damage')]]);
        files.changesLeft = changes;
        const error = thrownOrNull(() => openStore(files).store.write(third!));
        const after = files.restarted((choices) => picks.next().value! % choices);
        assert.ok([...after.entries.values()].some((contents) => contents.toString() === 'damage'));
        const read = asked(openStore(after).store.read(eth0));
        assert.deepEqual(read, error !== null && isDeepStrictEqual(read, older) ? older : third);
      }),
      { numRuns: 1000 },
    );
  });
});

function isOlderRules(files: MemoryFiles, name: string): boolean {
  return files.read(name)!.includes('10.1.');
}

describe('device records of a killed writer', function () {
  this.timeout(180_000);
  let stateFolder: string;
  const reports: DamageReport[] = [];

  beforeEach(() => {
    stateFolder = mkdtempSync(path.join(tmpdir(), 'vnic-record-'));
  });
  afterEach(() => rmSync(stateFolder, { recursive: true }));

  it(`are the last that it acknowledged or the one in flight, ${KILLS} times`, async () => {
    let stored = 0;
    for (let kill = 0; kill < KILLS; kill++) {
      const writer = spawn(process.execPath, [child, stateFolder, String(stored + 1)], {
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      let output = '';
      writer.stdout.setEncoding('utf8').on('data', (text: string) => {
        output += text;
      });
      await once(writer.stdout, 'data');
      await sleep(30 * Math.random());
      writer.kill('SIGKILL');
      await once(writer, 'close');
      const acknowledged = Number(output.slice(0, output.lastIndexOf('\n')).split('\n').at(-1));
      const store = new RecordStore(stateFolder, (report) => reports.push(report));
      const record = store.read(eth0)!;
      assert.ok(acknowledged > stored, output);
      stored = record.changeId;
      assert.ok(
        stored === acknowledged || stored === acknowledged + 1,
        `${acknowledged} was acknowledged, ${stored} is kept`,
      );
      assert.deepEqual(asked(record), recordNumber(stored, ruleInputs(stored >> 1, 500)));
    }
    assert.deepEqual(reports, []);
    const store = new RecordStore(stateFolder);
    store.write(recordNumber(stored + 1, ruleInputs(1, 500)));
    store.write(recordNumber(stored + 2, ruleInputs(1, 500)));
    const left = readdirSync(path.join(stateFolder, 'devices')).map((name) => name.replace(/[0-9a-f]{64}/, '*'));
    assert.deepEqual(left.sort(), ['eth0.json', 'eth0.json.previous', 'eth0.rules-*.ndjson']);
  });

  it('are on disk before they get their names, and their names before they are acknowledged', function () {
    const trace = path.join(stateFolder, 'trace');
    const calls = 'trace=openat,fsync,rename,renameat,renameat2,write';
    const { error, status, stderr } = spawnSync(
      'strace',
      ['-f', '-y', '-qq', '-e', calls, '-o', trace, process.execPath, child, stateFolder, '1', '1'],
      { encoding: 'utf8' },
    );
    if (error !== undefined) skip(this, `strace cannot be run: ${error.message}`);
    if (/ptrace/i.test(stderr)) skip(this, `strace may not trace: ${stderr.trim()}`);
    assert.equal(status, 0, stderr);
    const folder = path.join(stateFolder, 'devices');
    const events = readFileSync(trace, 'utf8')
      .split('\n')
      .flatMap((line) => {
        const synced = /fsync\(\d+<([^>]*)>\)\s+= 0/.exec(line)?.[1];
        if (synced !== undefined) return [`fsync ${synced}`];
        const [, from, to] = /rename\w*\(.*?"([^"]*)", (?:\S+, )?"([^"]*)".*= 0/.exec(line) ?? [];
        if (from !== undefined) return [`rename ${from} ${to}`];
        return /write\(1<[^>]*>, "1\\n"/.test(line) ? ['acknowledged'] : [];
      })
      .filter((event) => event.includes(stateFolder) || event === 'acknowledged')
      .map((event) =>
        event
          .replaceAll(`${folder}/`, '')
          .replaceAll(/[0-9a-f]{64}/g, '*')
          .replaceAll(/\.\d+-\d+\.tmp/g, '.tmp'),
      );
    assert.deepEqual(events, [
      `fsync ${stateFolder}`,
      'fsync eth0.rules-*.ndjson.tmp',
      'rename eth0.rules-*.ndjson.tmp eth0.rules-*.ndjson',
      `fsync ${folder}`,
      'fsync eth0.json.tmp',
      'rename eth0.json.tmp eth0.json',
      `fsync ${folder}`,
      'acknowledged',
    ]);
  });
});
