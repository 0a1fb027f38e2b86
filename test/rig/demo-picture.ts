// SPDX-License-Identifier: Apache-2.0
/** Pictures for a terminal: queues as bars, packets over time as a line of blocks. */

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

/** Sums neighbours so that at most `width` values are left. */
export function condense(values: readonly number[], width: number): number[] {
  const step = Math.max(1, Math.ceil(values.length / width));
  return Array.from({ length: Math.ceil(values.length / step) }, (_, index) =>
    values.slice(index * step, (index + 1) * step).reduce((sum, value) => sum + value, 0),
  );
}

/** The queues as columns, one line for each phase, and below them the AZ that each belongs to. */
export function queuePicture(
  phases: readonly (readonly [name: string, perQueue: readonly number[]])[],
  azLetters: string,
): string {
  const width = Math.max(...phases.map(([name]) => name.length));
  const lines = phases.map(([name, perQueue]) => {
    const spaced = Array.from(sparkline(perQueue)).join(' ');
    return `  ${name.padEnd(width)}  ${spaced}`;
  });
  const numbers = [...Array(azLetters.length).keys()];
  const tens = numbers.map((queue) => (queue % 10 === 0 ? String(queue / 10) : ' ')).join(' ');
  const ones = numbers.map((queue) => String(queue % 10)).join(' ');
  const indent = ' '.repeat(width + 4);
  return [...lines, `${indent}${Array.from(azLetters).join(' ')}`, `${indent}${tens}`, `${indent}${ones}`].join('\n');
}
