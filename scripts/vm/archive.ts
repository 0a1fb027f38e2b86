// SPDX-License-Identifier: Apache-2.0
/** Writes a cpio archive in the "newc" form (Documentation/driver-api/early-userspace/buffer-format.rst). Pure. */

export type ArchiveEntry =
  | { readonly kind: 'folder' }
  | { readonly kind: 'file'; readonly data: Uint8Array; readonly executable: boolean }
  | { readonly kind: 'link'; readonly target: string };

const MODES = { folder: 0o040755, file: 0o100644, executable: 0o100755, link: 0o120777 } as const;

function pad4(length: number): Buffer {
  return Buffer.alloc(-length & 3);
}

function record(inode: number, name: string, mode: number, data: Uint8Array): Buffer[] {
  const nameBytes = Buffer.from(`${name}\0`);
  // inode, mode, uid, gid, links, mtime, size, device (2), rdev (2), name size, checksum
  const fields = [inode, mode, 0, 0, 1, 0, data.length, 0, 0, 0, 0, nameBytes.length, 0];
  const header = Buffer.from(`070701${fields.map((value) => value.toString(16).padStart(8, '0')).join('')}`);
  return [header, nameBytes, pad4(header.length + nameBytes.length), Buffer.from(data), pad4(data.length)];
}

/** Entries by absolute path; the folders above them are added. Everything belongs to root. */
export function writeArchive(entries: ReadonlyMap<string, ArchiveEntry>): Buffer {
  const all = new Map<string, ArchiveEntry>();
  for (const [path, entry] of entries) {
    const parts = path.split('/').filter((part) => part !== '');
    for (let depth = 1; depth < parts.length; depth++) {
      const folder = parts.slice(0, depth).join('/');
      if (!all.has(folder)) all.set(folder, { kind: 'folder' });
    }
    all.set(parts.join('/'), entry);
  }
  const chunks: Buffer[] = [];
  let inode = 1;
  for (const [name, entry] of all) {
    const mode = entry.kind === 'file' && entry.executable ? MODES.executable : MODES[entry.kind];
    const data = entry.kind === 'file' ? entry.data : Buffer.from(entry.kind === 'link' ? entry.target : '');
    chunks.push(...record(inode++, name, mode, data));
  }
  chunks.push(...record(0, 'TRAILER!!!', 0, new Uint8Array()));
  return Buffer.concat(chunks);
}
