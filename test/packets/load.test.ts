// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { loadNative } from '../../src/loader/ffi/index.ts';
import { BpfObject } from '../../src/loader/object.ts';
import { compileTestProgram } from '../support/compile.ts';
import { skip } from '../support/skip.ts';
import { thrownBy } from '../support/thrown.ts';

const root = path.join(import.meta.dirname, '../..');

/** In a process of its own, because an adapter is chosen once in a process. */
function onePacket(env: Readonly<Record<string, string>>, ...args: string[]): Record<string, unknown> {
  const script = path.join(root, 'test/support/one-packet.ts');
  const options = { encoding: 'utf8', env: { ...process.env, ...env } } as const;
  return JSON.parse(execFileSync(process.execPath, [script, ...args], options)) as Record<string, unknown>;
}

const expected = {
  ruleId: 7,
  dropped: 1,
  frameBytes: 60,
  action: 1,
  flows: ['10.1.2.3 4000 > 10.0.0.2 53 proto 17'],
};

describe('loading the programs', () => {
  let folder: string;
  before(() => {
    folder = mkdtempSync(path.join(tmpdir(), 'vnic-load-'));
  });
  after(() => rmSync(folder, { recursive: true, force: true }));

  for (const compiler of ['clang-14', 'clang-19']) {
    it(`what ${compiler} makes of them is accepted by this kernel and works`, function () {
      this.timeout(120_000);
      if (spawnSync(compiler, ['--version']).status !== 0) skip(this, `${compiler} is not installed`);
      const build = path.join(folder, compiler);
      const object = path.join(build, 'bpf/vnic.bpf.o');
      execFileSync('make', ['--no-print-directory', '-C', root, `CLANG=${compiler}`, `BUILD=${build}`, object], {
        stdio: ['ignore', 'ignore', 'pipe'],
      });
      assert.deepEqual(onePacket({}, object), { adapter: 'koffi', ...expected });
    });
  }

  for (const adapter of ['koffi', 'ffi-napi'] as const) {
    it(`works through ${adapter}`, function () {
      this.timeout(120_000);
      if (adapter === 'ffi-napi') {
        try {
          loadNative({ adapter });
        } catch (error) {
          skip(this, String(error));
        }
      }
      assert.deepEqual(onePacket({ VNIC_FFI: adapter }), { adapter, ...expected });
    });
  }

  it('a program that the verifier refuses is an error that says why, with the whole log', () => {
    const error = thrownBy(() => BpfObject.load(loadNative(), compileTestProgram('unsafe')));
    assert.equal(error.code, 'verifier_rejected');
    assert.match(error.message, /EACCES/);
    assert.match(error.message, /invalid access to packet, off=100 size=1/);
    assert.doesNotMatch(error.message, /processed \d+ insns/);
    assert.ok(!error.message.includes('\n'));
    const { log } = error.details;
    assert.ok(typeof log === 'string');
    assert.match(log, /invalid access to packet/);
    assert.match(log, /processed \d+ insns/);
    assert.ok(log.split('\n').length > 3);
  });

  it('constants keep their places beside each other', () => {
    using object = BpfObject.load(loadNative(), path.join(root, 'build/bpf/vnic.bpf.o'), {
      programs: ['vnic_root'],
      constants: { vnic_replay: true },
    });
    const { btf } = object;
    const section = btf.type(btf.idOf('.rodata', 'datasec'));
    assert.ok(section.kind === 'datasec');
    const places = section.variables.toSorted((a, b) => a.offset - b.offset);
    assert.ok(places.length > 4);
    for (const [index, { offset, size }] of places.entries()) {
      const next = places[index + 1];
      assert.ok(next === undefined || offset + size <= next.offset, 'two constants in one place');
    }
  });
});
