// SPDX-License-Identifier: Apache-2.0
/** What a scrape does not cost: system calls for the dataplane's counters, and memory that stays. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { attachByDaemon, deviceOf, scrape } from '../rig/scenarios/daemon.ts';
import { createRig, type Rig } from '../rig/topology.ts';
import { TestDaemon } from '../support/daemon.ts';
import { memoryEnvironment, memoryText, settledMemory, total } from '../support/daemon-memory.ts';
import { skip } from '../support/skip.ts';

const SCRAPES = 200;
/** As ten minutes' at one a second. What each leaves would be seen from this on (bytes). */
const LONG_SCRAPES = 600;
const LEAK_BYTES = 1500;

/** Of each answer of the daemon, how many system calls read, wrote or mapped a BPF map since the answer before. */
function readTrace(file: string): number[] {
  const answers: number[] = [];
  let ofMaps = 0;
  for (const line of readFileSync(file, 'utf8').split('\n')) {
    if (/^\d+ +(bpf\(BPF_MAP_|\w+\(.*bpf-map)/.test(line)) ofMaps++;
    if (/"HTTP\/1.1 20[01] /.test(line)) {
      answers.push(ofMaps);
      ofMaps = 0;
    }
  }
  return answers;
}

/** Of each thread, its nice value (proc_pid_stat(5), field 19), and in ns its slice where the kernel tells it. */
function threadsOf(pid: number): Map<number, { nice: number; sliceNs: number | null }> {
  const tasks = `/proc/${pid}/task`;
  return new Map(
    readdirSync(tasks).map((tid) => {
      const stat = readFileSync(`${tasks}/${tid}/stat`, 'utf8');
      const nice = Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[16]);
      const slice = /^se\.slice +: +(\d+)$/m.exec(readIfThere(`${tasks}/${tid}/sched`))?.[1];
      return [Number(tid), { nice, sliceNs: slice === undefined ? null : Number(slice) }];
    }),
  );
}

function readIfThere(file: string): string {
  return existsSync(file) ? readFileSync(file, 'utf8') : '';
}

describe('a scrape', function () {
  this.timeout(180_000);
  let rig: Rig;
  let daemon: TestDaemon;
  let folder: string;
  let memoryFile: string;

  before(async () => {
    folder = mkdtempSync(path.join(tmpdir(), 'vnic-scrape-'));
    rig = createRig({ id: 'scrape' });
    // What tracepoints count is in maps of the kernel's own instruments, which cannot be mapped.
    memoryFile = path.join(folder, 'memory.json');
    daemon = await TestDaemon.start({
      daemon: '  telemetry: {tracepoints: "off", program_stats: false}',
      env: memoryEnvironment(memoryFile),
    });
    await attachByDaemon(rig, daemon);
    for (let warm = 0; warm < 100; warm++) await scrape(daemon);
  });
  after(async () => {
    await daemon?.send('DELETE', `/api/v1/devices/${encodeURIComponent(deviceOf(rig))}?force=true`).catch(() => null);
    await daemon?.[Symbol.asyncDispose]();
    rig?.dispose();
    rmSync(folder, { recursive: true, force: true });
  });

  it('is answered by threads that soon get their turn on a busy CPU', () => {
    const threads = threadsOf(daemon.pid);
    const main = threads.get(daemon.pid)!;
    const engines = [...threads.values()].filter(({ nice }) => nice === -10);
    assert.deepEqual([main.nice, engines.length], [-20, 1]);
    for (const { sliceNs } of [main, ...engines]) assert.ok(sliceNs === null || sliceNs === 100_000, `${sliceNs} ns`);
  });

  /** All threads of the daemon, for as long as the action takes. Null: it cannot be traced. */
  async function traced(name: string, action: () => Promise<void>): Promise<number[] | string> {
    const file = path.join(folder, name);
    const tracer = spawn('strace', ['-f', '-y', '-o', file, '-p', String(daemon.pid)], {
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    let text = '';
    const attached = Promise.withResolvers<boolean>();
    tracer.stderr.on('data', (data: Buffer) => {
      text += data.toString();
      if (/attached/.test(text)) attached.resolve(true);
    });
    tracer.on('error', (error) => {
      text = error.message;
      attached.resolve(false);
    });
    tracer.on('exit', () => attached.resolve(false));
    if (!(await attached.promise)) return text;
    await action();
    tracer.kill('SIGINT');
    await once(tracer, 'exit');
    return readTrace(file);
  }

  it('makes no system call for the dataplane’s counters', async function () {
    const answers = await traced('scraped', async () => {
      for (let count = 0; count < SCRAPES; count++) await scrape(daemon);
      await daemon.ask('PUT', `/api/v1/devices/${encodeURIComponent(deviceOf(rig))}/rules/77`, {
        body: { match: { dst: '192.0.2.77' }, action: 'drop' },
      });
    });
    if (typeof answers === 'string') skip(this, `strace cannot trace: ${answers.trim()}`);
    assert.equal(answers.length, SCRAPES + 1);
    assert.ok(answers.pop()! > 0, 'what a new rule writes into maps was not seen either');
    // The daemon looks at its devices by itself, and goes through the flow table at most once in a while.
    const without = answers.filter((ofMaps) => ofMaps === 0).length;
    assert.ok(without > SCRAPES / 2, `only ${without} of ${SCRAPES} scrapes made no call that reads or maps a BPF map`);
  });

  it('leaves nothing in memory', async () => {
    for (let warm = 0; warm < LONG_SCRAPES / 2; warm++) await scrape(daemon);
    const before = await settledMemory(daemon, memoryFile);
    for (let count = 0; count < LONG_SCRAPES; count++) await scrape(daemon);
    const after = await settledMemory(daemon, memoryFile);
    console.log(`    before: ${memoryText(before)}\n    after:  ${memoryText(after)}`);
    for (const kind of ['heapBytes', 'externalBytes'] as const) {
      const perScrape = (total(after[kind]) - total(before[kind])) / LONG_SCRAPES;
      assert.ok(perScrape < LEAK_BYTES, `${kind}: each scrape leaves ${Math.round(perScrape)} bytes`);
    }
  });
});
