// SPDX-License-Identifier: Apache-2.0
/**
 * The module map as a table, and the rules that keep it true. Pure: paths and texts in, violations out.
 *
 *     cli -> daemon -> fleet, api, health -> app -> steering, telemetry, tune, captures, config -> maps -> loader -> loader/ffi
 *
 * A module may import itself and what its row names. `layouts` is the part of src/maps that knows bytes and no kernel
 * (BTF, codecs, generated types); the loader passes kernel structs and compares layouts, so it may import that part.
 */
import path from 'node:path';
import { blank, importsOf, lineAt } from './source-text.ts';

export interface Violation {
  readonly file: string;
  readonly line: number;
  readonly message: string;
}

const LOW = ['maps', 'loader', 'layouts', 'errors', 'project'];

const mayImport: Readonly<Record<string, readonly string[]>> = {
  errors: [],
  project: [],
  layouts: ['errors'],
  'loader/ffi': ['layouts', 'errors'],
  loader: ['loader/ffi', 'layouts', 'errors'],
  maps: ['loader', 'loader/ffi', 'layouts', 'errors'],
  steering: LOW,
  telemetry: ['steering', ...LOW],
  tune: LOW,
  captures: LOW,
  config: ['steering', ...LOW],
  'fleet/core': ['config', 'steering', ...LOW],
  app: ['steering', 'telemetry', 'tune', 'captures', 'config', 'loader/ffi', ...LOW],
  api: ['fleet/core', 'app', 'steering', 'telemetry', 'tune', 'captures', 'config', 'loader/ffi', ...LOW],
  health: ['app', 'steering', 'telemetry', 'config', 'loader/ffi', ...LOW],
  fleet: ['fleet/core', 'app', 'config', 'steering', ...LOW],
  daemon: [
    'fleet',
    'fleet/core',
    'health',
    'api',
    'app',
    'steering',
    'telemetry',
    'tune',
    'config',
    'loader/ffi',
    ...LOW,
  ],
  cli: ['fleet', 'fleet/core', 'daemon', 'api', 'app', 'steering', 'telemetry', 'tune', 'captures', 'config', ...LOW],
};

/** Named by their files, not by a folder. */
const isFile = new Set(['layouts', 'errors', 'project']);

/** Path prefixes below src/, longest first where they nest. */
const modulePaths: readonly (readonly [string, string])[] = [
  ['loader/ffi/', 'loader/ffi'],
  ['fleet/core/', 'fleet/core'],
  ['maps/btf/', 'layouts'],
  ['maps/generated/', 'layouts'],
  ['maps/codec.ts', 'layouts'],
  ['errors.ts', 'errors'],
  ['project.ts', 'project'],
  ...Object.keys(mayImport)
    .filter((name) => !isFile.has(name) && !name.includes('/'))
    .map((name) => [`${name}/`, name] as const),
];

/** Only the FFI seam meets native libraries. */
const nativePackages = new Set(['koffi', 'ffi-napi', 'ref-napi']);

/** Steering and the core of a fleet decide and do not act: what they decide is applied elsewhere, what is measured is given to them. */
const pureModules = new Set(['steering', 'fleet/core', 'layouts', 'errors']);
const impureBuiltins = new Set(
  'child_process cluster dgram dns fs http http2 https inspector net perf_hooks process readline repl stream timers tls tty v8 vm worker_threads'.split(
    ' ',
  ),
);
const impureUse =
  /\b(?:Date\.now|new Date\(\)|performance\.now|process\.(?!emitWarning)\w+|setTimeout|setInterval|setImmediate|Math\.random)\b/g;

/** The terminal belongs to the CLI; everything else returns values and throws errors. */
const terminalUse = /\b(?:process\.(?:argv|stdin|stdout|stderr|exit|exitCode)|console\.\w+)\b/g;

/** The module of a path relative to the project root, or null outside src/. */
export function moduleOf(file: string): string | null {
  if (!file.startsWith('src/')) return null;
  const inside = file.slice('src/'.length);
  return modulePaths.find(([prefix]) => inside.startsWith(prefix))?.[1] ?? 'unknown';
}

/**
 * Checks one file of src/.
 * @param file path relative to the project root
 * @param packages names of the packages that the product (not its tests) depends on
 */
export function checkFile(file: string, source: string, packages: ReadonlySet<string>): Violation[] {
  const from = moduleOf(file);
  if (from === null) return [];
  const violations: Violation[] = [];
  const add = (line: number, message: string) => violations.push({ file, line, message });
  if (from === 'unknown') {
    add(1, 'is in no module of the module map');
    return violations;
  }

  for (const { specifier, line } of importsOf(source)) {
    const problem = specifier.startsWith('.')
      ? localImportProblem(from, file, specifier)
      : packageImportProblem(from, specifier, packages);
    if (problem !== null) add(line, problem);
  }

  const code = blank(source, { strings: true });
  if (pureModules.has(from)) {
    for (const match of code.matchAll(impureUse)) add(lineAt(code, match.index), `${from} is pure: no ${match[0]}`);
  }
  if (from !== 'cli') {
    for (const match of code.matchAll(terminalUse)) add(lineAt(code, match.index), `only cli may use ${match[0]}`);
  }
  return violations;
}

function localImportProblem(from: string, file: string, specifier: string): string | null {
  const target = path.posix.join(path.posix.dirname(file), specifier);
  const to = moduleOf(target);
  if (to === null) return target === 'package.json' ? null : `imports ${target}, outside src/`;
  if (to === from || mayImport[from]?.includes(to)) return null;
  return `${from} must not import ${to} (${specifier})`;
}

function packageImportProblem(from: string, specifier: string, packages: ReadonlySet<string>): string | null {
  if (specifier.startsWith('node:')) {
    const name = specifier.slice('node:'.length).split('/')[0]!;
    return pureModules.has(from) && impureBuiltins.has(name) ? `${from} is pure: must not import ${specifier}` : null;
  }
  const name = specifier
    .split('/')
    .slice(0, specifier.startsWith('@') ? 2 : 1)
    .join('/');
  if (nativePackages.has(name) && from !== 'loader/ffi') return `only loader/ffi may import ${name}`;
  return packages.has(name) ? null : `${name} is not among the dependencies of package.json`;
}
