// SPDX-License-Identifier: Apache-2.0
/** A guest that runs its suites: booted, watched, answered, and taken down whatever happens. */
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { buildInitramfs } from '../../../scripts/vm/initramfs.ts';
import { prepareKernel } from '../../../scripts/vm/kernel.ts';
import { type BootTry, bootTries, hasKvm } from './accelerator.ts';
import { Machine } from './machine.ts';
import { GuestNetwork } from './network.ts';
import type { GuestLine, GuestOrder, HostLine } from './protocol.ts';

/** Between two lines of a guest that works. */
const SILENCE_LIMIT_MS = 240_000;
const OUTPUT_LINES_KEPT = 200;
const FOLDER_PREFIX = 'vnic-vm-';

export type CheckResult = { kind: 'passed' } | { kind: 'failed'; error: string } | { kind: 'skipped'; reason: string };

/** Accelerators that did not bring a guest up. */
const failedAccelerators = new Set<string>();

const live = new Set<GuestSession>();
process.on('exit', () => {
  for (const session of live) session.dispose();
});

/** Files of runs that were killed. */
function sweepFolders(): void {
  for (const name of readdirSync(tmpdir()).filter((entry) => entry.startsWith(FOLDER_PREFIX))) {
    const owner = name.slice(FOLDER_PREFIX.length).split('-')[0] ?? '';
    if (!existsSync(`/proc/${owner}`)) rmSync(path.join(tmpdir(), name), { recursive: true, force: true });
  }
}

function parseLine(text: string): GuestLine | null {
  if (!text.startsWith('{"kind":')) return null;
  try {
    return JSON.parse(text) as GuestLine;
  } catch {
    return null;
  }
}

export class GuestSession implements Disposable {
  readonly #order: GuestOrder;
  readonly #folder = mkdtempSync(path.join(tmpdir(), `${FOLDER_PREFIX}${process.pid}-`));
  readonly #results = new Map<string, PromiseWithResolvers<CheckResult>>();
  readonly #output: string[] = [];
  #network: GuestNetwork | undefined;
  #peer: ChildProcess | undefined;
  #machine: Machine | undefined;
  #watchdog: NodeJS.Timeout | undefined;
  #onBooted: (() => void) | undefined;
  /** Why no more results come. */
  #over: string | undefined;
  readonly #ended = Promise.withResolvers<void>();
  kernelRelease = '';

  private constructor(order: GuestOrder) {
    this.#order = order;
    live.add(this);
  }

  /** Boots a guest, a second time if the first hangs. It goes on by itself: ask for results. */
  static async boot(order: GuestOrder): Promise<GuestSession> {
    sweepFolders();
    const tries = bootTries(hasKvm(), failedAccelerators);
    for (const [index, bootTry] of tries.entries()) {
      const session = new GuestSession(order);
      try {
        await session.#start(bootTry);
        return session;
      } catch (error) {
        session.dispose();
        failedAccelerators.add(bootTry.accelerator);
        if (index === tries.length - 1) throw error;
        const reason = String(error).split('\n')[0];
        console.log(`    the guest did not come up (${bootTry.accelerator}), trying once more: ${reason}`);
      }
    }
    throw new Error('no accelerator was tried');
  }

  async #start(bootTry: BootTry): Promise<void> {
    const kernel = prepareKernel();
    const initramfs = path.join(this.#folder, 'initramfs.cpio');
    writeFileSync(initramfs, buildInitramfs(kernel));
    this.#network = new GuestNetwork(this.#order.machine.nics);
    this.#startPeer(this.#network);
    const parts = { kernel, initramfs, consoleLog: this.#consoleLog, network: this.#network, bootTry };
    const booted = new Promise<void>((resolve) => {
      this.#onBooted = resolve;
    });
    this.#watch(bootTry.limitMs, 'has not booted');
    this.#machine = new Machine(this.#order.machine, parts, (line) => this.#onText(line));
    await Promise.race([booted, this.#machine.ended]);
    void this.#machine.ended.then(() => this.#end('the guest has ended before this check'));
    if (this.kernelRelease === '')
      throw new Error(this.#report(this.#over ?? 'QEMU ended before the guest had booted'));
  }

  get #consoleLog(): string {
    return path.join(this.#folder, 'console.log');
  }

  #startPeer(network: GuestNetwork): void {
    const [command, args] = network.command(process.execPath, [path.join(import.meta.dirname, 'peer-child.ts')]);
    this.#peer = spawn(command, args, { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
    this.#peer.on('message', (line: HostLine) => this.#machine?.writeLine(JSON.stringify(line)));
  }

  #watch(limitMs: number, what: string): void {
    clearTimeout(this.#watchdog);
    this.#watchdog = setTimeout(() => {
      this.#end(`the guest ${what} for ${limitMs / 1000} s and was ended`);
      this.#machine?.kill();
    }, limitMs);
  }

  #onText(text: string): void {
    const line = parseLine(text);
    if (this.kernelRelease !== '') this.#watch(SILENCE_LIMIT_MS, 'was silent');
    if (line === null) {
      this.#output.push(text);
      if (this.#output.length > OUTPUT_LINES_KEPT) this.#output.shift();
      return;
    }
    switch (line.kind) {
      case 'booted':
        this.kernelRelease = line.kernel;
        this.#watch(SILENCE_LIMIT_MS, 'was silent');
        this.#onBooted?.();
        break;
      case 'broken':
        this.#end(line.reason);
        this.#machine?.kill();
        break;
      case 'ready':
        this.#machine?.writeLine(JSON.stringify({ id: 0, order: this.#order } satisfies HostLine));
        break;
      case 'ask':
        this.#peer?.send({ id: line.id, request: line.request });
        break;
      case 'started':
        break;
      case 'ended':
        this.#end(`the suites ended with ${line.status} before this check`);
        this.#machine?.kill();
        break;
      default:
        this.#result(line.check).resolve(line);
    }
  }

  #result(check: string): PromiseWithResolvers<CheckResult> {
    let result = this.#results.get(check);
    if (result === undefined) {
      result = Promise.withResolvers<CheckResult>();
      this.#results.set(check, result);
    }
    return result;
  }

  /** Waits for a check. A guest that ends without it makes it fail. */
  async result(check: string): Promise<CheckResult> {
    const result = this.#result(check);
    if (this.#over !== undefined) result.resolve({ kind: 'failed', error: this.#report(this.#over) });
    return result.promise;
  }

  #end(reason: string): void {
    clearTimeout(this.#watchdog);
    this.#over ??= reason;
    this.#ended.resolve();
    for (const result of this.#results.values()) {
      result.resolve({ kind: 'failed', error: this.#report(this.#over) });
    }
  }

  /** Resolves when the guest has no more results to give. */
  get ended(): Promise<void> {
    return this.#ended.promise;
  }

  /** What the guest said beside its results. */
  output(): string {
    return this.#output.join('\n');
  }

  #report(reason: string): string {
    let consoleText = '';
    try {
      consoleText = readFileSync(this.#consoleLog, 'latin1').trimEnd();
    } catch {
      // QEMU did not come as far as making it.
    }
    const parts = [reason, this.output(), ...(consoleText === '' ? [] : [`console:\n${consoleText.slice(-4000)}`])];
    return parts.filter((part) => part !== '').join('\n');
  }

  /** Ends the guest and the peer, removes tap, namespace and files. Idempotent. */
  dispose(): void {
    live.delete(this);
    this.#end('the session is over');
    this.#machine?.kill();
    this.#peer?.kill('SIGKILL');
    this.#network?.dispose();
    rmSync(this.#folder, { recursive: true, force: true });
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}
