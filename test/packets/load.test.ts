// SPDX-License-Identifier: Apache-2.0
/** Loading: one source for two compilers and two FFI adapters, and what a user sees when the kernel refuses a program. */
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { Dataplane } from '../../src/app/dataplane.ts';
import { writeCapture } from '../../src/captures/write.ts';
import { VnicError } from '../../src/errors.ts';
import { loadNative } from '../../src/loader/ffi/index.ts';
import { BpfObject } from '../../src/loader/object.ts';
import { compileTestProgram } from '../support/compile.ts';
import { packet } from '../support/packet.ts';
import { skip } from '../support/skip.ts';

const root = path.join(import.meta.dirname, '../..');
const native = loadNative();
const size = {
  queues: 32,
  maxFlows: 1024,
  maxRules: 16,
  hashSeed: 1,
  deliverMetadata: false,
  latencySampleShift: 6,
};

describe('loading the programs', () => {
  const folder = mkdtempSync(path.join(tmpdir(), 'vnic-load-'));
  after(() => rmSync(folder, { recursive: true, force: true }));

  for (const compiler of ['clang-14', 'clang-19']) {
    it(`works as ${compiler} compiles them, for a device and for a replay`, function () {
      if (spawnSync(compiler, ['--version']).error !== undefined) skip(this, `${compiler} is not installed`);
      const object = path.join(folder, `${compiler}.o`);
      const include = `/usr/include/${process.arch === 'arm64' ? 'aarch64' : 'x86_64'}-linux-gnu`;
      execFileSync(compiler, [
        ...'-target bpf -mcpu=v3 -O2 -g -Wall -Wextra -Werror'.split(' '),
        `-I${root}/bpf`,
        '-idirafter',
        include,
        '-c',
        `${root}/bpf/vnic.bpf.c`,
        '-o',
        object,
      ]);
      for (const replay of [false, true]) Dataplane.create(native, { ...size, replay }, object).close();
    });
  }

  it('says what the verifier said, and keeps its whole log', () => {
    const object = compileTestProgram('rejected');
    assert.throws(
      () => BpfObject.load(native, object),
      (error: unknown) => {
        assert.ok(error instanceof VnicError);
        assert.equal(error.code, 'verifier_rejected');
        assert.match(error.message, /invalid access to packet/);
        assert.match(String(error.details['log']), /processed \d+ insns/);
        return true;
      },
    );
  });

  it('names the file when there is no object', () => {
    assert.throws(() => BpfObject.load(native, '/nonexistent/vnic.bpf.o'), {
      code: 'not_found',
      message: /nonexistent/,
    });
  });

  it('gives the same replay through koffi and through ffi-napi', function () {
    const file = path.join(folder, 'small.pcapng');
    const frames = [4000, 4001, 4000].map((sport, index) => ({
      timeNs: BigInt(index) * 1000n,
      data: packet().ethernet().ipv4({ src: '10.1.0.1', dst: '10.2.0.1' }).udp({ sport, dport: 53 }).build(),
    }));
    writeCapture(file, frames);
    const run = (adapter: string) =>
      spawnSync(path.join(root, 'bin/vnicctl'), ['-o', 'json', 'replay', file], {
        encoding: 'utf8',
        env: { ...process.env, VNIC_FFI: adapter },
      });
    const [koffi, napi] = [run('koffi'), run('ffi-napi')];
    assert.equal(koffi.status, 0, koffi.stderr);
    if (/cannot be loaded/.test(napi.stderr)) skip(this, napi.stderr.trim());
    assert.equal(napi.status, 0, napi.stderr);
    assert.deepEqual(JSON.parse(napi.stdout), JSON.parse(koffi.stdout));
    assert.equal((JSON.parse(koffi.stdout) as { packets: number }).packets, 3);
  });
});
