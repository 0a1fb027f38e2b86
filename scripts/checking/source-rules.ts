// SPDX-License-Identifier: Apache-2.0
/** Rules that hold for every source file: a licence line and a size at which a file is still read in one go. Pure. */
import type { Violation } from './import-rules.ts';

/** Lines that a file of src/ or bpf/ may have, generated ones excepted. */
export const MAX_LINES = 450;

const SOURCE = /(?:\.(?:ts|mjs|js|c|h|sh)|^Makefile|^bin\/[^/.]+|^\.ci\/[^/.]+)$/;
const BPF_CODE = /^(?:bpf|test\/bpf)\/.*\.[ch]$/;

export function isSource(file: string): boolean {
  return SOURCE.test(file);
}

export function isGenerated(file: string): boolean {
  return file.includes('/generated/');
}

/** The licence that a file must name: BPF programs call helpers that the kernel offers to GPL programs only. */
export function licenceOf(file: string): string {
  return BPF_CODE.test(file) ? 'GPL-2.0-only' : 'Apache-2.0';
}

/** @param file path relative to the project root */
export function checkSource(file: string, text: string): Violation[] {
  const violations: Violation[] = [];
  const lines = text.split('\n');
  // Below an interpreter line or the mark of a generated file.
  const head = lines.slice(0, 3).join('\n');
  const licence = /SPDX-License-Identifier: (\S+)/.exec(head)?.[1];
  const expected = licenceOf(file);
  if (licence === undefined)
    violations.push({ file, line: 1, message: `has no line SPDX-License-Identifier: ${expected}` });
  else if (licence !== expected)
    violations.push({ file, line: 1, message: `is under ${licence}, expected ${expected}` });

  const count = text.endsWith('\n') ? lines.length - 1 : lines.length;
  if (/^(?:src|bpf)\//.test(file) && !isGenerated(file) && count > MAX_LINES) {
    violations.push({
      file,
      line: MAX_LINES + 1,
      message: `has ${count} lines, at most ${MAX_LINES} are read with ease`,
    });
  }
  return violations;
}
