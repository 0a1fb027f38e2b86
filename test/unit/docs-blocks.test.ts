// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import path from 'node:path';
import {
  documentationFiles,
  extractBlocks,
  makeTargets,
  missingOutput,
  unmarkedBlocks,
} from '../../scripts/docs/blocks.ts';
import { type DocEnvironment, plainEnvironment, projectRoot, runBlock } from '../../scripts/run-docs.ts';

const PAGE = `# Guide

Text with \`\`\`sh in the middle.

\`\`\`sh test
echo one
echo two
\`\`\`

\`\`\`text output
one
\`\`\`

\`\`\`sh test=rig needs=etcd
vnicctl status
\`\`\`

Prose between.

\`\`\`text output
not the output of the block above
\`\`\`

\`\`\`yaml
a: 1
\`\`\`

\`\`\`sh norun
apt-get install x
\`\`\`

\`\`\`sh
echo unmarked
\`\`\`

\`\`\`console
$ echo unmarked too
\`\`\`
`;

describe('commands in the documentation', () => {
  it('are found with their line, mode and output', () => {
    assert.deepEqual(extractBlocks(PAGE), [
      { line: 6, mode: 'test', needs: null, commands: 'echo one\necho two', output: 'one' },
      { line: 15, mode: 'rig', needs: 'etcd', commands: 'vnicctl status', output: null },
      { line: 29, mode: 'norun', needs: null, commands: 'apt-get install x', output: null },
    ]);
  });

  it('must say how they are tested', () => {
    assert.deepEqual(unmarkedBlocks(PAGE), [{ line: 33 }, { line: 37 }]);
  });

  it('are looked for in the README and below docs/', () => {
    assert.deepEqual(
      documentationFiles(['README.md', 'docs/adr/1.md', 'CHANGELOG.md', 'docs/a.txt', 'src/README.md']),
      ['README.md', 'docs/adr/1.md'],
    );
  });
});

describe('documented output', () => {
  it('agrees when only numbers, widths and left-out lines differ', () => {
    const real = 'DEVICE   QUEUES\n────────────────\neth0     32\nuptime 12:03:07, 5.25 Gbit/s\n';
    assert.equal(missingOutput('DEVICE  QUEUES\n──\neth0  4\n', real), null);
    assert.equal(missingOutput('DEVICE QUEUES\n...\nuptime 1:02, 7 Gbit/s', real), null);
  });

  it('names the first line that is not printed', () => {
    assert.equal(missingOutput('a\nb\nc', 'a\nc\n'), 'b');
  });

  it('differs when lines come in another order', () => {
    assert.equal(missingOutput('b\na', 'a\nb\n'), 'a');
  });
});

describe('make targets in the documentation', () => {
  it('are read past variables, options and comments', () => {
    assert.deepEqual(makeTargets('make demo\nKEEP=1 make demo # stays\nmake -k check BENCH=x\n# none\n'), [
      'demo',
      'demo',
      'check',
    ]);
  });

  it('must stand alone in their block', () => {
    assert.throws(() => makeTargets('make demo\nls'), /not a make command: ls/);
  });
});

describe('running a documented block', () => {
  function block(commands: string, output: string | null = null) {
    return { line: 1, mode: 'test', needs: null, commands, output } as const;
  }
  // No namespace here: these blocks only print.
  function inFolder<T>(use: (environment: DocEnvironment) => T): T {
    using plain = plainEnvironment();
    return use({ ...plain, prefix: [] });
  }

  it('gives what it printed, in an empty folder with vnicctl first on the PATH', () => {
    const printed = inFolder((environment) => runBlock('x.md', block('ls -A; echo "$PATH" >&2'), environment));
    assert.ok(printed.startsWith(`${path.join(projectRoot, 'bin')}:`), printed);
  });

  it('fails with place and output when a command in the middle fails', () => {
    assert.throws(
      () => inFolder((environment) => runBlock('x.md', block('echo before\nfalse\necho after'), environment)),
      (error: Error) => error.message === 'x.md:1: ended with 1\nbefore\n',
    );
  });

  it('fails when it prints something else than documented', () => {
    assert.throws(
      () => inFolder((environment) => runBlock('x.md', block('echo real', 'documented'), environment)),
      /the documented line\n {2}documented\nis not in the real output:\nreal/,
    );
  });

  it('does not wait for what it leaves in the background', () => {
    const printed = inFolder((environment) => runBlock('x.md', block('sleep 300 & echo $! $$'), environment));
    const pid = Number(printed.split(' ')[0]);
    assert.ok(existsSync(`/proc/${pid}`), 'still running');
    process.kill(pid);
  });

  it('fails on a make target that does not exist', () => {
    const make = (target: string) =>
      ({ line: 1, mode: 'make', needs: null, commands: `make ${target}`, output: null }) as const;
    inFolder((environment) => {
      assert.equal(runBlock('x.md', make('clean'), environment), '');
      assert.throws(() => runBlock('x.md', make('clena'), environment), /x\.md:1: make clena: .*No rule/s);
    });
  });
});
