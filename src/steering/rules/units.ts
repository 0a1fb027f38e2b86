// SPDX-License-Identifier: Apache-2.0
/**
 * Rates and sizes in the units of tc(8), section PARAMETERS, as tc/tc_util.c of iproute2 reads them: units in any case;
 * a bare rate is bit/s; `kbit` is 1000 bit/s, `kibit` 1024 bit/s; **`kbps` is 1000 bytes per second**; in sizes `kb` is
 * 1024 bytes and `kbit` 1024 bits. Ours beside them: `pps`, `kpps`, `mpps` for rates and `pkts` for bursts.
 */
import { VnicError } from '../../errors.ts';
import type { Burst, Rate } from './model.ts';

export const MIN_BITS_PER_SECOND = 1e3;
export const MAX_BITS_PER_SECOND = 400e9;
export const MIN_PACKETS_PER_SECOND = 1;
export const MAX_PACKETS_PER_SECOND = 400e6;
/** tc's own bound for a size. */
export const MAX_BURST_BYTES = 2 ** 32 - 1;
export const MAX_BURST_PACKETS = 2 ** 24;

const DEFAULT_BURST_SECONDS = 0.01;
const MIN_DEFAULT_BURST_PACKETS = 10;
const MIN_DEFAULT_BURST_BYTES = 16 * 1024;

const bitRateUnits = new Map<string, number>([
  ['', 1],
  ['bit', 1],
  ['bps', 8],
]);
for (const [index, letter] of ['k', 'm', 'g', 't'].entries()) {
  bitRateUnits.set(`${letter}bit`, 1000 ** (index + 1));
  bitRateUnits.set(`${letter}ibit`, 1024 ** (index + 1));
  bitRateUnits.set(`${letter}bps`, 8 * 1000 ** (index + 1));
  bitRateUnits.set(`${letter}ibps`, 8 * 1024 ** (index + 1));
}

const packetRateUnits = new Map<string, number>([
  ['pps', 1],
  ['kpps', 1e3],
  ['mpps', 1e6],
]);

const sizeUnits = new Map<string, number>([
  ['', 1],
  ['b', 1],
]);
for (const [index, letter] of ['k', 'm', 'g'].entries()) {
  sizeUnits.set(letter, 1024 ** (index + 1));
  sizeUnits.set(`${letter}b`, 1024 ** (index + 1));
  sizeUnits.set(`${letter}bit`, 1024 ** (index + 1) / 8);
}

const packetUnits = new Set(['pkt', 'pkts', 'packets']);

const rateRemedy = 'Write a rate such as 10mbit, 500kbit, 2gbit (tc units) or 20kpps (packets per second).';
const bytesRemedy = 'Write a size such as 64kb or 1mb (tc units), or a number of bytes.';
const packetsRemedy = 'Write a number of packets such as "20 pkts".';

/** A rate from tc's notation or a number of bit/s, rounded to whole bits or packets. Throws invalid_rule. */
export function parseRate(input: string | number): Rate {
  const { number, unit } = splitUnit(input, 'rate', rateRemedy);
  const bitScale = bitRateUnits.get(unit);
  if (bitScale !== undefined) {
    const bitsPerSecond = Math.round(number * bitScale);
    checkBounds(input, bitsPerSecond, MIN_BITS_PER_SECOND, MAX_BITS_PER_SECOND, '1kbit to 400gbit');
    return { bitsPerSecond };
  }
  const packetScale = packetRateUnits.get(unit);
  if (packetScale === undefined) {
    throw new VnicError('invalid_rule', `rate "${input}" has the unknown unit "${unit}"`, { remedy: rateRemedy });
  }
  const packetsPerSecond = Math.round(number * packetScale);
  checkBounds(input, packetsPerSecond, MIN_PACKETS_PER_SECOND, MAX_PACKETS_PER_SECOND, '1pps to 400mpps');
  return { packetsPerSecond };
}

/** A burst in the kind that its rate asks for; a bare number is bytes or packets accordingly. Throws invalid_rule. */
export function parseBurst(input: string | number, rate: Rate): Burst {
  return 'packetsPerSecond' in rate ? parsePacketBurst(input) : parseByteBurst(input);
}

