// SPDX-License-Identifier: Apache-2.0
/** What every command is given: the global options, the client, the terminal. */
import { createInterface } from 'node:readline/promises';
import type { Command } from 'commander';
import type { ApiClient, Output } from '../api/client.ts';
import { VnicError } from '../errors.ts';
import { openClient, socketPath } from './connection.ts';
import { type OutputFormat, toJson, toYaml, yellow } from './output.ts';

export interface GlobalOptions {
  output: OutputFormat;
  netns?: string;
  socket?: string;
  yes?: boolean;
  dryRun?: boolean;
  verbose?: boolean;
}

export type DeviceSummary = Output<'listDevices'>['items'][number];

export class Context {
  readonly options: GlobalOptions;
  #client: Promise<ApiClient> | undefined;

  constructor(options: GlobalOptions) {
    this.options = options;
  }

  get dryRun(): boolean {
    return this.options.dryRun === true;
  }

  /** Of the daemon, or of the operations in this process. Throws `daemon_unreachable`. */
  client(): Promise<ApiClient> {
    this.#client ??= openClient(this.options.socket, process.env);
    return this.#client;
  }

  /** Where the daemon is looked for. */
  get socket(): string {
    return socketPath(this.options.socket, process.env);
  }

  /** The device in the words of the API: NAME, or NAME@NETNS. */
  named(device: string): string {
    const { netns } = this.options;
    return netns === undefined ? device : `${device}@${netns}`;
  }

  /** Devices in these states; with --netns only those in that namespace. */
  async devices(...states: DeviceSummary['state'][]): Promise<string[]> {
    const { netns } = this.options;
    const { data } = await (await this.client()).call('listDevices');
    return data.items
      .filter((device) => states.includes(device.state) && (netns === undefined || device.netns === netns))
      .map(({ device }) => device);
  }

  /** The named device, else the only one that is attached. Throws `usage`, `not_found`. */
  async device(argument: string | undefined, option?: string): Promise<string> {
    if (argument !== undefined && option !== undefined && argument !== option) {
      throw new VnicError('usage', `Two devices are named: ${argument} and ${option}.`, { remedy: 'Name one.' });
    }
    const name = argument ?? option;
    if (name !== undefined) return this.named(name);
    const devices = await this.devices('attached');
    const [first, ...others] = devices;
    if (first === undefined) {
      throw new VnicError('not_found', 'No device is attached.', { remedy: 'Attach one with: vnicctl attach DEV' });
    }
    if (others.length > 0) {
      throw new VnicError('usage', `Several devices are attached: ${devices.join(', ')}.`, {
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
