// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { checkSource, isSource, MAX_LINES } from '../../scripts/checking/source-rules.ts';
import { errorsPage } from '../../scripts/docs/errors-page.ts';
import { errorTable } from '../../src/errors.ts';

const APACHE = '// SPDX-License-Identifier: Apache-2.0\n';
const GPL = '/* SPDX-License-Identifier: GPL-2.0-only */\n';

function messages(file: string, text: string): string[] {
  return checkSource(file, text).map(({ message }) => message);
}

describe('source rules', () => {
  it('know a source file by its name', () => {
    for (const file of ['src/a.ts', 'bpf/a.bpf.c', 'bpf/a.h', 'Makefile', 'bin/vnicctl', '.ci/run', 'scripts/a.sh']) {
      assert.ok(isSource(file), file);
    }
    for (const file of ['README.md', 'package.json', 'LICENSES/GPL-2.0-only.txt', 'docs/Makefile.md']) {
      assert.ok(!isSource(file), file);
    }
  });

  it('ask for a licence line', () => {
    assert.deepEqual(messages('src/a.ts', 'export {};\n'), ['has no line SPDX-License-Identifier: Apache-2.0']);
    assert.deepEqual(messages('src/a.ts', APACHE), []);
    assert.deepEqual(messages('scripts/a.sh', `#!/bin/sh\n${APACHE.replace('//', '#')}`), []);
  });

  it('ask for the GPL on BPF code and for Apache elsewhere', () => {
    assert.deepEqual(messages('bpf/a.bpf.c', GPL), []);
    assert.deepEqual(messages('test/bpf/a.bpf.c', APACHE), ['is under Apache-2.0, expected GPL-2.0-only']);
    assert.deepEqual(messages('test/support/a.c', GPL), ['is under GPL-2.0-only, expected Apache-2.0']);
  });

  it('bound the length of files in src/ and bpf/, generated ones excepted', () => {
    const longest = APACHE + 'x\n'.repeat(MAX_LINES - 1);
    assert.deepEqual(messages('src/a.ts', longest), []);
    assert.deepEqual(messages('src/a.ts', `${longest}x\n`), [
      `has ${MAX_LINES + 1} lines, at most ${MAX_LINES} are read with ease`,
    ]);
    assert.deepEqual(messages('src/maps/generated/a.ts', `${longest}x\n`), []);
    assert.deepEqual(messages('test/unit/a.test.ts', `${longest}x\n`), []);
  });
});

describe('the page of errors', () => {
  it('explains every code with its exit code', () => {
    const page = errorsPage(errorTable);
    for (const [code, { exitCode, httpStatus, meaning }] of Object.entries(errorTable)) {
      assert.ok(page.includes(`| \`${code}\` | ${exitCode} | ${httpStatus} | ${meaning} |`), code);
    }
  });

  it('refuses an exit code that it does not explain', () => {
    assert.throws(
      () => errorsPage({ odd: { exitCode: 9, httpStatus: 500, meaning: 'Odd.' } }),
      /odd has the undocumented exit code 9/,
    );
  });
});
