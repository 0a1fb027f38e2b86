// SPDX-License-Identifier: Apache-2.0
/**
 * vnicctl in the guest. Starting Node and reading the product takes ten seconds and more on an emulated CPU, so a
 * command runs in the process of the checks, by the function that the executable calls. Its output is caught.
 */
import { spawnSync } from 'node:child_process';
import path from 'node:path';
import { runCommand } from '../../../src/cli/run.ts';

export const executable = path.join(import.meta.dirname, '../../../bin/vnicctl');

export interface CommandOutput {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

type Write = typeof process.stdout.write;

/** Everything that is written to the stream meanwhile; ends with `stop`. */
function caught(stream: NodeJS.WriteStream): { text: () => string; stop: () => void } {
  const chunks: string[] = [];
  stream.write = ((chunk: string | Uint8Array, ...rest: unknown[]) => {
    chunks.push(typeof chunk === 'string' ? chunk : Buffer.from(chunk).toString());
    const done = rest.find((argument) => typeof argument === 'function') as (() => void) | undefined;
    done?.();
    return true;
  }) as Write;
  // The stream's own function is its prototype's.
  return { text: () => chunks.join(''), stop: () => Reflect.deleteProperty(stream, 'write') };
}

/** One command at a time. The line to the host is a terminal: --yes keeps a command from asking it. */
export async function runVnicctl(...args: string[]): Promise<CommandOutput> {
  const [stdout, stderr] = [caught(process.stdout), caught(process.stderr)];
  try {
    const exitCode = await runCommand(args);
    const status = exitCode || Number(process.exitCode ?? 0);
    return { status, stdout: stdout.text(), stderr: stderr.text() };
  } finally {
    process.exitCode = undefined;
    stdout.stop();
    stderr.stop();
  }
}

function parsed<T>(args: readonly string[], { status, stdout, stderr }: CommandOutput): T {
  if (status !== 0) throw new Error(`vnicctl ${args.join(' ')} ended with ${status}:\n${stdout}${stderr}`);
  return JSON.parse(stdout) as T;
}

/** What `vnicctl -o json` prints. Throws with what it says when it fails. */
export async function vnicctl<T>(...args: string[]): Promise<T> {
  return parsed(args, await runVnicctl('-o', 'json', '--yes', ...args));
}

/** The same by the executable, in a process of its own: slow. */
export function vnicctlProcess<T>(...args: string[]): T {
  const result = spawnSync(executable, ['-o', 'json', ...args], { encoding: 'utf8' });
  return parsed(args, { ...result, status: result.status ?? -1 });
}
