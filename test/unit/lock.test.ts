// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

import { FileLock } from '../../src/loader/lock.ts';
import { describeEachAdapter } from '../support/ffi.ts';
import { thrownBy } from '../support/thrown.ts';

const module = new URL('../../src/loader/', import.meta.url).href;

describeEachAdapter('the lock of a state folder', (fixture) => {
  const { adapter } = fixture;
  let sequence = 0;
  let file: string;
  const children: ChildProcess[] = [];

  beforeEach(() => {
    sequence += 1;
    file = join(fixture.folder, `run-${sequence}`, 'daemon.lock');
  });

  afterEach(() => {
    for (const child of children.splice(0)) child.kill('SIGKILL');
  });

  function acquired(): FileLock {
    const lock = FileLock.tryAcquire(fixture.native, file);
    assert.ok(lock instanceof FileLock, JSON.stringify(lock));
    return lock;
  }

  const imports = `
    import { loadNative } from '${module}ffi/index.ts';
    import { FileLock } from '${module}lock.ts';
    const native = loadNative({ adapter: '${adapter}' });`;

  /** A process that tries to take the lock, prints what it got and, holding it, stays. */
  async function holder(): Promise<{ child: ChildProcess; said: string }> {
    const script = `${imports}
      const lock = FileLock.tryAcquire(native, process.env['LOCK_FILE']);
      console.log(lock instanceof FileLock ? 'held' : 'refused: ' + lock.holder);
      if (lock instanceof FileLock) setInterval(() => lock.path, 1000);`;
    const child = spawn(process.execPath, ['--input-type=module-typescript', '-e', script], {
      env: { ...process.env, LOCK_FILE: file },
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    children.push(child);
    const [data] = (await once(child.stdout, 'data')) as [Buffer];
    return { child, said: data.toString().trim() };
  }

  it('is taken at once when it is free, and names its holder to the next', () => {
    const lock = acquired();
    assert.equal(readFileSync(file, 'utf8'), `${process.pid}\n`);
    assert.deepEqual(FileLock.tryAcquire(fixture.native, file), { holder: `${process.pid}` });
    lock.release();
    assert.ok(existsSync(file));
    acquired().release();
  });

  it('leaves no descriptor behind when it is refused', () => {
    using _lock = acquired();
    FileLock.tryAcquire(fixture.native, file);
    const before = readdirSync('/proc/self/fd').length;
    for (let index = 0; index < 20; index++) FileLock.tryAcquire(fixture.native, file);
    assert.equal(readdirSync('/proc/self/fd').length, before);
  });

  it('keeps a second daemon out until the first has ended, however it ends', async function () {
    this.timeout(30_000);
    const first = await holder();
    assert.equal(first.said, 'held');
    assert.deepEqual(FileLock.tryAcquire(fixture.native, file), { holder: `${first.child.pid}` });
    const second = await holder();
    assert.equal(second.said, `refused: ${first.child.pid}`);

    first.child.kill('SIGKILL');
    await once(first.child, 'exit');
    const third = await holder();
    assert.equal(third.said, 'held');
    assert.deepEqual(FileLock.tryAcquire(fixture.native, file), { holder: `${third.child.pid}` });
  });

  it('is not held on by a program that its holder started', async () => {
    const lock = acquired();
    const child = spawn('sleep', ['60'], { stdio: 'ignore' });
    children.push(child);
    await once(child, 'spawn');
    lock.release();
    acquired().release();
  });

  it('makes a command that waits give up, naming the holder', () => {
    using _lock = acquired();
    const error = thrownBy(() => FileLock.acquire(fixture.native, file, 30));
    assert.equal(error.code, 'conflict');
    assert.equal(error.message, `Another vnicctl is at work (process ${process.pid}).`);
    assert.equal(error.remedy, 'Wait for it to end, or stop it.');
  });

  it('is got by a command that waits long enough', function () {
    this.timeout(30_000);
    const script = `${imports}
      const lock = FileLock.acquire(native, process.env['LOCK_FILE'], 0);
      setTimeout(() => lock.release(), 300);`;
    const child = spawn(process.execPath, ['--input-type=module-typescript', '-e', script], {
      env: { ...process.env, LOCK_FILE: file },
      stdio: ['ignore', 'inherit', 'inherit'],
    });
    children.push(child);
    // The lock is waited for by blocking the thread, so the wait for the child must not need the thread either.
    execFileSync('sh', ['-c', 'until [ -s "$1" ]; do sleep 0.01; done', 'sh', file], { timeout: 20_000 });
    assert.deepEqual(FileLock.tryAcquire(fixture.native, file), { holder: `${child.pid}` });
    FileLock.acquire(fixture.native, file, 20_000).release();
  });

  it('is no holder but an error when the file cannot be locked', () => {
    const error = thrownBy(() => FileLock.tryAcquire(fixture.native, fixture.folder));
    assert.equal(error.code, 'kernel_refused');
    assert.equal(error.details['errno'], 'EISDIR');
  });
});
