// SPDX-License-Identifier: Apache-2.0
/**
 * The files of one folder, changed so that a power loss leaves each of them old or new. The contents of a file are on
 * disk before it gets its name (fsync, then rename or link); names are on disk after sync() (fsync of the folder).
 */
import {
  closeSync,
  fsyncSync,
  linkSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';

/** Names are without the folder. Methods throw the system's errors. */
export interface StateFiles {
  /** Of this name in the folder. */
  pathOf(name: string): string;
  names(): string[];
  /** Null: there is none. */
  read(name: string): Buffer | null;
  /** Writes a file under a temporary name, its contents on disk. Gives that name. */
  writeTemporary(name: string, contents: Uint8Array): string;
  /** Gives a file another, temporary name. */
  linkTemporary(from: string, name: string): string;
  /** Gives a file another name. Throws EEXIST if it is taken. */
  link(from: string, to: string): void;
  /** Replaces what had the name. */
  rename(from: string, to: string): void;
  /** Does nothing if there is none. */
  remove(name: string): void;
  /** Puts on disk which names there are. */
  sync(): void;
  /** Removes temporary files of processes that have ended. */
  removeAbandoned(): void;
  /** Removes this process's temporary files. */
  removeOwn(): void;
}

/** Names the process that writes and when it began: ids come round again. */
const TEMPORARY = /\.(\d+)-(\d+)\.tmp$/;

/** Clock ticks from boot to the start of a process (proc_pid_stat(5), field 22); null: there is none. */
function processStart(pid: number | 'self'): string | null {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    // The command's name, field 2, is in parentheses and may hold anything.
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19] ?? null;
  } catch {
    return null;
  }
}

/** There is no such file, or a file stands where its folder would be; writing there is what fails. */
function isAbsent(error: unknown): boolean {
  const { code } = error as NodeJS.ErrnoException;
  return code === 'ENOENT' || code === 'ENOTDIR';
}

export class DiskFiles implements StateFiles {
  readonly #folder: string;
  readonly #suffix = `.${process.pid}-${processStart('self') ?? 0}.tmp`;

  /** The folder is made at the first write. */
  constructor(folder: string) {
    this.#folder = folder;
  }

  pathOf(name: string): string {
    return path.join(this.#folder, name);
  }

  names(): string[] {
    try {
      return readdirSync(this.#folder);
    } catch (error) {
      if (isAbsent(error)) return [];
      throw error;
    }
  }

  read(name: string): Buffer | null {
    try {
      return readFileSync(this.pathOf(name));
    } catch (error) {
      if (isAbsent(error)) return null;
      throw error;
    }
  }

  writeTemporary(name: string, contents: Uint8Array): string {
    this.#makeFolder();
    const temporary = `${name}${this.#suffix}`;
    const fd = openSync(this.pathOf(temporary), 'w', 0o600);
    try {
      writeFileSync(fd, contents);
      fsyncSync(fd);
    } catch (error) {
      rmSync(this.pathOf(temporary), { force: true });
      throw error;
    } finally {
      closeSync(fd);
    }
    return temporary;
  }

  linkTemporary(from: string, name: string): string {
    const temporary = `${name}${this.#suffix}`;
    rmSync(this.pathOf(temporary), { force: true });
    this.link(from, temporary);
    return temporary;
  }

  link(from: string, to: string): void {
    linkSync(this.pathOf(from), this.pathOf(to));
  }

  rename(from: string, to: string): void {
    renameSync(this.pathOf(from), this.pathOf(to));
    // rename(2) of two names of one file does nothing and leaves both.
    rmSync(this.pathOf(from), { force: true });
  }

  remove(name: string): void {
    rmSync(this.pathOf(name), { force: true });
  }

  sync(): void {
    syncFolder(this.#folder);
  }

  removeAbandoned(): void {
    for (const name of this.names()) {
      const [, pid, start] = TEMPORARY.exec(name) ?? [];
      if (pid !== undefined && processStart(Number(pid)) !== start) this.remove(name);
    }
  }

  removeOwn(): void {
    for (const name of this.names()) {
      if (name.endsWith(this.#suffix)) this.remove(name);
    }
  }

  #makeFolder(): void {
    const first = mkdirSync(this.#folder, { recursive: true, mode: 0o700 });
    if (first === undefined) return;
    for (let folder = this.#folder; folder.length >= first.length; folder = path.dirname(folder)) {
      syncFolder(path.dirname(folder));
    }
  }
}

function syncFolder(folder: string): void {
  const fd = openSync(folder, 'r');
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}
