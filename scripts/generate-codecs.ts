// SPDX-License-Identifier: Apache-2.0
/**
 * Writes src/maps/generated/abi.ts (bpf/vnic_abi.h) and host.ts (bpf/host_types.c) from the BTF that clang makes of
 * them. `--check` writes nothing and exits 1 when a committed file differs. Where the kernel's or libbpf's headers are
 * of another version than those that host.ts was made from, host.ts is not compared: the structs in it only grow, and
 * the unit tests compare every offset with the headers that are there. `--out FOLDER` writes or compares elsewhere.
 */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { parseArgs } from 'node:util';
import { abiSelection, clangs, hostSelection, root } from './codegen/compile.ts';
import { emitFile } from './codegen/emit.ts';

function committed(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}

/** The lines that say which headers a generated file was made from. */
function headersOf(text: string): string {
  return /^export const Headers = \{\n([^}]*)\}/m.exec(text)?.[1] ?? '';
}

/** The first line that differs, as a hint. */
function difference(before: string, after: string): string {
  const left = before.split('\n');
  const right = after.split('\n');
  const index = right.findIndex((line, at) => line !== left[at]);
  const line = index < 0 ? right.length : index;
  return `line ${line + 1}\n  committed: ${left[line] ?? '(end)'}\n  generated: ${right[line] ?? '(end)'}`;
}

function main(): number {
  const { values } = parseArgs({ options: { check: { type: 'boolean' }, out: { type: 'string' } } });
  const check = values.check === true;
  const folder = values.out ?? join(root, 'src', 'maps', 'generated');
  const clang = clangs()[0];
  if (clang === undefined) {
    console.error('clang is missing.\nInstall it: apt-get install clang');
    return 1;
  }
  let stale = 0;
  for (const [name, selection] of [
    ['abi.ts', abiSelection(clang)],
    ['host.ts', hostSelection(clang)],
  ] as const) {
    const path = join(folder, name);
    const text = emitFile(selection);
    const before = committed(path);
    if (!check) {
      mkdirSync(dirname(path), { recursive: true });
      writeFileSync(path, text);
    } else if (before !== '' && headersOf(before) !== headersOf(text)) {
      console.log(`${relative(root, path)}: made from other header versions than this machine has, not compared`);
    } else if (before !== text) {
      stale += 1;
      console.error(`${relative(root, path)} is not up to date: ${difference(before, text)}`);
    }
  }
  if (stale > 0) {
    console.error('Run: node scripts/generate-codecs.ts');
  }
  return stale > 0 ? 1 : 0;
}

process.exitCode = main();
