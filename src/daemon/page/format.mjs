// SPDX-License-Identifier: Apache-2.0
/** Numbers, times and rules as people read them. Pure. */

/** @import { Rule } from './types.ts' */

const NOT_KNOWN = '–';
const SCALES = ['', 'k', 'M', 'G', 'T', 'P', 'E'];

const whole = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });

/**
 * @param {number | null} value null: not known
 * @returns {string}
 */
export function formatWhole(value) {
  return value === null ? NOT_KNOWN : whole.format(value);
}

/**
 * Three digits and a scale: 999, 1.23k, 45.6M.
 * @param {number | null} value
 * @returns {string}
 */
export function formatShort(value) {
  if (value === null) return NOT_KNOWN;
  let scaled = value;
  let scale = 0;
  while (scaled >= 999.5 && scale < SCALES.length - 1) {
    scaled /= 1000;
    scale++;
  }
  if (scale === 0) return scaled < 10 && !Number.isInteger(scaled) ? scaled.toFixed(1) : scaled.toFixed(0);
  return `${threeDigits(scaled)}${SCALES[scale]}`;
}

/** @param {number} value below 1000 */
function threeDigits(value) {
  if (value >= 99.95) return value.toFixed(0);
  return value.toFixed(value >= 9.995 ? 1 : 2);
}

/**
 * @param {number | null} value
 * @param {string} unit such as bit/s
 * @returns {string}
 */
export function formatUnit(value, unit) {
  if (value === null) return NOT_KNOWN;
  const [, digits = '', scale = ''] = /^([\d.]+)(\D*)$/.exec(formatShort(value)) ?? [];
  return `${digits} ${scale}${unit}`;
}

/**
 * @param {number | null} ns
 * @returns {string}
 */
export function formatNs(ns) {
  if (ns === null) return NOT_KNOWN;
  if (ns < 1000) return `${ns.toFixed(0)} ns`;
  if (ns < 999_500) return `${threeDigits(ns / 1000)} µs`;
  if (ns < 999_500_000) return `${threeDigits(ns / 1e6)} ms`;
  return `${threeDigits(ns / 1e9)} s`;
}

/**
 * @param {number | null} ms
 * @returns {string}
 */
export function formatMs(ms) {
  if (ms === null) return NOT_KNOWN;
  if (ms < 1000) return `${ms < 10 && !Number.isInteger(ms) ? ms.toFixed(1) : ms.toFixed(0)} ms`;
  const seconds = Math.floor(ms / 1000);
  if (seconds < 60) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return seconds % 60 === 0 ? `${minutes} min` : `${minutes} min ${seconds % 60} s`;
  const hours = Math.floor(minutes / 60);
  if (hours >= 48) return `${Math.floor(hours / 24)} days`;
  return minutes % 60 === 0 ? `${hours} h` : `${hours} h ${minutes % 60} min`;
}

/**
 * Time of day, with the day where it is not today.
 * @param {Date} time
 * @param {Date} now
 * @returns {string}
 */
export function formatTime(time, now) {
  const two = (/** @type {number} */ value) => String(value).padStart(2, '0');
  const clock = `${two(time.getHours())}:${two(time.getMinutes())}:${two(time.getSeconds())}`;
  if (time.toDateString() === now.toDateString()) return clock;
  return `${time.getFullYear()}-${two(time.getMonth() + 1)}-${two(time.getDate())} ${clock}`;
}

/**
 * Queue numbers in order as ranges: 0–2, 5.
 * @param {readonly number[]} numbers
 * @returns {string}
 */
export function formatRanges(numbers) {
  /** @type {[number, number][]} */
  const ranges = [];
  for (const number of numbers) {
    const last = ranges.at(-1);
    if (last !== undefined && last[1] + 1 === number) last[1] = number;
    else ranges.push([number, number]);
  }
  return ranges.map(([first, last]) => (first === last ? `${first}` : `${first}–${last}`)).join(', ');
}

/**
 * @param {string} address
 * @param {number} port 0: none
 * @returns {string}
 */
export function formatEndpoint(address, port) {
  if (port === 0) return address;
  return address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`;
}

const PROTOCOLS = new Map([
  [1, 'icmp'],
  [6, 'tcp'],
  [17, 'udp'],
  [58, 'icmpv6'],
  [132, 'sctp'],
]);

/**
 * @param {number} number IP protocol number
 * @returns {string}
 */
export function formatProtocol(number) {
  return PROTOCOLS.get(number) ?? String(number);
}

/**
 * @param {Rule['match']} match
 * @returns {string}
 */
export function formatMatch(match) {
  const { proto, src, srcPort, dst, dstPort } = match ?? {};
  const from = side('from', src, srcPort);
  const to = side('to', dst, dstPort);
  return [proto, from, to].filter((part) => part !== undefined && part !== '').join(' ') || 'everything';
}

/**
 * @param {string} word
 * @param {string | undefined} prefix
 * @param {string | number | undefined} port
 */
function side(word, prefix, port) {
  if (prefix === undefined && port === undefined) return '';
  return [word, prefix, port === undefined ? undefined : `port ${port}`].filter((part) => part !== undefined).join(' ');
}

/**
 * What a rule does with packets.
 * @param {Rule} rule
 * @returns {string}
 */
export function formatAction({ action, limit, queues, shadow }) {
  const parts = [shadow === true ? `${action} (shadow)` : action];
  if (limit !== undefined) {
    const { rate, burst, scope = 'rule', mode = 'police' } = limit;
    const size = burst === undefined ? '' : ` burst ${burst}`;
    parts.push(`${mode === 'shape' ? 'shape to' : 'limit'} ${rate}${size} per ${scope}`);
  }
  if (queues !== undefined && queues.length > 0) parts.push(`queues ${formatRanges(queues)}`);
  return parts.join(', ');
}

const MAX_EVENT_TEXT = 400;

/**
 * The data of an event in one line.
 * @param {Readonly<Record<string, unknown>>} data
 * @returns {string}
 */
export function formatEventData(data) {
  const text = Object.entries(data)
    .filter(([, value]) => value !== null)
    .map(([name, value]) => `${name} ${typeof value === 'string' ? value : JSON.stringify(value)}`)
    .join(' · ');
  return text.length <= MAX_EVENT_TEXT ? text : `${text.slice(0, MAX_EVENT_TEXT)}…`;
}
