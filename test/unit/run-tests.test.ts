// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { mayRemove, ownerOf } from '../../scripts/testing/leftovers.ts';

const RUNNER = path.join(import.meta.dirname, '../../scripts/run-tests.ts');

interface Outcome {
  code: number | null;
  lines: string[];
  output: string;
}

describe('make test', () => {
  let folder: string;

  beforeEach(() => {
    folder = mkdtempSync(path.join(tmpdir(), 'vnic-run-tests-'));
    mkdirSync(path.join(folder, 'unit'));
  });
  afterEach(() => rmSync(folder, { recursive: true, force: true }));

  function write(name: string, text: string): void {
    writeFileSync(path.join(folder, 'unit', name), text);
  }

  function start(env: Record<string, string> = {}) {
    const { TEST: _test, GREP: _grep, REPEATS: _repeats, ...inherited } = process.env;
    return spawn(process.execPath, [RUNNER, '--tests', folder], { env: { ...inherited, TIER: 'unit', ...env } });
  }

  async function outcomeOf(child: ReturnType<typeof start>): Promise<Outcome> {
    let output = '';
    child.stdout.on('data', (chunk) => {
      output += chunk;
    });
    child.stderr.on('data', (chunk) => {
      output += chunk;
    });
    const code = await new Promise<number | null>((resolve) => child.on('close', resolve));
    return { code, output, lines: output.trimEnd().split('\n') };
  }

  const run = (env?: Record<string, string>) => outcomeOf(start(env));

  it('ends with the counts and succeeds when every test passes', async () => {
    write('a.test.ts', `it('one', () => {}); it('two', () => {});`);
    write('b.test.ts', `it('three', function () { this.skip(); });`);
    const { code, lines } = await run();
    assert.equal(lines.at(-1), '2 passed, 0 failed, 1 skipped');
    assert.equal(code, 0);
  });

  it('fails when a test fails, and prints the failure in full', async () => {
    write('a.test.ts', `it('one', () => {}); it('adds up', () => { throw new Error('1 + 1 is not 3'); });`);
    const { code, lines, output } = await run();
    assert.deepEqual(lines.slice(-2), ['failed: unit: adds up: 1 + 1 is not 3', '1 passed, 1 failed, 0 skipped']);
    assert.match(output, /Error: 1 \+ 1 is not 3\n\s+at .*a\.test\.ts:1/);
    assert.equal(code, 1);
  });

  it('repeats a test that failed as often as REPEATS says, and tells it', async () => {
    write('a.test.ts', `let runs = 0; it('one', () => { if (++runs < 2) throw new Error('too early'); });`);
    write('b.test.ts', `it('two', () => { throw new Error('never'); });`);
    const { code, lines } = await run({ REPEATS: '1' });
    assert.deepEqual(lines.slice(-4), [
      'repeated: unit: one: too early',
      'repeated: unit: two: never',
      'failed: unit: two: never',
      '1 passed, 1 failed, 0 skipped',
    ]);
    assert.equal(code, 1);
    assert.equal((await run()).lines.at(-1), '0 passed, 2 failed, 0 skipped');
  });

  it('repeats no test of a file with random input: it may not find again what it found', async () => {
    write('a.test.ts', `let runs = 0; it('one', () => { if (++runs < 2) throw new Error(String(Math.random())); });`);
    assert.equal((await run({ REPEATS: '1' })).lines.at(-1), '0 passed, 1 failed, 0 skipped');
  });

  it('fails when no test ran', async () => {
    write('a.test.ts', `it('one', function () { this.skip(); });`);
    const { code, lines } = await run();
    assert.deepEqual(lines.slice(-2), ['no test ran', '0 passed, 0 failed, 1 skipped']);
    assert.equal(code, 1);
  });

  it('counts a file that cannot be loaded as failed and runs the others', async () => {
    write('a.test.ts', `import './missing.ts';`);
    write('b.test.ts', `it('one', () => {});`);
    const { code, lines, output } = await run();
    assert.match(output, /unit\/a\.test\.ts cannot be loaded/);
    assert.equal(lines.at(-1), '1 passed, 1 failed, 0 skipped');
    assert.equal(code, 1);
  });

  it('keeps the results from before a crash and names the test that crashed', async () => {
    write(
      'a.test.ts',
      `it('one', () => {}); it('crashes', () => process.kill(process.pid, 'SIGSEGV')); it('never', () => {});`,
    );
    const { code, lines, output } = await run();
    assert.match(output, /tier unit: the run ended with SIGSEGV in: crashes/);
    assert.equal(lines.at(-1), '1 passed, 1 failed, 0 skipped');
    assert.equal(code, 1);
  });

  it('refuses a test file that was narrowed with .only', async () => {
    write('a.test.ts', `it.only('one', () => {});`);
    const { code } = await run();
    assert.equal(code, 1);
  });

  it('does not wait for what tests left open', async () => {
    write('a.test.ts', `it('leaves a timer', () => { setInterval(() => {}, 1000); });`);
    const { code, lines, output } = await run();
    assert.match(output, /tests left open: .*Timeout/);
    assert.equal(lines.at(-1), '1 passed, 0 failed, 0 skipped');
    assert.equal(code, 0);
  });

  it('runs only what TEST and GREP name', async () => {
    write('a.test.ts', `it('apple', () => {}); it('pear', () => {});`);
    write('b.test.ts', `it('apple too', () => {});`);
    const { lines } = await run({ TEST: path.join(folder, 'unit/a.test.ts'), GREP: 'apple' });
    assert.equal(lines.at(-1), '1 passed, 0 failed, 0 skipped');
  });

  it('says that TEST names nothing', async () => {
    write('a.test.ts', `it('one', () => {});`);
    const { code, output } = await run({ TEST: 'test/unit/nowhere.test.ts' });
    assert.match(output, /no test ran: nothing to run in test\/unit\/nowhere\.test\.ts/);
    assert.equal(code, 1);
  });

  it('refuses a tier that does not exist and names those that do', async () => {
    const { code, output } = await run({ TIER: 'units' });
    assert.match(output, /no such tier: units \(there are: unit, packets, netns, vm\)/);
    assert.equal(code, 2);
  });

  it('ends the tests and still prints the counts when interrupted', async () => {
    const marker = path.join(folder, 'hanging');
    write(
      'a.test.ts',
      `import { writeFileSync } from 'node:fs';
       it('one', () => {});
       it('hangs', () => { writeFileSync(${JSON.stringify(marker)}, String(process.pid)); for (;;); });`,
    );
    const child = start();
    const outcome = outcomeOf(child);
    while (!existsSync(marker)) await new Promise((resolve) => setTimeout(resolve, 20));
    child.kill('SIGINT');
    const { code, lines } = await outcome;
    assert.deepEqual(lines.slice(-2), ['interrupted by SIGINT', '1 passed, 0 failed, 0 skipped']);
    assert.equal(code, 1);
  });
});

describe('cleaning up after tests', () => {
  const nobody = () => false;
  const everybody = () => true;

  it('reads the process id from a namespace name', () => {
    assert.equal(ownerOf('vnic-rig-4711'), 4711);
    assert.equal(ownerOf('vnic-4711-client'), 4711);
    assert.equal(ownerOf('vnic-rig'), null);
    assert.equal(ownerOf('vnic-az1'), null);
  });

  it('removes a namespace that appeared during the run', () => {
    assert.equal(mayRemove('vnic-rig', new Set(), everybody), true);
  });

  it('leaves a namespace that was there before', () => {
    assert.equal(mayRemove('vnic-rig', new Set(['vnic-rig']), nobody), false);
  });

  it('removes what a killed run left and leaves what belongs to a living process', () => {
    assert.equal(mayRemove('vnic-rig-4711', new Set(['vnic-rig-4711']), nobody), true);
    assert.equal(mayRemove('vnic-rig-4711', new Set(), everybody), false);
  });

  it('never touches a namespace with another name', () => {
    assert.equal(mayRemove('blue', new Set(), nobody), false);
  });
});
