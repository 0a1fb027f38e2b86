// SPDX-License-Identifier: Apache-2.0
/** Packets over time for a terminal: one line for each of several counters, and marks below them. Pure. */

const blocks = ' ▁▂▃▄▅▆▇█';

/** One character for each value, scaled to the largest of all. */
export function sparkline(values: readonly number[], most = Math.max(...values)): string {
  return values
    .map((value) => {
      const level = most === 0 ? 0 : Math.ceil((value / most) * (blocks.length - 1));
      return blocks[level] ?? ' ';
    })
    .join('');
}

export interface TimeLine {
  name: string;
  /** By slice. */
  values: ArrayLike<number>;
}

export interface Mark {
  /** One character. */
  sign: string;
  /** Milliseconds from the first slice. */
  atMs: number;
}

export interface TimePicture {
  sliceMs: number;
  /** Milliseconds from the first slice. */
  fromMs: number;
  toMs: number;
  /** Columns for the values, at most. */
  width: number;
  /** Lines of a group share a scale. */
  groups: readonly (readonly TimeLine[])[];
  marks: readonly Mark[];
}

const indent = '  ';

/** Of whole slices: as few as make the time fit. */
function slicesPerColumn({ sliceMs, fromMs, toMs, width }: TimePicture): number {
  return Math.max(1, Math.ceil((toMs - fromMs) / sliceMs / width));
}

export function columnMs(picture: TimePicture): number {
  return slicesPerColumn(picture) * picture.sliceMs;
}

/** Sums of the slices of each column; the last column may hold fewer. */
export function columns(values: ArrayLike<number>, picture: TimePicture): number[] {
  const { sliceMs, fromMs, toMs } = picture;
  const step = slicesPerColumn(picture);
  const [first, end] = [Math.max(0, Math.floor(fromMs / sliceMs)), Math.min(values.length, Math.floor(toMs / sliceMs))];
  const sums: number[] = [];
  for (let at = first; at < end; at += step) {
    let sum = 0;
    for (let slice = at; slice < Math.min(at + step, end); slice++) sum += values[slice] ?? 0;
    sums.push(sum);
  }
  return sums;
}

export function timePicture(picture: TimePicture): string {
  const nameWidth = Math.max(...picture.groups.flat().map(({ name }) => name.length));
  const groups = picture.groups.map((lines) => {
    const sums = lines.map(({ name, values }) => ({ name, values: columns(values, picture) }));
    const most = Math.max(0, ...sums.flatMap(({ values }) => values));
    return sums.map(({ name, values }) => `${indent}${name.padEnd(nameWidth)}  ${sparkline(values, most)}`.trimEnd());
  });
  return [...groups.flat(), `${indent}${' '.repeat(nameWidth)}  ${markLine(picture)}`.trimEnd()].join('\n');
}

/** Marks that would stand on one column stand beside each other. */
function markLine(picture: TimePicture): string {
  const line: string[] = [];
  for (const { sign, atMs } of [...picture.marks].sort((a, b) => a.atMs - b.atMs)) {
    if (atMs < picture.fromMs || atMs >= picture.toMs) continue;
    let column = Math.floor((atMs - picture.fromMs) / columnMs(picture));
    while (line[column] !== undefined) column++;
    line[column] = sign;
  }
  return Array.from(line, (sign) => sign ?? ' ').join('');
}
