// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';

const RUNNER = path.join(import.meta.dirname, '../../scripts/run-tests.ts');
const NAMESPACE = 'vnic-leftover-test';
const PIN = `/sys/fs/bpf/vnic/leftover0@${NAMESPACE}`;
const STALE_NAMESPACE_OF_NOBODY = 'vnic-leftover-4194999';
const KEPT_NAMESPACE = 'vnic-leftover-kept';

describe('make test, after tests that leave things behind', () => {
  let folder: string;

  before(() => {
    folder = mkdtempSync(path.join(tmpdir(), 'vnic-leftovers-'));
    mkdirSync(path.join(folder, 'netns'));
  });
  after(() => {
    for (const name of [NAMESPACE, STALE_NAMESPACE_OF_NOBODY, KEPT_NAMESPACE]) spawnSync('ip', ['netns', 'del', name]);
    rmSync(PIN, { recursive: true, force: true });
    rmSync(folder, { recursive: true, force: true });
  });

  it('removes namespaces with their processes, pins, and what a killed run left, and nothing else', () => {
    const pidFile = path.join(folder, 'pid');
    writeFileSync(
      path.join(folder, 'netns/a.test.ts'),
      `import { execFileSync, spawn } from 'node:child_process';
       import { mkdirSync, writeFileSync } from 'node:fs';
       it('crashes', async () => {
         execFileSync('ip', ['netns', 'add', '${NAMESPACE}']);
         const child = spawn('nsenter', ['--net=/run/netns/${NAMESPACE}', 'sleep', '300'], { detached: true, stdio: 'ignore' });
         writeFileSync('${pidFile}', String(child.pid));
         mkdirSync('${PIN}', { recursive: true });
         execFileSync('bpftool', 'map create ${PIN}/m type array key 4 value 4 entries 1 name m'.split(' '));
         await new Promise((resolve) => setTimeout(resolve, 200));
         process.kill(process.pid, 'SIGKILL');
       });`,
    );
    execFileSync('ip', ['netns', 'add', STALE_NAMESPACE_OF_NOBODY]);
    execFileSync('ip', ['netns', 'add', KEPT_NAMESPACE]);

    const { TEST: _test, GREP: _grep, ...inherited } = process.env;
    const run = spawnSync(process.execPath, [RUNNER, '--tests', folder], {
      encoding: 'utf8',
      env: { ...inherited, TIER: 'netns' },
    });

    assert.match(run.stdout, /the run ended with SIGKILL in: crashes/);
    assert.match(run.stdout, /removed what tests left: namespace vnic-leftover-test/);
    assert.match(run.stdout, /removed what tests left: pins of leftover0@vnic-leftover-test/);
    assert.equal(run.stdout.trimEnd().split('\n').at(-1), '0 passed, 1 failed, 0 skipped');
    assert.equal(existsSync(`/run/netns/${NAMESPACE}`), false);
    assert.equal(existsSync(`/run/netns/${STALE_NAMESPACE_OF_NOBODY}`), false);
    assert.equal(existsSync(`/run/netns/${KEPT_NAMESPACE}`), true);
    assert.equal(existsSync(PIN), false);
    assert.equal(isRunning(Number(readFileSync(pidFile, 'utf8'))), false);
  });
});

/** A process that ended but was not waited for yet does not run. */
function isRunning(pid: number): boolean {
  const stat = `/proc/${pid}/stat`;
  return existsSync(stat) && !/\) Z /.test(readFileSync(stat, 'utf8'));
}
