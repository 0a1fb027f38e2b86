// SPDX-License-Identifier: Apache-2.0
/** vnicctl explain. */
import { type Command, Option } from 'commander';
import type { Call, Output } from '../api/client.ts';
import { VnicError } from '../errors.ts';
import { formatAddress, parseAddress } from '../steering/rules/prefix.ts';
import { formatProtocol, hasPorts, parseProtocol } from '../steering/rules/protocols.ts';
import { contextOf } from './context.ts';
import { verdictText } from './flows.ts';
import { wholeNumberFrom } from './numbers.ts';
import { durationText, endpoint, pairs } from './output.ts';

const MAX_FRAME_BYTES = 3520;
const MAX_PORT = 65_535;

type Explanation = Output<'explainPacket'>;
type Packet = NonNullable<Call<'explainPacket'>['body']>;

interface ExplainOptions {
  src: string;
  dst: string;
  proto: string;
  direction: 'ingress' | 'egress';
  bytes?: number;
}

export interface Endpoint {
  /** 16 bytes, IPv4 as v4-mapped. */
  address: Uint8Array;
  port: number | null;
}

export function explainCommand(command: Command): void {
  command
    .argument('<device>', 'network device')
    .requiredOption('--src <address>', 'source, with its port: 10.1.0.5:40000, [fd00:a::1]:40000')
    .requiredOption('--dst <address>', 'destination, with its port')
    .requiredOption('--proto <protocol>', 'tcp, udp, icmp … or its number')
    .addOption(new Option('--direction <direction>', 'which way').choices(['ingress', 'egress']).default('ingress'))
    .option('--bytes <number>', 'length of the frame, for limits', wholeNumberFrom(1, MAX_FRAME_BYTES))
    .action(async (name: string, options: ExplainOptions) => {
      const context = contextOf(command);
      const body = packetOf(options, (text) => context.note(text));
      const client = await context.client();
      const { data } = await client.call('explainPacket', { params: { device: context.named(name) }, body });
      await context.print(data, () => explanationText(data));
    });
}

function packetOf({ src, dst, proto: named, direction, bytes }: ExplainOptions, note: (text: string) => void): Packet {
  const ends = { src: parseEndpoint(src), dst: parseEndpoint(dst) };
  const proto = readOption('--proto', () => parseProtocol(named));
  const packet: Packet = {
    src: formatAddress(ends.src.address),
    dst: formatAddress(ends.dst.address),
    proto,
    direction,
    ...(bytes === undefined ? {} : { bytes }),
  };
  for (const side of ['src', 'dst'] as const) {
    const { port } = ends[side];
    if (!hasPorts(proto)) {
      if (port !== null) note(`${formatProtocol(proto)} has no ports: that of --${side} is left out.`);
    } else if (port === null) {
      note(`No port given with --${side}: 0 is assumed.`);
    } else {
      packet[`${side}Port`] = port;
    }
  }
  return packet;
}

/** `10.1.0.5`, `10.1.0.5:443`, `fd00:a::1`, `[fd00:a::1]:443`. Throws `usage`. */
export function parseEndpoint(text: string): Endpoint {
  const match = /^(?:\[([^\]]+)\]|([^:]+))(?::(\d{1,5}))?$/.exec(text);
  const port = match?.[3] === undefined ? null : Number(match[3]);
  if (port !== null && port > MAX_PORT) {
    throw new VnicError('usage', `"${text}" has no port from 0 to ${MAX_PORT}.`, { remedy: 'Write 10.1.0.5:443.' });
  }
  return { address: readOption(text, () => parseAddress(match?.[1] ?? match?.[2] ?? text)), port };
}

/** Readers of rules complain of rules; here it is the command line. */
function readOption<T>(what: string, read: () => T): T {
  try {
    return read();
  } catch (error) {
    if (!(error instanceof VnicError)) throw error;
    throw new VnicError('usage', `${what}: ${error.message}.`, {
      remedy: 'Write 10.1.0.5:443 or [fd00:a::1]:443, and a protocol such as tcp, udp or 47.',
      cause: error,
    });
  }
}

function limitText({ limit }: Explanation): string | null {
  if (limit === null) return null;
  const state = limit.over ? 'over' : 'within';
  const shadow = limit.shadow ? ', shadow' : '';
  return `per ${limit.scope}, ${state}${shadow}, ${durationText(limit.debtNs)} ahead of the clock`;
}

function arrivalText({ arrival, queue }: Explanation): string | null {
  if (arrival === null) return null;
  if (arrival.direct) return `its last packet arrived on its queue ${arrival.queue}, and was passed there`;
  if (arrival.queue === queue) return `its last packet arrived on its queue ${queue}, and was handed to its CPU`;
  return `its last packet arrived on queue ${arrival.queue}, not on its own, and was handed to its CPU`;
}

function explanationText(data: Explanation): string {
  const packet = `${formatProtocol(data.proto)} ${endpoint(data.src, data.srcPort)} -> ${endpoint(data.dst, data.dstPort)}`;
  if (!data.parsed) {
    return pairs([
      ['verdict', verdictText(data.verdict)],
      ['unparsed', `${data.unparsed}: the packet is counted and passed`],
    ]);
  }
  const rule = data.rule === null ? 'none matches' : `${data.rule} (${data.action})`;
  const queue = data.queue === null ? null : String(data.queue);
  return pairs([
    ['packet', `${packet}, ${data.direction}, ${data.frameBytes} bytes`],
    ['verdict', verdictText(data.verdict)],
    ['rule', rule],
    ['limit', limitText(data)],
    ['AZ', data.az],
    ['bucket', `${data.bucket} (hash 0x${data.hash.toString(16).padStart(8, '0')})`],
    ['table', data.table === null ? 'steering is off' : String(data.table)],
    ['queue', queue],
    ['CPU', data.cpu === null ? null : String(data.cpu)],
    ['arrival', arrivalText(data)],
    [
      'flow',
      data.flowKnown ? `known, verdict ${data.verdictCached ? 'cached' : 'of an older rule set'}` : 'not known yet',
    ],
  ]);
}
