// SPDX-License-Identifier: Apache-2.0
/** What every command is given: the global options, the controller, the terminal. */
import { createInterface } from 'node:readline/promises';
import type { Command } from 'commander';
import type { Controller } from '../app/controller.ts';
import { looseController, openController } from '../app/environment.ts';
import { VnicError } from '../errors.ts';
import { type DeviceId, deviceText } from '../loader/pins.ts';
import { type OutputFormat, toJson, toYaml, yellow } from './output.ts';

export interface GlobalOptions {
  output: OutputFormat;
  netns?: string;
  yes?: boolean;
  dryRun?: boolean;
  verbose?: boolean;
}

export class Context {
  readonly options: GlobalOptions;
  #controller: Controller | undefined;

  constructor(options: GlobalOptions) {
    this.options = options;
  }

  get dryRun(): boolean {
    return this.options.dryRun === true;
  }

  /** Opened on first use. Throws `not_permitted`, `failed` (not built). */
  get controller(): Controller {
    this.#controller ??= openController();
    return this.#controller;
  }

  /** Without the rights that other commands need: for asking what is missing. */
  get looseController(): Controller {
    return looseController();
  }

  named(device: string): DeviceId {
    return { name: device, netns: this.options.netns ?? null };
  }

  /** Attached devices; with --netns only those in that namespace. */
  attachedDevices(): DeviceId[] {
    const { netns } = this.options;
    const devices = this.controller.devices().filter((device) => this.controller.isAttached(device));
    return netns === undefined ? devices : devices.filter((device) => device.netns === netns);
  }

  /** The named device, else the only one that is attached. Throws `usage`, `not_found`. */
  device(argument: string | undefined, option?: string): DeviceId {
    if (argument !== undefined && option !== undefined && argument !== option) {
      throw new VnicError('usage', `Two devices are named: ${argument} and ${option}.`, { remedy: 'Name one.' });
    }
    const name = argument ?? option;
    if (name !== undefined) return this.named(name);
    const [first, ...others] = this.attachedDevices();
    if (first === undefined) {
      throw new VnicError('not_found', 'No device is attached.', { remedy: 'Attach one with: vnicctl attach DEV' });
    }
    if (others.length > 0) {
      const names = [first, ...others].map(deviceText).join(', ');
      throw new VnicError('usage', `Several devices are attached: ${names}.`, {
        remedy: 'Name one with -d DEV, and its namespace with --netns NAME.',
      });
    }
    return first;
  }

  /** Prints to stdout: as JSON, as YAML, or the text that `text` makes. */
  async print(data: unknown, text: () => string): Promise<void> {
    const { output } = this.options;
    if (output === 'table') this.write(text());
    else this.write(output === 'json' ? toJson(data) : await toYaml(data));
  }

  write(text: string): void {
    process.stdout.write(`${text}\n`);
  }

  /** A message for people, on stderr. */
  note(text: string): void {
    process.stderr.write(`${text}\n`);
  }

  warn(text: string): void {
    this.note(`${yellow('warning:')} ${text}`);
  }

  /** Whether there is somebody to ask. */
  get asks(): boolean {
    return this.options.yes !== true && !this.dryRun && process.stdin.isTTY && process.stderr.isTTY;
  }

  /** On a terminal, asks before something is lost; --yes answers. Throws `failed` on a no. */
  async confirm(question: string): Promise<void> {
    if (!this.asks) return;
    const terminal = createInterface({ input: process.stdin, output: process.stderr });
    try {
      const answer = await terminal.question(`${question} [y/N] `);
      if (/^y(es)?$/i.test(answer.trim())) return;
    } finally {
      terminal.close();
    }
    throw new VnicError('failed', 'Nothing was changed.', { remedy: 'Answer y, or give --yes.' });
  }
}

export function contextOf(command: Command): Context {
  return new Context(command.optsWithGlobals<GlobalOptions>());
}
