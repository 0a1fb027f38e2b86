// SPDX-License-Identifier: Apache-2.0
/** vnicctl replay. */
import type { Command } from 'commander';
import { openController } from '../app/environment.ts';
import { type CaptureReplay, replayCapture } from '../app/replay-capture.ts';
import type { ReplayReport } from '../captures/replay.ts';
import { type DeviceConfig, parseDevice } from '../config/device.ts';
import { readConfigFile } from '../config/file.ts';
import { VnicError } from '../errors.ts';
import { formatProtocol } from '../steering/rules/protocols.ts';
import { deviceOf } from './attach.ts';
import { contextOf } from './context.ts';
import { verdictText } from './flows.ts';
import { wholeNumberFrom } from './numbers.ts';
import { bytesText, count, endpoint, table } from './output.ts';
import { Progress } from './progress.ts';

const MAX_LIMIT = 2 ** 31;

interface ReplayOptions {
  config?: string;
  device?: string;
  limit?: number;
}

export function replayCommand(command: Command): void {
  command
    .argument('<file>', 'pcap or pcapng file')
    .option('--config <file>', 'AZs and rules of the dataplane (default: 32 queues, no AZs, no rules)')
    .option('-d, --device <device>', 'device of the configuration, if it has several')
    .option('--limit <number>', 'how many flows to print (default: all)', wholeNumberFrom(0, MAX_LIMIT))
    .action(async (file: string, options: ReplayOptions) => {
      const context = contextOf(command);
      const config = await configOf(options);
      const { report, damage } = replayWithProgress(file, config);
      const flows = options.limit === undefined ? report.flows : report.flows.slice(0, options.limit);
      await context.print({ ...report, flows }, () => replayText(file, report, flows));
      // What could be read was of use; that something could not must not be missed.
      if (damage !== undefined) throw damage;
    });
}

function replayWithProgress(file: string, config: DeviceConfig): CaptureReplay {
  using progress = new Progress(`replaying ${file}`);
  return replayCapture(openController().native, file, config, (bytes, ofBytes) => {
    const done = ofBytes > 0 ? `${Math.floor((100 * bytes) / ofBytes)} % of ${bytesText(ofBytes)}` : bytesText(bytes);
    progress.show(`replaying ${file}: ${done}`);
  });
}

async function configOf({ config: file, device }: ReplayOptions): Promise<DeviceConfig> {
  if (file === undefined) return parseDevice(device ?? 'replay', {});
  const config = await readConfigFile(file);
  if (device !== undefined) return deviceOf(config, file, device);
  const [first, ...others] = config.devices;
  if (first === undefined) {
    throw new VnicError('invalid_config', `${file} has no device.`, { remedy: 'Add one below "devices".' });
  }
  if (others.length > 0) {
    const names = config.devices.map(({ name }) => name).join(', ');
    throw new VnicError('usage', `${file} has several devices: ${names}.`, { remedy: 'Pick one with --device DEV.' });
  }
  return first;
}

function replayText(file: string, report: ReplayReport, flows: ReplayReport['flows']): string {
  const unparsed = Object.entries(report.unparsed).map(([reason, packets]) => `${reason} ${packets}`);
  const shown = flows.length < report.flows.length ? `, ${flows.length} shown` : '';
  const head = [
    `${file}: ${count(report.packets, 'packet')}, ${bytesText(report.bytes)}, ${report.parsed} parsed`,
    `unparsed: ${unparsed.join(', ') || 'none'}`,
    `${count(report.flows.length, 'flow')}${shown}`,
  ].join('\n');
  if (flows.length === 0) return head;
  const rows = table(flows, [
    { title: 'PROTO', value: (flow) => String(formatProtocol(flow.proto)) },
    { title: 'SOURCE', value: (flow) => endpoint(flow.src, flow.srcPort) },
    { title: 'DESTINATION', value: (flow) => endpoint(flow.dst, flow.dstPort) },
    { title: 'PACKETS', value: (flow) => flow.packets },
    { title: 'BYTES', value: (flow) => bytesText(flow.bytes), align: 'right' },
    { title: 'QUEUE', value: (flow) => flow.queue },
    { title: 'AZ', value: (flow) => flow.az },
    { title: 'RULE', value: (flow) => flow.rule },
    { title: 'VERDICT', value: (flow) => verdictText(flow.verdict) },
  ]);
  return `${head}\n${rows}`;
}
