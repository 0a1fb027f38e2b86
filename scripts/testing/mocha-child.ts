// SPDX-License-Identifier: Apache-2.0
/**
 * Runs one tier's files in one mocha run and reports each result to the parent process at once, so that a crash
 * (tests call native code) loses no result. Arguments: the test files. Environment: GREP narrows by title; REPEATS says how
 * often a test that failed is repeated, for machines that stop in the middle of one.
 */
import { AssertionError } from 'node:assert';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { inspect } from 'node:util';
import Mocha from 'mocha';

export type TestReport =
  | { kind: 'started' | 'passed' | 'skipped'; title: string }
  /** `why`: what it says, in one line. */
  | { kind: 'failed' | 'repeated'; title: string; why: string }
  | { kind: 'finished' };

const REPEATS = Number(process.env['REPEATS'] ?? 0);
/** What a test finds with random input may not be found again: those of such a file are not repeated. */
const RANDOM = /fast-check|randomSource|Math\.random/;

/** How long an ended run may be kept alive by open handles before it is ended. */
const LINGER_MS = 2000;
/** Characters. */
const LONGEST_WHY = 600;

const inOneLine = { breakLength: Number.POSITIVE_INFINITY, compact: true } as const;

function report(message: TestReport): void {
  process.send?.(message);
}

/** What an error says, in one line. Whoever reads only that line must see what was there instead of what. */
function whyOf(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error);
  const lines = text.split('\n').map((line) => line.trim());
  const said = lines.filter((line) => line !== '').join(' | ') || 'without a word';
  const differs =
    error instanceof AssertionError && !error.generatedMessage
      ? ` (actual ${inspect(error.actual, inOneLine)}, expected ${inspect(error.expected, inOneLine)})`
      : '';
  return `${said.slice(0, LONGEST_WHY)}${differs.slice(0, LONGEST_WHY)}`;
}

async function main(files: readonly string[]): Promise<void> {
  const optionsFile = path.join(import.meta.dirname, '../../.mocharc.json');
  const options = JSON.parse(readFileSync(optionsFile, 'utf8')) as Record<string, unknown>;
  const mocha = new Mocha({
    timeout: Number(options['timeout']),
    slow: Number(options['slow']),
    forbidOnly: true,
    reporter: 'spec',
    ...(process.env['GREP'] === undefined ? {} : { grep: process.env['GREP'] }),
  });

  let loadFailures = 0;
  for (const file of files) {
    // One file at a time: a file that does not load must not take the others with it.
    mocha.files = [file];
    mocha.suite.retries(RANDOM.test(readFileSync(file, 'utf8')) ? 0 : REPEATS);
    try {
      await mocha.loadFilesAsync();
    } catch (error) {
      loadFailures++;
      const name = path.relative(process.cwd(), file);
      console.error(`\n  ${name} cannot be loaded:`);
      console.error(error);
      report({ kind: 'failed', title: `${name} cannot be loaded`, why: whyOf(error) });
    }
  }

  mocha.files = [];
  const runner = mocha.run((failures) => {
    process.exitCode = failures + loadFailures === 0 ? 0 : 1;
    report({ kind: 'finished' });
    process.disconnect?.();
    setTimeout(() => {
      console.error(`tests left open: ${process.getActiveResourcesInfo().join(', ')}`);
      process.exit();
    }, LINGER_MS).unref();
  });
  runner.on('test', (test) => report({ kind: 'started', title: test.fullTitle() }));
  runner.on('pass', (test) => report({ kind: 'passed', title: test.fullTitle() }));
  runner.on('fail', (test, error: unknown) => report({ kind: 'failed', title: test.fullTitle(), why: whyOf(error) }));
  runner.on('retry', (test, error: unknown) =>
    report({ kind: 'repeated', title: test.fullTitle(), why: whyOf(error) }),
  );
  runner.on('pending', (test) => report({ kind: 'skipped', title: test.fullTitle() }));
}

// The parent was killed: nobody listens and nobody cleans up after us.
process.on('disconnect', () => {
  if (process.exitCode === undefined) process.exit(1);
});

await main(process.argv.slice(2));
