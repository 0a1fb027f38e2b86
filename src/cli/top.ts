// SPDX-License-Identifier: Apache-2.0
/** vnicctl top: a live view on a terminal; one refresh after the other as text or JSON where there is none. */
import { setTimeout as sleep } from 'node:timers/promises';
import { type Command, Option } from 'commander';
import type { ApiClient } from '../api/client.ts';
import { VnicError } from '../errors.ts';
import { type Context, contextOf } from './context.ts';
import { positiveNumber, wholeNumberFrom } from './numbers.ts';
import { bold, cut, toJson, yellow } from './output.ts';
import { type TopLook, type TopView, topView } from './top-model.ts';
import { TopScreen } from './top-screen.ts';
import { filterFlows, topLines } from './top-text.ts';

/** Reading the counters of more would make each refresh dear. */
const MAX_RULES = 1000;
const PLAIN_COLUMNS = 200;
const orders = ['rate', 'bytes', 'packets'] as const;
type Order = (typeof orders)[number];

interface TopOptions {
  once?: boolean;
  refreshes?: number;
  interval: number;
  by: Order;
  top: number;
}

export function topCommand(command: Command): void {
  command
    .argument('[device]', 'network device (default: all that are attached)')
    .option('--once', 'one refresh, as text')
    .option('-n, --refreshes <number>', 'so many refreshes, as text', wholeNumberFrom(1, Number.MAX_SAFE_INTEGER))
    .option('--interval <seconds>', 'between two refreshes', positiveNumber, 1)
    .option('--top <number>', 'how many flows', wholeNumberFrom(1, 1000), 20)
    .addOption(new Option('--by <order>', 'what puts flows in order').choices([...orders]).default('rate'))
    .action(async (name: string | undefined, options: TopOptions) => {
      const context = contextOf(command);
      const source = new TopSource(await context.client(), options);
      const devices = name === undefined ? await context.devices('attached') : [context.named(name)];
      if (devices.length === 0) {
        throw new VnicError('not_found', 'No device is attached.', { remedy: 'Attach one with: vnicctl attach DEV' });
      }
      const count = options.once === true ? 1 : options.refreshes;
      const isLive = count === undefined && context.options.output === 'table' && process.stdout.isTTY;
      if (isLive) await new LiveTop(source, devices, options).run();
      else await print(context, source, devices, options, count ?? Number.POSITIVE_INFINITY);
    });
}

class TopSource {
  readonly #client: ApiClient;
  readonly #top: number;

  constructor(client: ApiClient, { top }: TopOptions) {
    this.#client = client;
    this.#top = top;
  }