function parsePacketBurst(input: string | number): Burst {
  const { number, unit } = splitUnit(input, 'burst', packetsRemedy);
  if (unit !== '' && !packetUnits.has(unit)) {
    throw new VnicError('invalid_rule', `burst "${input}" is not in packets, but the rate is in packets per second`, {
      remedy: packetsRemedy,
    });
  }
  if (!Number.isInteger(number) || number < 1 || number > MAX_BURST_PACKETS) {
    throw new VnicError('invalid_rule', `burst "${input}" is not from 1 to ${MAX_BURST_PACKETS} packets`, {
      remedy: packetsRemedy,
    });
  }
  return { packets: number };
}

function parseByteBurst(input: string | number): Burst {
  const { number, unit } = splitUnit(input, 'burst', bytesRemedy);
  const scale = sizeUnits.get(unit);
  if (scale === undefined) {
    const message = packetUnits.has(unit)
      ? `burst "${input}" is in packets, but the rate is in bits per second`
      : `burst "${input}" has the unknown unit "${unit}"`;
    throw new VnicError('invalid_rule', message, { remedy: bytesRemedy });
  }
  const bytes = Math.round(number * scale);
  if (bytes < 1 || bytes > MAX_BURST_BYTES) {
    throw new VnicError('invalid_rule', `burst "${input}" is not from 1 byte to 4294967295 bytes`, {
      remedy: bytesRemedy,
    });
  }
  return { bytes };
}

/** What 10 ms at the rate bring, but at least 10 packets or 16 KiB. */
export function defaultBurst(rate: Rate): Burst {
  if ('packetsPerSecond' in rate) {
    return { packets: Math.max(MIN_DEFAULT_BURST_PACKETS, Math.ceil(rate.packetsPerSecond * DEFAULT_BURST_SECONDS)) };
  }
  const bytes = Math.ceil((rate.bitsPerSecond / 8) * DEFAULT_BURST_SECONDS);
  return { bytes: Math.max(MIN_DEFAULT_BURST_BYTES, bytes) };
}

/** The shortest exact form that parseRate reads: 10mbit, 1500kbit, 20kpps. */
export function formatRate(rate: Rate): string {
  return 'packetsPerSecond' in rate
    ? largestUnit(rate.packetsPerSecond, 1000, ['pps', 'kpps', 'mpps'])
    : largestUnit(rate.bitsPerSecond, 1000, ['bit', 'kbit', 'mbit', 'gbit', 'tbit']);
}

/** The shortest exact form that parseBurst reads: 64kb, 1500b, 20 pkts. */
export function formatBurst(burst: Burst): string {
  return 'packets' in burst ? `${burst.packets} pkts` : largestUnit(burst.bytes, 1024, ['b', 'kb', 'mb', 'gb']);
}

function largestUnit(value: number, step: number, units: readonly string[]): string {
  let index = 0;
  let scaled = value;
  while (index < units.length - 1 && scaled !== 0 && scaled % step === 0) {
    scaled /= step;
    index++;
  }
  return `${scaled}${units[index]}`;
}

function splitUnit(input: string | number, what: string, remedy: string): { number: number; unit: string } {
  const text = String(input).trim();
  if (text.endsWith('%')) {
    throw new VnicError('invalid_rule', `${what} "${text}" is a percentage, but a virtual NIC has no line speed`, {
      remedy,
    });
  }
  const parts = /^(\d+(?:\.\d+)?(?:e[+-]?\d+)?)\s*([a-z]*)$/i.exec(text);
  if (parts === null) throw new VnicError('invalid_rule', `${what} "${text}" is not a number and a unit`, { remedy });
  return { number: Number(parts[1]), unit: (parts[2] ?? '').toLowerCase() };
}

function checkBounds(input: string | number, value: number, min: number, max: number, bounds: string): void {
  if (value >= min && value <= max) return;
  throw new VnicError('invalid_rule', `rate "${input}" is outside ${bounds}`, { remedy: rateRemedy });
}
