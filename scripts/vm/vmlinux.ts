// SPDX-License-Identifier: Apache-2.0
/** Takes the ELF kernel, and its release, out of a bzImage (Documentation/arch/x86/boot.rst, "The Real-mode Kernel Header"). */
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';

const SETUP_SECTS = 0x1f1;
const HEADER_MAGIC = 0x202;
/** Of a text, from the end of the boot sector on. */
const KERNEL_VERSION = 0x20e;
const PAYLOAD_OFFSET = 0x248;
const PAYLOAD_LENGTH = 0x24c;
const SECTOR_BYTES = 512;

/** By the bytes that the payload begins with (scripts/extract-vmlinux). */
const decompressors: readonly { magic: string; command: string; args: readonly string[] }[] = [
  { magic: 'fd377a585a00', command: 'xz', args: ['-dc'] },
  { magic: '28b52ffd', command: 'zstd', args: ['-dc'] },
  { magic: '02214c18', command: 'lz4', args: ['-dc'] },
  { magic: '1f8b08', command: 'gzip', args: ['-dc'] },
];

const ELF_MAGIC = '7f454c46';

function isElf(image: Buffer): boolean {
  return image.toString('hex', 0, 4) === ELF_MAGIC;
}

/** As `uname -r` prints it. Throws when the image does not say. */
export function releaseOfImage(image: Buffer): string {
  const at = isElf(image)
    ? image.indexOf('Linux version ') + 'Linux version '.length
    : image.readUInt16LE(KERNEL_VERSION) + SECTOR_BYTES;
  const release = /^\d+\.\d+\S*/.exec(image.toString('latin1', at, at + 128))?.[0];
  if (release === undefined) throw new Error('the kernel image does not say its release');
  return release;
}

/** The ELF kernel of an image, which may be one already. */
export function readVmlinux(file: string): Buffer {
  const image = readFileSync(file);
  return isElf(image) ? image : extractVmlinux(image);
}

/** Throws when the image is none, or the tool that unpacks it is missing. */
export function extractVmlinux(image: Buffer): Buffer {
  if (image.toString('latin1', HEADER_MAGIC, HEADER_MAGIC + 4) !== 'HdrS') throw new Error('this is no bzImage');
  // 0 means 4, for images from before the field.
  const setupSectors = image.readUInt8(SETUP_SECTS) || 4;
  const start = (setupSectors + 1) * SECTOR_BYTES + image.readUInt32LE(PAYLOAD_OFFSET);
  // The payload ends with its unpacked size, which the tools do not know: they complain of it and are right otherwise.
  const payload = image.subarray(start, start + image.readUInt32LE(PAYLOAD_LENGTH) - 4);
  const magic = payload.toString('hex', 0, 6);
  const tool = decompressors.find((candidate) => magic.startsWith(candidate.magic));
  if (tool === undefined) throw new Error(`the kernel image is compressed in an unknown way (${magic})`);
  const result = spawnSync(tool.command, tool.args, { input: payload, maxBuffer: 1 << 28 });
  if (result.error !== undefined) throw new Error(`${tool.command} cannot be run: ${result.error.message}`);
  if (!isElf(result.stdout)) {
    throw new Error(`${tool.command} cannot unpack the kernel image: ${result.stderr.toString().trim()}`);
  }
  return result.stdout;
}
