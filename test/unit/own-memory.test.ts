// SPDX-License-Identifier: Apache-2.0
/** Which mappings of a process may be dropped: never one that would lose something. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { loadNative } from '../../src/loader/ffi/index.ts';
import { cleanFileMappings, releaseUnusedMemory } from '../../src/loader/own-memory.ts';

/** A mapping as /proc/PID/smaps has it, with the fields that matter. */
const mapping = (range: string, rights: string, file: string, anonymousKb: number): string =>
  `${range} ${rights} 00001000 fe:00 ${file === '' ? 0 : 12345}    ${file}\nRss:                 400 kB\nAnonymous:      ${String(anonymousKb).padStart(8)} kB\nVmFlags: rd ex mr mw me`;

describe('memory that is given back', () => {
  const cases: [name: string, text: string, isClean: boolean][] = [
    ['code of a file', mapping('00400000-00500000', 'r-xp', '/usr/bin/node', 0), true],
    ['constants of a file', mapping('00400000-00500000', 'r--p', '/usr/bin/node', 0), true],
    ['constants that the linker relocated', mapping('00400000-00500000', 'r--p', '/usr/bin/node', 12), false],
    ['data of a file', mapping('00400000-00500000', 'rw-p', '/usr/bin/node', 0), false],
    ['a shared file', mapping('00400000-00500000', 'r--s', '/usr/share/x', 0), false],
    ['a BPF map', mapping('7f0000000000-7f0000001000', 'rw-s', 'anon_inode:bpf-map', 0), false],
    ['memory without a file', mapping('7f0000000000-7f0000001000', 'r--p', '', 0), false],
    ['the heap', mapping('7f0000000000-7f0000001000', 'rw-p', '[heap]', 4), false],
    ['the vdso', mapping('7ffd00000000-7ffd00001000', 'r-xp', '[vdso]', 0), false],
  ];
  for (const [name, text, isClean] of cases) {
    it(`${isClean ? 'has' : 'leaves'} ${name}`, () => {
      assert.equal(cleanFileMappings(text).length, isClean ? 1 : 0);
    });
  }
  it('has the place and the length of each', () => {
    const text = [
      mapping('00400000-00402000', 'r-xp', '/usr/bin/node', 0),
      mapping('00500000-00501000', 'rw-p', '/usr/bin/node', 0),
      mapping('7f0000000000-7f0000003000', 'r--p', '/lib/libc.so.6', 0),
    ].join('\n');
    assert.deepEqual(cleanFileMappings(text), [
      { address: 0x40_0000n, lengthBytes: 0x2000 },
      { address: 0x7f00_0000_0000n, lengthBytes: 0x3000 },
    ]);
  });
  it('is given back by a process that goes on as before', () => {
    const residentKb = (): number => Number(/^RssFile:\s+(\d+)/m.exec(readFileSync('/proc/self/status', 'utf8'))![1]);
    const native = loadNative();
    const before = residentKb();
    releaseUnusedMemory(native);
    assert.ok(residentKb() < before, `${residentKb()} of ${before} KiB`);
    assert.equal(JSON.parse(JSON.stringify({ text: 'ä'.repeat(1000) })).text.length, 1000);
    assert.equal(native.libc.getpid(), process.pid);
  });
});
