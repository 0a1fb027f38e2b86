// SPDX-License-Identifier: Apache-2.0
/** vnicctl capture: packets as the dataplane sees them, into a pcapng file. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Command } from 'commander';
import type { ApiClient, Output } from '../api/client.ts';
import { CaptureFile } from '../captures/capture-file.ts';
import { verdictOptions } from '../captures/verdict.ts';
import { VnicError } from '../errors.ts';
import { type Context, contextOf } from './context.ts';
import { positiveNumber, wholeNumberFrom } from './numbers.ts';
import { count as countText, grouped } from './output.ts';
import { Progress } from './progress.ts';

const READ_INTERVAL_MS = 50;
const MAX_SNAPLEN = 9216;

interface CaptureOptions {
  write?: string;
  rule?: number;
  az?: string;
  snaplen?: number;
  count?: number;
  seconds?: number;
  rate?: number;
  force?: boolean;
}

type Read = Output<'readCapture'>;

export function captureCommand(command: Command): void {
  command
    .argument('[device]', 'network device (default: the only attached one)')
    .requiredOption('-w, --write <file>', 'pcapng file to make; - for stdout')
    .option('--rule <id>', 'only packets that matched this rule', wholeNumberFrom(1, 2 ** 31 - 1))
    .option('--az <name>', 'only packets from this AZ')
    .option('--snaplen <bytes>', 'keep so much of each packet (default: all)', wholeNumberFrom(1, MAX_SNAPLEN))
    .option('--count <packets>', 'end after so many', wholeNumberFrom(1, Number.MAX_SAFE_INTEGER))
    .option('--seconds <seconds>', 'end after so long', positiveNumber)
    .option('--rate <packets>', 'at most so many a second (default: 20000)', wholeNumberFrom(1, 1_000_000))
    .option('--force', 'replace a file that is there')
    .action(async (name: string | undefined, options: CaptureOptions) => {
      const context = contextOf(command);
      const client = await context.client();
      const device = await context.device(name);
      await capture(context, client, device, options);
    });
}

async function capture(context: Context, client: ApiClient, device: string, options: CaptureOptions): Promise<void> {
  const path = options.write ?? '-';
  const { rule, az, snaplen, count, rate } = options;
  if (path === '-' && process.stdout.isTTY) {
    throw new VnicError('usage', 'A capture is no text for a terminal.', { remedy: 'Give -w FILE, or pipe it on.' });
  }
  using file = new CaptureFile(path, { force: options.force === true });
  const body = { rule, az, snaplen, count, packetsPerSecond: rate };
  const given = Object.fromEntries(Object.entries(body).filter(([, value]) => value !== undefined));
  const { data: started } = await client.call('startCapture', { params: { device }, body: given });
  const end = new AbortController();
  const stop = (): void => end.abort();
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(signal, stop);
  try {
    file.begin(device, started.snaplen);
    const last = await fetchAll(context, client, { device, session: started.session }, file, options, end.signal);
    report(context, device, path, last);
  } finally {
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.off(signal, stop);
    await client.call('stopCapture', { params: { device }, query: { session: started.session } });
  }
}

interface Running {
  device: string;
  session: number;
}

/** Until a signal, the time or the count ends it; then what is left is fetched. Gives the last counters. */
async function fetchAll(
  context: Context,
  client: ApiClient,
  { device, session }: Running,
  file: CaptureFile,
  options: CaptureOptions,
  signal: AbortSignal,
): Promise<Read> {
  const { seconds = Number.POSITIVE_INFINITY } = options;
  const endMs = performance.now() + seconds * 1000;
  using progress = new Progress('waiting for packets');
  for (;;) {
    const isLast = signal.aborted || performance.now() >= endMs;
    const { data } = await client.call('readCapture', { params: { device }, body: { session } });
    file.add(
      data.packets.map((packet) => ({
        timeNs: BigInt(packet.time),
        data: Buffer.from(packet.data, 'base64'),
        wireBytes: packet.wireBytes,
        options: verdictOptions(packet),
      })),
    );
    if (data.interrupted) {
      progress.clear();
      context.warn('Packets are missing: nothing was fetched for so long that the kernel stopped.');
    }
    progress.show(progressText(data, options));
    if (isLast || (data.complete && data.packets.length === 0)) {
      const missed = BigInt(data.overAllowance) + BigInt(data.ringFull);
      file.end(BigInt(Date.now()) * 1_000_000n, BigInt(data.captured) + missed, missed);
      return data;
    }
    const leftMs = Math.max(0, Math.min(READ_INTERVAL_MS, endMs - performance.now()));
    await sleep(leftMs, undefined, { signal }).catch(() => {});
  }
}

function progressText({ captured, matched }: Read, { count, seconds }: CaptureOptions): string {
  const bounds = [
    ...(count === undefined ? [] : [`${countText(count, 'packet')} at most`]),
    ...(seconds === undefined ? ['Ctrl-C ends it'] : [`for ${seconds} s`]),
  ];
  return `${countText(Number(captured), 'packet')} captured, ${grouped(matched)} matched (${bounds.join(', ')})`;
}

function report(context: Context, device: string, path: string, last: Read): void {
  const { captured, matched, overAllowance, ringFull } = last;
  context.note(
    `${device}: ${countText(Number(captured), 'packet')} in ${path}, of ${countText(Number(matched), 'packet')} that matched`,
  );
  if (overAllowance > 0 && !last.complete) {
    context.warn(`${overAllowance} packets came above the rate and were not captured; see --rate`);
  }
  if (ringFull > 0) context.warn(`${ringFull} packets were not captured, because the kernel's buffer was full`);
}
