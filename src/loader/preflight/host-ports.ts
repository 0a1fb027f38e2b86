// SPDX-License-Identifier: Apache-2.0
/** The ports on the running machine. */
import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import type { Native } from '../ffi/index.ts';
import { createKernelQueries } from './gather/kernel.ts';
import type { HostFiles, PreflightPorts, RunCommand } from './ports.ts';

function orNull<T>(read: () => T): T | null {
  try {
    return read();
  } catch {
    return null;
  }
}

export const realFiles: HostFiles = {
  read: (path) => orNull(() => readFileSync(path, 'utf8')),
  list: (path) =>
    orNull(() => readdirSync(path, { withFileTypes: true }))?.map((entry) => ({
      name: entry.name,
      folder: entry.isDirectory(),
    })) ?? [],
  target: (path) => orNull(() => readlinkSync(path)),
};

const runCommand: RunCommand = (command, args) => {
  const result = spawnSync(command, args, { encoding: 'utf8', env: { ...process.env, LC_ALL: 'C' } });
  const missing = result.error !== undefined && 'code' in result.error && result.error.code === 'ENOENT';
  if (missing) return { status: null, stdout: '', stderr: '' };
  return { status: result.status ?? -1, stdout: result.stdout, stderr: result.stderr };
};

/** This machine, in the calling thread's network namespace. */
export function hostPorts(native: Native): PreflightPorts {
  return { files: realFiles, run: runCommand, kernel: createKernelQueries(native) };
}
