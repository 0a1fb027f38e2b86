// SPDX-License-Identifier: Apache-2.0
/** What is on the device already. Pure. */
import type { AttachedProgram, LinkFacts } from '../facts.ts';
import { type Finding, finding } from '../finding.ts';

/** Option of `ip link set dev DEV` for a program in this mode. */
const ipOptions: Readonly<Record<AttachedProgram['mode'], string>> = {
  native: 'xdpdrv',
  generic: 'xdpgeneric',
  hardware: 'xdpoffload',
};

function foreign(device: string, program: AttachedProgram): Finding {
  const { mode, id, name, linkId, holders, pins } = program;
  const by =
    linkId === null ? 'by netlink' : linkId === 'unknown' ? 'by somebody who may not be seen' : `by link ${linkId}`;
  const heldBy = holders.map(({ pid, command }) => `${pid} (${command})`).join(', ');
  const message =
    `${device} has another XDP program: ${name ?? 'name not visible'}, id ${id}, ${mode} mode, attached ${by}` +
    `${holders.length === 0 ? '' : `, held by process ${heldBy}`}${pins.length === 0 ? '' : `, pinned at ${pins.join(' and ')}`}.`;
  return finding('foreign_xdp', message, foreignRemedy(device, program), {
    source: 'net/core/dev.c: dev_xdp_attach',
    details: { mode, program: name, programId: id, tag: program.tag, linkId, holders, pins },
  });
}

function foreignRemedy(device: string, { mode, linkId, holders, pins }: AttachedProgram): string {
  if (linkId === null) return `If nothing needs it: ip link set dev ${device} ${ipOptions[mode]} off`;
  if (linkId === 'unknown') return `Look as root: bpftool net show dev ${device}; bpftool link show`;
  const [holder] = holders;
  if (holder !== undefined) {
    return `Stop the service that owns it (process ${holder.pid}, ${holder.command}); if nothing needs it: bpftool link detach id ${linkId}`;
  }
  const [pin] = pins;
  return pin === undefined
    ? `If nothing needs it: bpftool link detach id ${linkId}`
    : `If nothing needs it: bpftool link detach id ${linkId}; rm ${pin}`;
}

export function attachedFindings(link: LinkFacts, attached: readonly AttachedProgram[]): Finding[] {
  return attached.map((program) =>
    program.ours
      ? finding(
          'already_attached',
          `This dataplane is attached to ${link.name} already (program ${program.id}, ${program.mode} mode).`,
          `vnicctl status ${link.name}`,
          { details: { mode: program.mode, programId: program.id, linkId: program.linkId, pins: program.pins } },
        )
      : foreign(link.name, program),
  );
}
