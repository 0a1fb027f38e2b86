// SPDX-License-Identifier: Apache-2.0
/** Text for people: tables, numbers with units, bars. Data for machines: JSON and YAML. Pure but for styleText's look at NO_COLOR. */
import { stripVTControlCharacters, styleText } from 'node:util';

export type OutputFormat = 'table' | 'json' | 'yaml';

/** u64 values as JSON numbers where those are exact, else as strings. */
function jsonValue(_: string, value: unknown): unknown {
  if (typeof value !== 'bigint') return value;
  return value <= BigInt(Number.MAX_SAFE_INTEGER) && value >= BigInt(Number.MIN_SAFE_INTEGER)
    ? Number(value)
    : String(value);
}

export function toJson(data: unknown, indent = 2): string {
  return JSON.stringify(data, jsonValue, indent);
}

export async function toYaml(data: unknown): Promise<string> {
  const { stringify } = await import('./yaml.ts');
  return stringify(JSON.parse(toJson(data)), { lineWidth: 0 }).trimEnd();
}

export interface Column<Row> {
  title: string;
  /** Null and undefined print as a hyphen. */
  value: (row: Row) => string | number | bigint | null | undefined;
  align?: 'left' | 'right';
}

const GAP = '  ';

/** A table without borders; numbers are right-aligned unless the column says otherwise. Fit for 100,000 rows. */
export function table<Row>(rows: readonly Row[], columns: readonly Column<Row>[]): string {
  const values = rows.map((row) => columns.map(({ value }) => value(row)));
  const isNumeric = (column: number): boolean =>
    values.length > 0 && values.every((row) => row[column] == null || typeof row[column] !== 'string');
  const aligns = columns.map(({ align }, column) => align ?? (isNumeric(column) ? 'right' : 'left'));
  const lines = [
    columns.map(({ title }) => bold(title)),
    ...values.map((row) => row.map((cell) => (cell == null ? '-' : grouped(cell)))),
  ];
  const widths = columns.map((_, column) =>
    lines.reduce((most, cells) => Math.max(most, visibleWidth(cells[column] ?? '')), 0),
  );
  const padded = (cell: string, column: number): string => {
    const blanks = ' '.repeat((widths[column] ?? 0) - visibleWidth(cell));
    return aligns[column] === 'right' ? blanks + cell : cell + blanks;
  };
  return lines.map((cells) => cells.map(padded).join(GAP).trimEnd()).join('\n');
}

function visibleWidth(text: string): number {
  return stripVTControlCharacters(text).length;
}

/** Names and values, one pair a line. */
export function pairs(entries: readonly (readonly [string, string | number | bigint | null])[]): string {
  const width = Math.max(...entries.map(([name]) => name.length)) + 2;
  return entries.map(([name, value]) => `${name.padEnd(width)}${value === null ? '-' : grouped(value)}`).join('\n');
}

export function bold(text: string): string {
  return styleText('bold', text);
}

export function red(text: string): string {
  return styleText('red', text);
}

export function green(text: string): string {
  return styleText('green', text);
}

export function yellow(text: string): string {
  return styleText('yellow', text);
}

/** Made once, on first use: toLocaleString would look its locale up for each number of a long table. */
let numberFormat: Intl.NumberFormat | undefined;

/** 1234567 as 1,234,567; text as it is. */
export function grouped(value: string | number | bigint): string {
  if (typeof value === 'string') return value;
  numberFormat ??= new Intl.NumberFormat('en-US', { maximumFractionDigits: 2 });
  return numberFormat.format(value);
}

function scaled(value: number, step: number, units: readonly string[]): string {
  let index = 0;
  let rest = value;
  while (rest >= step && index < units.length - 1) {
    rest /= step;
    index++;
  }
  return `${index === 0 ? Math.round(rest) : rest.toPrecision(rest >= 100 ? 4 : 3)} ${units[index]}`;
}

/** Powers of 1024, as tc counts bytes. */
export function bytesText(bytes: number | bigint): string {
  return scaled(Number(bytes), 1024, ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB']);
}

export function bitRateText(bitsPerSecond: number): string {
  return scaled(bitsPerSecond, 1000, ['bit/s', 'kbit/s', 'Mbit/s', 'Gbit/s', 'Tbit/s']);
}

/** 1234567 as `1.23 M`, to stand before a unit; 12 as `12 `. */
export function scaledCount(value: number): string {
  return scaled(value, 1000, ['', 'k', 'M', 'G']);
}

/** From ns to s, whichever reads best. */
export function durationText(ns: number): string {
  return scaled(ns, 1000, ['ns', 'µs', 'ms', 's']);
}

export function secondsText(seconds: number): string {
  if (seconds < 100) return `${seconds.toFixed(1)} s`;
  if (seconds < 6000) return `${Math.round(seconds / 60)} min`;
  return `${Math.round(seconds / 3600)} h`;
}

const eighths = ['', '▏', '▎', '▍', '▌', '▋', '▊', '▉'];

/** A bar of at most `width` characters in steps of an eighth; what is above 0 is seen. */
export function bar(share: number, width: number): string {
  if (!(share > 0)) return '';
  const steps = Math.max(1, Math.round(Math.min(share, 1) * width * 8));
  return '█'.repeat(Math.floor(steps / 8)) + eighths[steps % 8];
}

export function endpoint(address: string, port: number): string {
  if (port === 0) return address;
  return address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`;
}

/** `1 rule`, `2 rules`. */
export function count(number: number, noun: string): string {
  return `${grouped(number)} ${noun}${number === 1 ? '' : 's'}`;
}

const ESCAPE = '\u001b';
const colourOrCharacter = new RegExp(`${ESCAPE}\\[[0-9;]*m|.`, 'gu');

/** At most so many columns; colours end where the line is cut. */
export function cut(line: string, columns: number): string {
  if (stripVTControlCharacters(line).length <= columns) return line;
  let shown = 0;
  let result = '';
  let isStyled = false;
  for (const part of line.match(colourOrCharacter) ?? []) {
    if (part.length > 1 && part.startsWith(ESCAPE)) {
      isStyled = true;
      result += part;
    } else if (shown < columns) {
      result += part;
      shown++;
    }
  }
  return isStyled ? `${result}\x1b[0m` : result;
}