  async look(device: string, by: Order): Promise<TopLook> {
    const params = { device };
    const client = this.#client;
    const { data: flows } = await client.call('listFlows', { params, query: { top: this.#top, by } });
    const { data: status } = await client.call('getDevice', { params });
    const { data: queues } = await client.call('listQueues', { params });
    const { data: latency } = await client.call('getLatency', { params });
    const isFew = status.rules <= MAX_RULES;
    const rules = isFew ? (await client.call('listRules', { params })).data.items : null;
    return { atMs: performance.now(), status, queues: queues.items, latency, flows: flows.items, rules };
  }
}

async function print(
  context: Context,
  source: TopSource,
  devices: readonly string[],
  { by, interval }: TopOptions,
  count: number,
): Promise<void> {
  const looks = new Map<string, TopLook>();
  for (const device of devices) looks.set(device, await source.look(device, by));
  for (let refresh = 0; refresh < count; refresh++) {
    await sleep(interval * 1000);
    for (const [device, before] of looks) {
      const after = await source.look(device, by);
      looks.set(device, after);
      const view = topView(before, after);
      const { output } = context.options;
      if (output === 'json') context.write(toJson({ time: new Date().toISOString(), ...view }, 0));
      else if (output === 'yaml') await context.print(view, () => '');
      else context.write(`${topLines(view, { columns: PLAIN_COLUMNS, rows: null }).join('\n')}\n`);
    }
  }
}

const help = [
  'q        quit',
  'p        pause, and go on',
  's        sort flows by rate, bytes or packets',
  'd        the next device',
  '/        show only flows with this text: address, port, protocol, AZ, rule; Enter takes it, Esc none',
  '?        this help',
  '',
  'QUEUES   a character a queue, the fullest as high as can be; · idle, x lost',
  'LATENCY  from XDP entry to the CPU of the queue, between two refreshes',
  'RTT      of TCP, measured in passing, between two refreshes; - none was measured',
];

class LiveTop {
  readonly #source: TopSource;
  readonly #devices: readonly string[];
  readonly #intervalMs: number;
  #by: Order;
  #index = 0;
  #isPaused = false;
  #showsHelp = false;
  #isOver = false;
  #problem: string | null = null;
  #filter = '';
  /** Keys are text of the filter. */
  #isTyping = false;
  #view: TopView | null = null;
  #wake = new AbortController();

  constructor(source: TopSource, devices: readonly string[], { interval, by }: TopOptions) {
    this.#source = source;
    this.#devices = devices;
    this.#intervalMs = interval * 1000;
    this.#by = by;
  }

  async run(): Promise<void> {
    const { stdin, stdout } = process;
    // What fails at once is an error as of any command, not one on a screen.
    let before = await this.#source.look(this.#device, this.#by);
    using screen = new TopScreen(stdin, stdout, {
      onKey: (key) => {
        this.#press(key);
        this.#draw(screen);
      },
      onResize: () => this.#draw(screen),
      onEnd: () => this.#end(),
    });
    this.#draw(screen);
    while (!this.#isOver) {
      const device = this.#device;
      await this.#wait(this.#view === null ? Math.min(this.#intervalMs, 500) : this.#intervalMs);
      if (this.#isOver) break;
      if (this.#isPaused) continue;
      try {
        const after = await this.#source.look(this.#device, this.#by);
        if (this.#device === device && before.status.device === after.status.device) {
          this.#view = topView(before, after);
        }
        before = after;
        this.#problem = null;
      } catch (error) {
        if (!(error instanceof VnicError)) throw error;
        this.#problem = error.message;
      }
      this.#draw(screen);
    }
  }

  get #device(): string {
    return this.#devices[this.#index]!;
  }

  async #wait(ms: number): Promise<void> {
    await sleep(ms, undefined, { signal: this.#wake.signal }).catch(() => {});
    this.#wake = new AbortController();
  }

  #end(): void {
    this.#isOver = true;
    this.#wake.abort();
  }

  #press(key: string): void {
    if (this.#isTyping && key !== '\x03') {
      this.#type(key);
      return;
    }
    switch (key) {
      case '/':
        this.#isTyping = true;
        return;
      case '\x1b':
        this.#filter = '';
        return;
      case 'q':
      case '\x03':
        this.#end();
        return;
      case 'p':
      case ' ':
        this.#isPaused = !this.#isPaused;
        return;
      case 's':
        this.#by = orders[(orders.indexOf(this.#by) + 1) % orders.length]!;
        this.#wake.abort();
        return;
      case 'd':
      case '\t':
        this.#index = (this.#index + 1) % this.#devices.length;
        this.#view = null;
        this.#wake.abort();
        return;
      case '?':
      case 'h':
        this.#showsHelp = !this.#showsHelp;
    }
  }

  #type(key: string): void {
    if (key === '\r' || key === '\n') this.#isTyping = false;
    else if (key === '\x1b') {
      this.#isTyping = false;
      this.#filter = '';
    } else if (key === '\x7f' || key === '\b') this.#filter = this.#filter.slice(0, -1);
    else if (key >= ' ') this.#filter += key;
  }

  #draw(screen: TopScreen): void {
    if (this.#isOver) return;
    const { columns, rows } = screen.size;
    const body = this.#body(columns, Math.max(rows - 1, 1));
    const blanks = Array.from({ length: Math.max(rows - 1 - body.length, 0) }, () => '');
    screen.draw([...body, ...blanks, cut(this.#footer(), columns)]);
  }

  #body(columns: number, rows: number): string[] {
    if (this.#showsHelp) return help.slice(0, rows).map((line) => cut(line, columns));
    if (this.#view === null) return [cut(`${bold(this.#device)}   looking…`, columns)];
    return topLines({ ...this.#view, flows: filterFlows(this.#view.flows, this.#filter) }, { columns, rows });
  }

  #footer(): string {
    const which = this.#devices.length > 1 ? `   d device ${this.#index + 1}/${this.#devices.length}` : '';
    const state = this.#isPaused ? yellow('   paused') : '';
    if (this.#isTyping) return `filter: ${this.#filter}_   Enter takes it, Esc none`;
    const filter = this.#filter === '' ? '' : yellow(`   filter: ${this.#filter}`);
    const problem = this.#problem === null ? '' : yellow(`   ${this.#problem}`);
    return `q quit   p pause   s sort: ${this.#by}   / filter   ? help${which}${filter}${state}${problem}`;
  }
}
