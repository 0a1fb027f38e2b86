// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { findBackEdges } from '../support/back-edges.ts';
import { skip } from '../support/skip.ts';
import { compileObject, compilers } from '../vm/harness/objects.ts';

/** The loop's body ends right before its beginning, and the function enters it in between. */
const refusedLoop = `
	.section	prog,"ax",@progbits
	.globl	refused
	.type	refused,@function
refused:
	r0 = 0
	goto head
latch:
	r0 += 1
head:
	if r0 != 5 goto latch
	exit
	.size	refused, .-refused
	.globl	accepted
	.type	accepted,@function
accepted:
	r0 = 0
again:
	r0 += 1
	if r0 != 5 goto again
	exit
	.size	accepted, .-accepted
`;

describe('loops of the BPF programs', () => {
  it('a loop that falls through to its beginning is found, one that jumps is not', function () {
    const compiler = compilers.find((name) => compileObject(name) !== null);
    if (compiler === undefined) skip(this, `none of ${compilers.join(', ')} is installed`);
    const args = '-target bpf -x assembler -c -o - -'.split(' ');
    const { stdout, stderr } = spawnSync(compiler, args, { input: refusedLoop });
    assert.notEqual(stdout.length, 0, stderr.toString());
    assert.deepEqual(findBackEdges(new Uint8Array(stdout)), [{ function: 'refused', from: 2 }]);
  });

  for (const compiler of compilers) {
    it(`${compiler} makes none that kernels before 6.7 refuse`, function () {
      const object = compileObject(compiler);
      if (object === null) skip(this, `${compiler} is not installed`);
      assert.deepEqual(findBackEdges(new Uint8Array(readFileSync(object))), []);
    });
  }
});
