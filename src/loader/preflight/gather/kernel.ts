// SPDX-License-Identifier: Apache-2.0
/** The system calls behind preflight, on the running kernel and in the calling thread's network namespace. */
import { readFileSync } from 'node:fs';
import { BpfLinkType, BpfXdpQueryOpts } from '../../../maps/generated/host.ts';
import { Fd } from '../../fd.ts';
import type { Native } from '../../ffi/index.ts';
import { linkInfo } from '../../link.ts';
import { programById, programInfo } from '../../program.ts';
import type { KernelQueries } from '../ports.ts';
import { channelsOf, driverOf, offloadOf } from './ethtool.ts';
import { queryXdpFeatures } from './netdev-family.ts';
import { bpfWorks, hasFeature } from './probes.ts';
import { bpfIdsOf } from './xdp.ts';

function attachedPrograms(native: Native, ifindex: number) {
  const opts = BpfXdpQueryOpts.encode({});
  native.check(native.libbpf.bpf_xdp_query(ifindex, 0, opts), 'bpf_xdp_query', `interface ${ifindex}`);
  const { drvProgId, skbProgId, hwProgId } = BpfXdpQueryOpts.decode(opts);
  return { native: drvProgId, generic: skbProgId, hardware: hwProgId };
}

function program(native: Native, id: number) {
  using fd = programById(native, id);
  return fd === null ? null : programInfo(native, fd);
}

function xdpLinks(native: Native, ifindex: number) {
  const links: { id: number; programId: number }[] = [];
  const next = new Uint32Array(1);
  const nextBytes = new Uint8Array(next.buffer);
  for (let id = 0; ; ) {
    const result = native.libbpf.bpf_link_get_next_id(id, nextBytes);
    if (result < 0) return isMissing(result) ? links : null;
    id = next[0]!;
    const descriptor = native.libbpf.bpf_link_get_fd_by_id(id);
    if (descriptor < 0) {
      if (isMissing(descriptor)) continue; // It ended in the meantime.
      return null;
    }
    using fd = new Fd(native, descriptor);
    const info = linkInfo(native, fd);
    if (info.type === BpfLinkType.xdp && info.ifindex === ifindex) links.push({ id, programId: info.programId });
  }
}

/** ENOENT: no such id, or no further one. */
function isMissing(result: number): boolean {
  return result === -2;
}

function pinnedObject(native: Native, path: string) {
  const descriptor = native.libbpf.bpf_obj_get(path);
  if (descriptor < 0) return null;
  using fd = new Fd(native, descriptor);
  return bpfIdsOf(readFileSync(`/proc/thread-self/fdinfo/${fd.value}`, 'utf8'));
}

export function createKernelQueries(native: Native): KernelQueries {
  return {
    driverOf: (device) => driverOf(native, device),
    channelsOf: (device) => channelsOf(native, device),
    offload: (device, offload) => offloadOf(native, device, offload),
    xdpFeatures: (ifindex) => queryXdpFeatures(native, ifindex),
    attachedPrograms: (ifindex) => attachedPrograms(native, ifindex),
    program: (id) => program(native, id),
    xdpLinks: (ifindex) => xdpLinks(native, ifindex),
    pinnedObject: (path) => pinnedObject(native, path),
    bpfWorks: () => bpfWorks(native),
    hasFeature: (feature) => hasFeature(native, feature),
  };
}
