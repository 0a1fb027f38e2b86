// SPDX-License-Identifier: Apache-2.0
/** Which XDP programs are on a device, and who put them there: by link or netlink, held by whom, pinned where. */
import type { AttachedProgram, XdpHolder } from '../facts.ts';
import type { HostFiles, PreflightPorts } from '../ports.ts';

/** Name of the program that this product attaches. */
export const ROOT_PROGRAM = 'vnic_root';

const BPFFS = '/sys/fs/bpf';
const MAX_PIN_DEPTH = 8;
const MAX_PINS = 4096;

export interface BpfIds {
  readonly linkId: number | null;
  readonly programId: number | null;
}

/** The ids in a descriptor's fdinfo (bpf_link_show_fdinfo, bpf_prog_show_fdinfo in kernel/bpf/syscall.c). */
export function bpfIdsOf(fdinfo: string): BpfIds {
  return { linkId: idIn(fdinfo, 'link_id'), programId: idIn(fdinfo, 'prog_id') };
}

function idIn(fdinfo: string, field: string): number | null {
  const match = new RegExp(`^${field}:\\s*(\\d+)`, 'm').exec(fdinfo);
  return match === null ? null : Number(match[1]);
}

/** An open link or the program itself; a link's fdinfo names its program too. */
function isAbout(ids: BpfIds, programId: number, linkId: number | null): boolean {
  return ids.linkId === null ? ids.programId === programId : ids.linkId === linkId;
}

function holdersOf(files: HostFiles, programId: number, linkId: number | null): XdpHolder[] {
  const holders: XdpHolder[] = [];
  for (const { name } of files.list('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    const holds = files.list(`/proc/${name}/fd`).some((descriptor) => {
      if (files.target(`/proc/${name}/fd/${descriptor.name}`)?.startsWith('anon_inode:bpf') !== true) return false;
      const fdinfo = files.read(`/proc/${name}/fdinfo/${descriptor.name}`);
      return fdinfo !== null && isAbout(bpfIdsOf(fdinfo), programId, linkId);
    });
    if (holds) holders.push({ pid: Number(name), command: files.read(`/proc/${name}/comm`)?.trim() ?? '' });
  }
  return holders;
}

function pinsOf({ files, kernel }: PreflightPorts, programId: number, linkId: number | null) {
  const pins: { path: string; isLink: boolean }[] = [];
  let budget = MAX_PINS;
  const walk = (folder: string, depth: number): void => {
    for (const entry of files.list(folder)) {
      const path = `${folder}/${entry.name}`;
      if (entry.folder) {
        if (depth < MAX_PIN_DEPTH) walk(path, depth + 1);
        continue;
      }
      if (budget-- <= 0) return;
      const ids = kernel.pinnedObject(path);
      if (ids !== null && isAbout(ids, programId, linkId)) pins.push({ path, isLink: ids.linkId !== null });
    }
  };
  walk(BPFFS, 0);
  return pins;
}

function linkIdOf(ports: PreflightPorts, ifindex: number, programId: number): number | null | 'unknown' {
  const links = ports.kernel.xdpLinks(ifindex);
  if (links === null) return 'unknown';
  return links.find((link) => link.programId === programId)?.id ?? null;
}

/** @param pinFolder where this product pins what belongs to the device */
export function gatherAttached(ports: PreflightPorts, ifindex: number, pinFolder: string): AttachedProgram[] {
  const ids = ports.kernel.attachedPrograms(ifindex);
  const programs: AttachedProgram[] = [];
  for (const mode of ['native', 'generic', 'hardware'] as const) {
    const id = ids[mode];
    if (id === 0) continue;
    const info = ports.kernel.program(id);
    const linkId = linkIdOf(ports, ifindex, id);
    const knownLink = linkId === 'unknown' ? null : linkId;
    const pins = pinsOf(ports, id, knownLink);
    programs.push({
      mode,
      id,
      name: info?.name ?? null,
      tag: info?.tag ?? null,
      linkId,
      holders: holdersOf(ports.files, id, knownLink),
      pins: pins.map(({ path }) => path),
      ours: info?.name === ROOT_PROGRAM && pins.some(({ path, isLink }) => isLink && path.startsWith(`${pinFolder}/`)),
    });
  }
  return programs;
}
