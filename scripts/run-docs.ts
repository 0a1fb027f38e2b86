// SPDX-License-Identifier: Apache-2.0
/**
 * Runs the commands that the documentation shows: `node scripts/run-docs.ts [FILE…]` (default: all pages; blocks marked
 * `test=rig` are left to the tests, which have a rig).
 */
import { spawnSync } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { type DocBlock, documentationFiles, extractBlocks, makeTargets, missingOutput } from './docs/blocks.ts';

export const projectRoot = path.join(import.meta.dirname, '..');

export interface DocEnvironment {
  /** Command and arguments before the shell, e.g. `['nsenter', '--net=/run/netns/vnic-docs']`. */
  readonly prefix: readonly string[];
  /** Added to the environment of every command. */
  readonly env: Readonly<Record<string, string>>;
  /** Folder in which the blocks of one page run one after the other. */
  readonly folder: string;
}

/** Paths of the documentation's pages, relative to the project root. */
export function pages(): string[] {
  const docs = readdirSync(path.join(projectRoot, 'docs'), { recursive: true, encoding: 'utf8' });
  return documentationFiles(['README.md', ...docs.map((name) => `docs/${name}`).sort()]);
}

export function blocksOf(page: string): DocBlock[] {
  return extractBlocks(readFileSync(path.join(projectRoot, page), 'utf8'));
}

/** Runs one block; throws an Error with all that it printed if it fails or prints something else than documented. */
export function runBlock(page: string, block: DocBlock, environment: DocEnvironment): string {
  const place = `${page}:${block.line}`;
  if (block.mode === 'make') {
    for (const target of makeTargets(block.commands)) {
      const make = spawnSync('make', ['--no-print-directory', '-n', target], { cwd: projectRoot, encoding: 'utf8' });
      if (make.status !== 0) throw new Error(`${place}: make ${target}: ${make.stderr.trim()}`);
    }
    return '';
  }
  const [command, ...args] = [...environment.prefix, 'sh', '-eu', '-c', block.commands];
  // Into a file: a pipe would be kept open by a daemon that the block starts in the background.
  const logFile = `${environment.folder}.log`;
  const log = openSync(logFile, 'w');
  const result = spawnSync(command!, args, {
    cwd: environment.folder,
    stdio: ['ignore', log, log],
    env: {
      ...process.env,
      ...environment.env,
      NO_COLOR: '1',
      PATH: [
        path.join(projectRoot, 'bin'),
        path.join(projectRoot, 'build/etcd/usr/bin'),
        path.dirname(process.execPath),
        process.env['PATH'] ?? '',
      ].join(':'),
    },
  });
  closeSync(log);
  const printed = readFileSync(logFile, 'utf8');
  rmSync(logFile);
  if (result.status !== 0) {
    throw new Error(`${place}: ended with ${result.error?.message ?? result.signal ?? result.status}\n${printed}`);
  }
  const missing = block.output === null ? null : missingOutput(block.output, printed);
  if (missing !== null)
    throw new Error(`${place}: the documented line\n  ${missing}\nis not in the real output:\n${printed}`);
  return printed;
}

/** A network namespace without devices (no example may ever meet one of this machine's) and an empty folder. */
export function plainEnvironment(): DocEnvironment & Disposable {
  const folder = mkdtempSync(path.join(tmpdir(), 'vnic-docs-'));
  return {
    prefix: ['unshare', '--net', '--map-root-user'],
    env: {},
    folder,
    [Symbol.dispose]: () => rmSync(folder, { recursive: true, force: true }),
  };
}

if (import.meta.main) {
  const wanted = process.argv.slice(2);
  for (const page of wanted.length === 0 ? pages() : wanted) {
    using environment = plainEnvironment();
    for (const block of blocksOf(page)) {
      if (block.mode !== 'test' && block.mode !== 'make') continue;
      console.log(`--- ${page}:${block.line}`);
      process.stdout.write(runBlock(page, block, environment));
    }
  }
}
