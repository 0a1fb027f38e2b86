// SPDX-License-Identifier: Apache-2.0
/**
 * Bundles vnicctl and the daemon's engine with the packages they use:  scripts/bundle.ts FOLDER
 *
 * What runs from the sources reads 800 files, has TypeScript's types taken out of them, and keeps the text of each in the
 * memory of each thread. Names stay as they are written, so that stack traces can be read.
 */
import { rmSync } from 'node:fs';
import path from 'node:path';
import { build } from 'esbuild';

const root = path.join(import.meta.dirname, '..');
const [folder] = process.argv.slice(2);
if (folder === undefined) throw new Error('usage: bundle.ts FOLDER');
const outdir = path.resolve(folder);
// Parts are named by what is in them: those of an earlier build would stay.
rmSync(outdir, { recursive: true, force: true });

await build({
  absWorkingDir: root,
  // The last one is what make and bin/vnicctl look at.
  entryPoints: ['src/daemon/engine-worker.ts', 'src/cli/main.ts'],
  outdir,
  outbase: 'src',
  bundle: true,
  splitting: true,
  format: 'esm',
  platform: 'node',
  target: 'node22',
  // They load code of the machine from beside their own files.
  external: ['koffi', 'ffi-napi', 'ref-napi'],
  minifyWhitespace: true,
  minifySyntax: true,
  // Whoever ships the bundle ships the packages' licences as files.
  legalComments: 'none',
  // Packages in CommonJS ask for Node's own modules by it.
  banner: { js: "import{createRequire as $$require}from'node:module';const require=$$require(import.meta.url);" },
  logLevel: 'warning',
});
