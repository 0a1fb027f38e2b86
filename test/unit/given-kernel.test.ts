// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { givenKernel } from '../../scripts/vm/given-kernel.ts';

const RELEASE = '6.12.9-amd64';

/** What a bzImage's header says of its release (Documentation/arch/x86/boot.rst). */
function bzImage(): Buffer {
  const image = Buffer.alloc(4096);
  image.write('HdrS', 0x202);
  image.writeUInt16LE(0x800, 0x20e);
  image.write(`${RELEASE} (debian-kernel@lists.debian.org) #1 SMP\0`, 0x800 + 512);
  return image;
}

describe('a kernel for the guest, given by a path', () => {
  let folder = '';
  const unpack = (): string => assert.fail('no package is given');

  beforeEach(() => {
    folder = mkdtempSync(path.join(tmpdir(), 'vnic-given-'));
  });
  afterEach(() => rmSync(folder, { recursive: true }));

  function makeTree(modules: string): { image: string; modules: string } {
    const tree = {
      image: path.join(folder, 'boot', `vmlinuz-${RELEASE}`),
      modules: path.join(folder, modules, RELEASE),
    };
    mkdirSync(path.dirname(tree.image), { recursive: true });
    mkdirSync(path.join(tree.modules, 'kernel'), { recursive: true });
    writeFileSync(tree.image, bzImage());
    return tree;
  }

  for (const modules of ['lib/modules', 'usr/lib/modules']) {
    it(`is the folder of an unpacked package with ${modules}, or the image in it`, () => {
      const expected = { release: RELEASE, ...makeTree(modules) };
      assert.deepEqual(givenKernel(folder, unpack), expected);
      assert.deepEqual(givenKernel(expected.image, unpack), { ...expected, modules: path.resolve(expected.modules) });
    });
  }

  it('is a package, which is unpacked', () => {
    const tree = makeTree('usr/lib/modules');
    const file = path.join(folder, 'linux-image.deb');
    writeFileSync(file, '');
    const unpacked: string[] = [];
    const kernel = givenKernel(file, (packageFile) => {
      unpacked.push(packageFile);
      return folder;
    });
    assert.deepEqual(kernel, { release: RELEASE, ...tree });
    assert.deepEqual(unpacked, [file]);
  });

  it('is an ELF image, which tells its release in its text', () => {
    const { modules } = makeTree('lib/modules');
    const image = path.join(folder, 'boot', 'vmlinux');
    writeFileSync(image, `\x7fELF${'\0'.repeat(100)}Linux version ${RELEASE} (gcc)`);
    assert.deepEqual(givenKernel(image, unpack), { release: RELEASE, image, modules });
  });

  it('is refused with the reason when it is not there, has no modules, or is several', () => {
    assert.throws(() => givenKernel(path.join(folder, 'none'), unpack), /there is no/);
    assert.throws(() => givenKernel(folder, unpack), /has no modules/);
    const lone = path.join(folder, 'vmlinuz');
    writeFileSync(lone, bzImage());
    assert.throws(() => givenKernel(lone, unpack), /neither beside .* nor installed/);
    const { modules } = makeTree('lib/modules');
    mkdirSync(path.join(modules, '../6.1.0-1-amd64'));
    assert.throws(() => givenKernel(folder, unpack), /several kernels: 6\.1\.0-1-amd64, 6\.12\.9-amd64/);
  });
});
