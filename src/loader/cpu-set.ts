// SPDX-License-Identifier: Apache-2.0
/** Sets of CPUs as the kernel writes them, as lists and as masks (Documentation/admin-guide/cputopology.rst). Pure. */

/** "0-3,8" as ascending numbers. */
export function parseCpuList(text: string): number[] {
  return text
    .trim()
    .split(',')
    .filter((part) => part !== '')
    .flatMap((part) => {
      const [first = 0, last = first] = part.split('-').map(Number);
      return Array.from({ length: last - first + 1 }, (_, index) => first + index);
    });
}

/** Ascending numbers as "0-3,8"; the empty text for none. */
export function formatCpuList(cpus: readonly number[]): string {
  const sorted = [...new Set(cpus)].sort((a, b) => a - b);
  const parts: string[] = [];
  for (let at = 0; at < sorted.length; ) {
    let end = at;
    while (sorted[end + 1] === sorted[end]! + 1) end++;
    parts.push(end === at ? `${sorted[at]}` : `${sorted[at]}-${sorted[end]}`);
    at = end + 1;
  }
  return parts.join(',');
}

/** "00000001,00000003" (32 bits a word, the highest first) as ascending numbers. */
export function parseCpuMask(text: string): number[] {
  const words = text.trim().split(',').reverse();
  return words.flatMap((word, index) => {
    const bits = Number.parseInt(word, 16);
    return Array.from({ length: 32 }, (_, bit) => bit).flatMap((bit) =>
      Math.floor(bits / 2 ** bit) % 2 === 1 ? [32 * index + bit] : [],
    );
  });
}

/** The other way; "0" for none. */
export function formatCpuMask(cpus: readonly number[]): string {
  const words: number[] = [];
  for (const cpu of new Set(cpus)) {
    const index = Math.floor(cpu / 32);
    while (words.length <= index) words.push(0);
    words[index]! += 2 ** (cpu % 32);
  }
  if (words.length === 0) return '0';
  const [highest = 0, ...rest] = words.reverse();
  return [highest.toString(16), ...rest.map((word) => word.toString(16).padStart(8, '0'))].join(',');
}
