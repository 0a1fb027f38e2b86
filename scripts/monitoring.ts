// SPDX-License-Identifier: Apache-2.0
/**
 * A Prometheus beside a running daemon, with the shipped configuration and rules, until Ctrl-C.
 *
 *     node scripts/monitoring.ts [--target HOST:PORT] [--port PORT] [--serve] [--check [--seconds N]]
 *
 * --serve starts `vnicctl serve` if none answers at the target. --check asks every expression of the dashboards and rules
 * instead of waiting, for at most N seconds until all find something (default 30), and ends: 0 if they do, 1 if not.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { conditionalMetrics } from './dashboards/index.ts';
import { checkExpressions, type Result } from './monitoring/check.ts';
import { shippedExpressions } from './monitoring/expressions.ts';
import { findTool, Prometheus } from './monitoring/prometheus.ts';

const { values: options } = parseArgs({
  options: {
    target: { type: 'string', default: '127.0.0.1:9090' },
    port: { type: 'string', default: process.env['PORT'] ?? '9091' },
    serve: { type: 'boolean', default: false },
    check: { type: 'boolean', default: false },
    seconds: { type: 'string', default: '30' },
  },
});
const vnicctl = path.join(import.meta.dirname, '../bin/vnicctl');

const interrupted = new AbortController();
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => interrupted.abort());

async function answers(target: string): Promise<boolean> {
  const reply = await fetch(`http://${target}/healthz`).catch(() => null);
  await reply?.body?.cancel();
  return reply?.ok === true;
}

async function startDaemon(target: string): Promise<ChildProcess> {
  const daemon = spawn(vnicctl, ['serve', '--listen', target], {
    stdio: ['ignore', 'ignore', 'inherit'],
    detached: true,
  });
  while (!(await answers(target))) {
    if (daemon.exitCode !== null || interrupted.signal.aborted) {
      daemon.kill('SIGTERM');
      throw new Error('vnicctl serve did not start');
    }
    await sleep(200);
  }
  return daemon;
}

/** Asks again until nothing is missing: rates need two scrapes, and alerts what is recorded. */
async function check(prometheus: Prometheus, seconds: number): Promise<Result> {
  const deadline = performance.now() + seconds * 1000;
  for (;;) {
    const result = await checkExpressions(shippedExpressions(), prometheus, conditionalMetrics);
    if (result.findings.length === 0 || performance.now() > deadline || interrupted.signal.aborted) return result;
    await sleep(3000, undefined, { signal: interrupted.signal }).catch(() => undefined);
  }
}

function report({ checked, findings, empty }: Result): void {
  for (const { where, problem } of empty) console.log(`empty   ${where}: ${problem}`);
  for (const { where, problem } of findings) console.error(`failed  ${where}: ${problem}`);
  console.log(`${checked} expressions: ${findings.length} failed, ${empty.length} without samples for a known reason`);
  if (findings.length > 0) process.exitCode = 1;
}

async function run(): Promise<void> {
  const { target, port } = options;
  if (findTool('prometheus') === null) throw new Error('prometheus is not installed: apt-get install prometheus');
  let daemon: ChildProcess | null = null;
  if (!(await answers(target))) {
    if (!options.serve)
      throw new Error(`no daemon answers at ${target}: start vnicctl serve, or name another --target`);
    daemon = await startDaemon(target);
  }
  try {
    await using prometheus = await Prometheus.start({ target, port: Number(port) });
    console.log(`daemon      http://${target}`);
    console.log(`Prometheus  ${prometheus.baseUrl}/graph  ${prometheus.baseUrl}/alerts`);
    if (options.check) {
      report(await check(prometheus, Number(options.seconds)));
      return;
    }
    console.log('Ctrl-C ends Prometheus and removes its data.');
    const stopped = new Promise<void>((resolve) => interrupted.signal.addEventListener('abort', () => resolve()));
    if (interrupted.signal.aborted) return;
    const code = await Promise.race([stopped, prometheus.ended]);
    if (!interrupted.signal.aborted) throw new Error(`prometheus ended with ${code ?? 'a signal'}: ${prometheus.log}`);
  } finally {
    daemon?.kill('SIGTERM');
  }
}

try {
  await run();
} catch (error) {
  console.error(`monitoring: ${error instanceof Error ? error.message : String(error)}`);
  process.exitCode = 1;
}
