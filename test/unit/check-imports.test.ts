// SPDX-License-Identifier: Apache-2.0
// biome-ignore-all lint/suspicious/noTemplateCurlyInString: these strings are sources under test
import assert from 'node:assert/strict';
import { checkFile } from '../../scripts/checking/import-rules.ts';
import { blank, importsOf } from '../../scripts/checking/source-text.ts';

const PACKAGES = new Set(['koffi', 'zod', '@scope/name']);

function messages(file: string, source: string): string[] {
  return checkFile(file, source, PACKAGES).map(({ line, message }) => `${line}: ${message}`);
}

describe('import rules', () => {
  it('let each module import downwards', () => {
    assert.deepEqual(messages('src/cli/main.ts', `import { App } from '../app/app.ts';`), []);
    assert.deepEqual(messages('src/app/app.ts', `import { plan } from '../steering/planner.ts';`), []);
    assert.deepEqual(messages('src/maps/typed.ts', `import type { Native } from '../loader/ffi/types.ts';`), []);
    assert.deepEqual(messages('src/steering/planner.ts', `import { VnicError } from '../errors.ts';`), []);
    assert.deepEqual(messages('src/config/load.ts', `import { parseRule } from '../steering/rules/parse.ts';`), []);
  });

  it('refuse an import upwards, also of a type only, and name the line', () => {
    assert.deepEqual(messages('src/maps/typed.ts', `\nimport type { Rule } from '../steering/rules/model.ts';`), [
      '2: maps must not import steering (../steering/rules/model.ts)',
    ]);
    assert.deepEqual(messages('src/loader/ffi/index.ts', `import { Fd } from '../fd.ts';`), [
      '1: loader/ffi must not import loader (../fd.ts)',
    ]);
    assert.deepEqual(messages('src/errors.ts', `export * from './maps/codec.ts';`), [
      '1: errors must not import layouts (./maps/codec.ts)',
    ]);
  });

  it('refuse an import spread over lines, a dynamic import and a require', () => {
    assert.deepEqual(messages('src/loader/pins.ts', `import {\n  a,\n  b,\n} from '../app/app.ts';`), [
      '4: loader must not import app (../app/app.ts)',
    ]);
    assert.deepEqual(messages('src/loader/pins.ts', `const app = await import('../app/app.ts');`), [
      '1: loader must not import app (../app/app.ts)',
    ]);
    assert.deepEqual(messages('src/loader/pins.ts', `const app = require("../app/app.ts");`), [
      '1: loader must not import app (../app/app.ts)',
    ]);
  });

  it('let the loader use layouts, but not the rest of maps', () => {
    assert.deepEqual(messages('src/loader/object.ts', `import { BpfMapInfo } from '../maps/generated/host.ts';`), []);
    assert.deepEqual(messages('src/loader/object.ts', `import { TypedMap } from '../maps/typed.ts';`), [
      '1: loader must not import maps (../maps/typed.ts)',
    ]);
  });

  it('keep native packages in the FFI seam', () => {
    assert.deepEqual(messages('src/loader/ffi/koffi-adapter.ts', `import koffi from 'koffi';`), []);
    assert.deepEqual(messages('src/loader/object.ts', `import koffi from 'koffi';`), [
      '1: only loader/ffi may import koffi',
    ]);
  });

  it('refuse packages that the product does not depend on', () => {
    assert.deepEqual(messages('src/config/schema.ts', `import { z } from 'zod/v4';`), []);
    assert.deepEqual(messages('src/config/schema.ts', `import x from '@scope/name/deep';`), []);
    assert.deepEqual(messages('src/config/schema.ts', `import fc from 'fast-check';`), [
      '1: fast-check is not among the dependencies of package.json',
    ]);
  });

  it('keep I/O, clocks and chance out of steering', () => {
    assert.deepEqual(messages('src/steering/planner.ts', `import { readFileSync } from 'node:fs';`), [
      '1: steering is pure: must not import node:fs',
    ]);
    assert.deepEqual(messages('src/steering/planner.ts', `import { readFile } from 'node:fs/promises';`), [
      '1: steering is pure: must not import node:fs/promises',
    ]);
    assert.deepEqual(messages('src/steering/planner.ts', 'const now = Date.now();\nconst r = Math.random();'), [
      '1: steering is pure: no Date.now',
      '2: steering is pure: no Math.random',
    ]);
    assert.deepEqual(messages('src/telemetry/scrape.ts', 'const now = performance.now();'), []);
  });

  it('keep the terminal in the CLI', () => {
    assert.deepEqual(messages('src/cli/main.ts', 'process.stdout.write(String(process.argv));'), []);
    assert.deepEqual(messages('src/telemetry/x.ts', 'console.log(`${process.argv[2]}`);'), [
      '1: only cli may use console.log',
      '1: only cli may use process.argv',
    ]);
  });

  it('do not take comments and strings for code', () => {
    const source = `/* Date.now() */ // console.log('x')\nconst text = 'import("../app/a.ts")' + "process.argv" + \`Date.now()\`;`;
    assert.deepEqual(messages('src/telemetry/x.ts', source.replace('import(', 'impart(')), []);
    assert.deepEqual(
      messages('src/steering/x.ts', `const slashes = /\\/\\* '/; // Date.now()\nconst a = 1; // it's`),
      [],
    );
  });

  it('see code after a division, a regular expression and a template', () => {
    assert.deepEqual(messages('src/steering/x.ts', `const a = b / c; Date.now();`), [
      '1: steering is pure: no Date.now',
    ]);
    assert.deepEqual(messages('src/steering/x.ts', `const a = /['"/]/; Date.now();`), [
      '1: steering is pure: no Date.now',
    ]);
    assert.deepEqual(messages('src/steering/x.ts', "const a = `${{ b: `${c}` }.b}'`; Date.now();"), [
      '1: steering is pure: no Date.now',
    ]);
  });

  it('refuse a file that belongs to no module, and imports that leave src/', () => {
    assert.deepEqual(messages('src/misc/x.ts', ''), ['1: is in no module of the module map']);
    assert.deepEqual(messages('src/app/x.ts', `import { rig } from '../../test/support/rig.ts';`), [
      '1: imports test/support/rig.ts, outside src/',
    ]);
  });
});

describe('source text', () => {
  it('keeps every line number', () => {
    const source = 'a;\n/* b\n c */\n`d\n${e}\nf`;\n';
    assert.equal(blank(source, { strings: true }).split('\n').length, source.split('\n').length);
    assert.equal(blank(source, { strings: true }).length, source.length);
  });

  it('finds re-exports and imports for their effect', () => {
    assert.deepEqual(importsOf(`import './a.ts';\nexport { b } from './b.ts';\nexport type * from './c.ts';`), [
      { specifier: './a.ts', line: 1 },
      { specifier: './b.ts', line: 2 },
      { specifier: './c.ts', line: 3 },
    ]);
  });
});
