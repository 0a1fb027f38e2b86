// SPDX-License-Identifier: Apache-2.0
/**
 * Runs every test tier that this machine can run, one after the other, and ends with one line
 * `N passed, N failed, N skipped`. Exit code 1 if a test failed or none ran.
 *
 *     node scripts/run-tests.ts [--tests FOLDER]
 *
 * Environment: TIER (names, comma-separated), TEST (files or folders, space-separated), GREP (part of a title),
 * REPEATS (how often a test that failed is repeated; which were is told at the end).
 */
import { spawn } from 'node:child_process';
import { rmSync } from 'node:fs';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { removeLeftovers, takeSnapshot } from './testing/leftovers.ts';
import type { TestReport } from './testing/mocha-child.ts';
import { makeStateFolder, narrow, TIERS, type Tier, testFiles, whyNot } from './testing/tiers.ts';

/** Native code can hang where mocha's own timeout cannot interrupt it. */
const SILENCE_LIMIT_MS = 10 * 60_000;

interface Counts {
  passed: number;
  failed: number;
  skipped: number;
  /** A line for each that failed, told again at the end: whoever reads only that must find them. */
  failures: string[];
  /** The same of tests that were repeated: how they failed before. */
  repeated: string[];
}

let stopChild: ((signal: NodeJS.Signals) => void) | null = null;
let interruptedBy: NodeJS.Signals | null = null;

function words(value: string | undefined, separator: RegExp): string[] {
  return (value ?? '').split(separator).filter((word) => word !== '');
}

function selectTiers(): readonly Tier[] {
  const names = words(process.env['TIER'], /[\s,]+/);
  const unknown = names.filter((name) => !TIERS.some((tier) => tier.name === name));
  if (unknown.length > 0) {
    console.error(
      `TIER: no such tier: ${unknown.join(', ')} (there are: ${TIERS.map((tier) => tier.name).join(', ')})`,
    );
    process.exit(2);
  }
  return names.length === 0 ? TIERS : TIERS.filter((tier) => names.includes(tier.name));
}

/** One mocha run in a child process with its own process group; adds its results to `counts`. */
function runTier(tier: Tier, files: readonly string[], env: NodeJS.ProcessEnv, counts: Counts): Promise<void> {
  return new Promise((resolve) => {
    const child = spawn(process.execPath, [path.join(import.meta.dirname, 'testing/mocha-child.ts'), ...files], {
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
      detached: true,
      env,
    });
    const { pid } = child;
    if (pid === undefined) throw new Error(`cannot start ${process.execPath}`);
    stopChild = (signal) => {
      try {
        process.kill(-pid, signal);
      } catch {
        // The group is empty already.
      }
    };

    let running: string | null = null;
    let isFinished = false;
    let silenceReached = false;
    const watchdog = setTimeout(() => {
      silenceReached = true;
      stopChild?.('SIGKILL');
    }, SILENCE_LIMIT_MS);

    child.on('message', (message: TestReport) => {
      watchdog.refresh();
      switch (message.kind) {
        case 'started':
          running = message.title;
          break;
        case 'finished':
          isFinished = true;
          break;
        case 'repeated':
          counts.repeated.push(`${tier.name}: ${message.title}: ${message.why}`);
          break;
        default:
          running = null;
          counts[message.kind]++;
          if (message.kind === 'failed') counts.failures.push(`${tier.name}: ${message.title}: ${message.why}`);
      }
    });
    child.on('close', (code, signal) => {
      clearTimeout(watchdog);
      stopChild?.('SIGKILL');
      stopChild = null;
      if (!isFinished && interruptedBy === null) {
        counts.failed++;
        const how = silenceReached ? 'was silent too long and was ended' : `ended with ${signal ?? code}`;
        const line = `tier ${tier.name}: the run ${how} ${running === null ? 'outside a test' : `in: ${running}`}`;
        console.log(line);
        counts.failures.push(line);
      }
      resolve();
    });
  });
}

async function main(): Promise<number> {
  const { values } = parseArgs({ options: { tests: { type: 'string' } } });
  const tiers = selectTiers();
  const testsFolder = path.resolve(values.tests ?? path.join(import.meta.dirname, '../test'));
  const paths = words(process.env['TEST'], /\s+/);
  const counts: Counts = { passed: 0, failed: 0, skipped: 0, failures: [], repeated: [] };
  const before = takeSnapshot();
  let touchedKernel = false;
  const stateFolder = makeStateFolder();
  // A test that forgets to name its own state or socket must not meet those of an installed vnicctl.
  const env = { ...process.env, VNIC_STATE_DIR: stateFolder, VNIC_SOCKET: path.join(stateFolder, 'vnicd.sock') };

  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(signal, () => {
      interruptedBy ??= signal;
      stopChild?.('SIGKILL');
    });
  }

  try {
    for (const tier of tiers) {
      if (interruptedBy !== null) break;
      const all = testFiles(testsFolder, tier);
      const files = paths.length === 0 ? all : narrow(all, paths);
      if (files.length === 0) {
        if (paths.length === 0) console.log(`tier ${tier.name}: has no test files`);
        continue;
      }
      const reason = whyNot(tier);
      if (reason !== null) {
        console.log(`tier ${tier.name}: not run: ${reason}`);
        continue;
      }
      console.log(`tier ${tier.name}: ${files.length} ${files.length === 1 ? 'file' : 'files'}`);
      touchedKernel ||= tier.needs.length > 0;
      await runTier(tier, files, env, counts);
    }
  } finally {
    if (touchedKernel) for (const what of removeLeftovers(before)) console.log(`removed what tests left: ${what}`);
    rmSync(stateFolder, { recursive: true, force: true });
  }

  const hasRun = counts.passed + counts.failed > 0;
  if (interruptedBy !== null) console.log(`interrupted by ${interruptedBy}`);
  else if (!hasRun)
    console.log(paths.length === 0 ? 'no test ran' : `no test ran: nothing to run in ${paths.join(' ')}`);
  for (const repeated of counts.repeated) console.log(`repeated: ${repeated}`);
  for (const failure of counts.failures) console.log(`failed: ${failure}`);
  console.log(`${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped`);
  return interruptedBy !== null || counts.failed > 0 || !hasRun ? 1 : 0;
}

process.exitCode = await main();
