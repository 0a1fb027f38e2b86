// SPDX-License-Identifier: Apache-2.0
/** Network namespaces of rigs: commands in them, their removal, and a sweep of what killed runs left. */
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, rmSync } from 'node:fs';

import { VnicError } from '../../src/errors.ts';
import { ownerPid } from './addresses.ts';

const folder = '/run/netns';
const pinFolder = '/sys/fs/bpf/vnic';

/** Runs a command to its end. Throws `failed` with what it wrote to stderr. */
export function run(command: string, args: readonly string[], input = ''): string {
  const result = spawnSync(command, args, { encoding: 'utf8', input, env: { ...process.env, LC_ALL: 'C' } });
  if (result.error !== undefined) {
    throw new VnicError('failed', `${command} cannot be run: ${result.error.message}`, {
      remedy: 'Install what is missing: make deps',
    });
  }
  if (result.status !== 0) {
    throw new VnicError('failed', `${command} ${args.join(' ')} failed: ${result.stderr.trim()}`);
  }
  return result.stdout;
}

/** Runs a shell script in a namespace; it ends at the first command that fails. /sys and bpffs stay the machine's. */
export function runInNamespace(namespace: string, script: string): string {
  return run('nsenter', [`--net=${folder}/${namespace}`, 'sh', '-eu'], script);
}

export function namespaces(): string[] {
  return existsSync(folder) ? readdirSync(folder) : [];
}

/** Ends the processes in a namespace and removes it with its devices and what is pinned for them. */
export function removeNamespace(namespace: string): void {
  if (!existsSync(`${folder}/${namespace}`)) {
    removePins(namespace);
    return;
  }
  const pids = spawnSync('ip', ['netns', 'pids', namespace], { encoding: 'utf8' }).stdout;
  for (const pid of pids.split('\n').map(Number)) {
    if (pid <= 1 || pid === process.pid) continue;
    try {
      process.kill(pid, 'SIGKILL');
    } catch {
      // It ended by itself in the meantime.
    }
  }
  // Its devices would otherwise go away some time later, when the last reference does.
  spawnSync('ip', ['-n', namespace, '-batch', '-'], {
    input: 'link del vnic0\nlink del uplink\n',
    stdio: ['pipe', 'ignore', 'ignore'],
  });
  spawnSync('ip', ['netns', 'del', namespace], { stdio: 'ignore' });
  removePins(namespace);
}

/** A dataplane that was attached in the namespace has its pins in folders named DEVICE@NAMESPACE. */
function removePins(namespace: string): void {
  if (!existsSync(pinFolder)) return;
  for (const name of readdirSync(pinFolder)) {
    if (name.endsWith(`@${namespace}`)) rmSync(`${pinFolder}/${name}`, { recursive: true, force: true });
  }
}

/** Removes the namespaces of rigs whose process has ended. Returns their names. */
export function sweepStaleNamespaces(): string[] {
  const stale = namespaces().filter((name) => {
    const pid = ownerPid(name);
    return pid !== null && !existsSync(`/proc/${pid}`);
  });
  for (const name of stale) removeNamespace(name);
  return stale;
}
