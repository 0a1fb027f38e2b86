// SPDX-License-Identifier: Apache-2.0
/** vnicctl events: the events of the daemon, over its socket. */
import { type IncomingMessage, request } from 'node:http';
import { text as readAll } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Command } from 'commander';
import { errorOfProblem } from '../api/error-of-problem.ts';
import type { LoggedEvent } from '../daemon/event-log.ts';
import { VnicError } from '../errors.ts';
import { noDaemon } from './connection.ts';
import { type Context, contextOf } from './context.ts';
import { EventStreamParser, type ServerEvent } from './event-stream.ts';
import { wholeNumberFrom } from './numbers.ts';

const DEFAULT_LATEST = 20;
const MAX_LATEST = 4096;
/** Earlier events come at once: when nothing comes for so long, there are no more. */
const QUIET_MS = 500;
/** Between a break and the next attempt, unless the daemon asks for another time. */
const RETRY_MS = 1000;

interface EventsOptions {
  follow?: boolean;
  latest?: number;
}

export function eventsCommand(command: Command): void {
  command
    .option('-f, --follow', 'go on with those that come')
    .option('--latest <number>', `how many earlier ones (default: ${DEFAULT_LATEST})`, wholeNumberFrom(0, MAX_LATEST))
    .action(async ({ follow = false, latest = DEFAULT_LATEST }: EventsOptions) => {
      const context = contextOf(command);
      const stream = new DaemonEvents(context, latest);
      if (follow) await stream.follow();
      else await stream.readLatest();
    });
}

class DaemonEvents {
  readonly #context: Context;
  readonly #latest: number;
  #lastId = '';
  #retryMs = RETRY_MS;

  constructor(context: Context, latest: number) {
    this.#context = context;
    this.#latest = latest;
  }

  /** Prints the earlier events and ends. */
  async readLatest(): Promise<void> {
    if (this.#latest === 0) return;
    const response = await this.#open();
    const parser = new EventStreamParser();
    let left = this.#latest;
    let isQuiet = false;
    const quiet = setTimeout(() => {
      isQuiet = true;
      response.destroy();
    }, QUIET_MS);
    try {
      for await (const bytes of response as AsyncIterable<Uint8Array>) {
        quiet.refresh();
        for (const part of parser.push(bytes)) {
          if (part.kind === 'event' && (await this.#print(part))) left--;
          if (left === 0 || part.kind === 'comment') return;
        }
      }
    } catch (error) {
      if (!isQuiet) throw noDaemon(this.#context.socket, (error as NodeJS.ErrnoException).code ?? String(error));
    } finally {
      clearTimeout(quiet);
      response.destroy();
    }
  }

  /** Prints earlier events and those that come, for ever. After a break it goes on with what was missed. */
  async follow(): Promise<never> {
    for (let isFirst = true; ; isFirst = false) {
      try {
        await this.#readOn(await this.#open());
        this.#context.note('The daemon ended the stream.');
      } catch (error) {
        const isBreak = error instanceof VnicError && waitsFor.has(error.code);
        if (isFirst || !isBreak) throw error;
      }
      await sleep(this.#retryMs);
    }
  }

  async #readOn(response: IncomingMessage): Promise<void> {
    const parser = new EventStreamParser();
    try {
      for await (const bytes of response as AsyncIterable<Uint8Array>) {
        for (const part of parser.push(bytes)) {
          if (part.kind === 'retry') this.#retryMs = part.ms;
          else if (part.kind === 'event') await this.#print(part);
        }
      }
    } catch {
      // The connection broke: the same as its end.
    }
  }

  /** Throws `daemon_unreachable` where no daemon answers, and what the daemon says. */
  async #open(): Promise<IncomingMessage> {
    const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
    const { socket } = this.#context;
    const outgoing = request({
      socketPath: socket,
      path: this.#lastId === '' ? `/api/v1/events?latest=${this.#latest}` : '/api/v1/events',
      headers: {
        accept: 'text/event-stream',
        ...(this.#lastId === '' ? {} : { 'last-event-id': this.#lastId }),
      },
      agent: false,
    });
    outgoing.on('error', (error: NodeJS.ErrnoException) => reject(noDaemon(socket, error.code ?? error.message)));
    outgoing.on('response', resolve);
    outgoing.end();
    const response = await promise;
    if (response.statusCode === 200) return response;
    throw errorOfProblem(JSON.parse(await readAll(response)) as Record<string, unknown>);
  }

  /** @returns whether it was an event of the log, and not one about the stream */
  async #print(part: ServerEvent): Promise<boolean> {
    if (part.id !== '') this.#lastId = part.id;
    if (part.type === 'reset') {
      this.#context.note('Some events are lost: they are not kept any more.');
      return false;
    }
    const event = JSON.parse(part.data) as LoggedEvent;
    const { output } = this.#context.options;
    if (output === 'json') this.#context.write(JSON.stringify(event));
    else if (output === 'yaml') await this.#context.print([event], () => '');
    else this.#context.write(eventLine(event));
    return true;
  }
}

const waitsFor = new Set(['daemon_unreachable', 'not_ready', 'too_many_requests']);

/** `2026-03-01T12:00:00.000Z  az.failed  eth0  az=az-b moved=1366` */
export function eventLine({ time, type, device, data }: LoggedEvent): string {
  const fields = Object.entries(data).map(
    ([name, value]) => `${name}=${typeof value === 'string' ? value : JSON.stringify(value)}`,
  );
  return [time, type, device ?? '-', fields.join(' ')].join('  ').trimEnd();
}
