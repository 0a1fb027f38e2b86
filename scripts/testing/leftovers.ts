// SPDX-License-Identifier: Apache-2.0
/**
 * Network namespaces and pins that tests left behind, after a failed or interrupted run too.
 *
 * Only what is certainly the tests' own is removed: namespaces named `vnic-…` and the pins of devices in them. Whatever was there before the run stays, unless its name carries the id of a process that
 * has ended (`vnic-…-<pid>`, `vnic-<pid>-…`): that is what a killed run leaves.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, rmSync } from 'node:fs';
import path from 'node:path';

const NAMESPACES = '/run/netns';
const PINS = '/sys/fs/bpf/vnic';
const NAME_PREFIX = 'vnic-';

export interface Snapshot {
  readonly namespaces: ReadonlySet<string>;
  readonly pins: ReadonlySet<string>;
}

function list(folder: string): string[] {
  return existsSync(folder) ? readdirSync(folder) : [];
}

export function takeSnapshot(): Snapshot {
  return { namespaces: new Set(list(NAMESPACES)), pins: new Set(list(PINS)) };
}

/** The process id that a name of the form `vnic-…-<pid>` or `vnic-<pid>-…` carries. */
export function ownerOf(name: string): number | null {
  const match = /^vnic-(?:[a-z0-9-]*-)?(\d+)(?:-[a-z0-9-]*)?$/.exec(name);
  return match?.[1] === undefined ? null : Number(match[1]);
}

/** Whether a run that began with `before` and is over (its processes have ended) may remove the namespace. */
export function mayRemove(name: string, before: ReadonlySet<string>, isAlive: (pid: number) => boolean): boolean {
  if (!name.startsWith(NAME_PREFIX)) return false;
  const owner = ownerOf(name);
  if (owner !== null) return owner === process.pid || !isAlive(owner);
  return !before.has(name);
}

function isAlive(pid: number): boolean {
  return existsSync(`/proc/${pid}`);
}

/** Removes leftovers and returns what it removed. */
export function removeLeftovers(before: Snapshot): string[] {
  const removed: string[] = [];
  for (const name of list(NAMESPACES)) {
    if (!mayRemove(name, before.namespaces, isAlive)) continue;
    endProcessesIn(name);
    if (spawnSync('ip', ['netns', 'del', name]).status === 0) removed.push(`namespace ${name}`);
  }
  for (const name of list(PINS)) {
    // Named `<device>@<namespace>`; those of a device without a namespace may be the user's live dataplane.
    const namespace = name.split('@')[1] ?? '';
    if (before.pins.has(name) || !mayRemove(namespace, before.namespaces, isAlive)) continue;
    rmSync(path.join(PINS, name), { recursive: true, force: true });
    removed.push(`pins of ${name}`);
  }
  return removed;
}

function endProcessesIn(namespace: string): void {
  const result = spawnSync('ip', ['netns', 'pids', namespace], { encoding: 'utf8' });
  if (result.status !== 0) return;
  for (const word of result.stdout.split(/\s+/).filter((text) => text !== '')) {
    try {
      process.kill(Number(word), 'SIGKILL');
    } catch {
      // It ended by itself in the meantime.
    }
  }
}
