// SPDX-License-Identifier: Apache-2.0
/** A fresh Debian system in a folder, booted in namespaces of its own: its systemd is process 1, its bpffs nobody else's. */
import assert from 'node:assert/strict';
import { type ChildProcess, execFile, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { lstatSync, readdirSync, readFileSync, readlinkSync, rmSync, symlinkSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';

const makeScript = path.join(import.meta.dirname, '../../scripts/packaging/fresh-root.sh');
const bootScript = path.join(import.meta.dirname, 'boot-root.sh');
const BOOT_TIMEOUT_MS = 60_000;

const environment = {
  PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
  LC_ALL: 'C',
  DEBIAN_FRONTEND: 'noninteractive',
};

export interface Ran {
  code: number | null;
  stdout: string;
  stderr: string;
}

export class FreshRoot implements AsyncDisposable {
  readonly folder: string;
  #machine: { child: ChildProcess; init: number; cgroup: string } | null = null;

  private constructor(folder: string) {
    this.folder = folder;
  }

  /** The reason where this machine can make none: it has no mirror of Debian in reach, or no cgroup2. */
  static async make(folder: string): Promise<FreshRoot | string> {
    if (cgroup2() === null) return 'no cgroup2 is mounted';
    try {
      await promisify(execFile)(makeScript, [folder]);
    } catch (error) {
      const { stderr, message } = error as Error & { stderr?: string };
      return `debootstrap made no fresh system: ${stderr?.trim() || message}`;
    }
    // What it would do by the clock, such as looking for updates, is in nobody's way.
    symlinkSync('/dev/null', path.join(folder, 'etc/systemd/system/timers.target'));
    return new FreshRoot(folder);
  }

  /** @param netns the network that it has */
  async boot(netns: string): Promise<void> {
    const cgroup = path.join(cgroup2()!, `vnic-root-${process.pid}`);
    const child = spawn('nsenter', [`--net=/run/netns/${netns}`, bootScript, this.folder, cgroup], {
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    let stderr = '';
    child.stderr.on('data', (data: Buffer) => {
      stderr += data.toString();
    });
    this.#machine = { child, init: 0, cgroup };
    const deadline = performance.now() + BOOT_TIMEOUT_MS;
    let state = '';
    while (performance.now() < deadline && child.exitCode === null) {
      const [init] = readFileSync(`/proc/${child.pid}/task/${child.pid}/children`, 'utf8').trim().split(' ');
      this.#machine.init = Number(init);
      if (Number(init) > 0) state = this.run(['systemctl', 'is-system-running']).stdout.trim();
      if (state === 'running') return;
      await sleep(50);
    }
    assert.fail(`the system did not boot (${state}): ${stderr}${this.run(['journalctl', '--no-pager']).stdout}`);
  }

  run(command: readonly string[]): Ran {
    const target = `--target=${this.#machine?.init}`;
    const { status, stdout, stderr } = spawnSync(
      'nsenter',
      [target, '--mount', '--pid', '--net', '--uts', '--ipc', '--cgroup', ...command],
      { encoding: 'utf8', env: environment },
    );
    return { code: status, stdout, stderr };
  }

  /** Runs it; fails the test with what it said unless it ends with 0. Returns its output. */
  must(command: readonly string[]): string {
    const { code, stdout, stderr } = this.run(command);
    assert.equal(code, 0, `${command.join(' ')}: ${stdout}${stderr}`);
    return stdout;
  }

  /** Every file, link and folder of the system, without what is mounted, in order. */
  files(): string[] {
    const found: string[] = [];
    const walk = (folder: string): void => {
      for (const entry of readdirSync(path.join(this.folder, folder), { withFileTypes: true })) {
        const name = `${folder}/${entry.name}`;
        found.push(entry.isSymbolicLink() ? `${name} -> ${readlinkSync(path.join(this.folder, name))}` : name);
        if (entry.isDirectory() && !['/proc', '/sys', '/dev', '/run'].includes(name)) walk(name);
      }
    };
    walk('');
    return found.sort();
  }

  has(file: string): boolean {
    return lstatSync(path.join(this.folder, file), { throwIfNoEntry: false }) !== undefined;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#machine !== null) {
      const { child, cgroup } = this.#machine;
      if (child.exitCode === null && child.signalCode === null) {
        child.kill('SIGKILL');
        await once(child, 'exit');
      }
      // The kernel ends what is left in it with its process 1.
      for (let tries = 0; tries < 100 && !removeCgroup(cgroup); tries++) await sleep(50);
    }
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/** Where the machine has its cgroup2, also beside version 1. */
function cgroup2(): string | null {
  return /^\S+ (\S+) cgroup2 /m.exec(readFileSync('/proc/mounts', 'utf8'))?.[1] ?? null;
}

function removeCgroup(cgroup: string): boolean {
  return spawnSync('find', [cgroup, '-depth', '-type', 'd', '-exec', 'rmdir', '{}', '+']).status === 0;
}
