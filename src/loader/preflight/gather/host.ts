// SPDX-License-Identifier: Apache-2.0
/** Facts of the host and of the process: capabilities, kernel, mounts, CPUs, limits. */
import { parseCpuList } from '../../cpu-set.ts';
import type { CapabilityFacts, HostFacts, KernelFeature } from '../facts.ts';
import type { HostFiles, PreflightPorts } from '../ports.ts';

/** Bits of include/uapi/linux/capability.h. */
const CAP_NET_ADMIN = 12n;
const CAP_SYS_ADMIN = 21n;
const CAP_SYS_RESOURCE = 24n;
const CAP_PERFMON = 38n;
const CAP_BPF = 39n;

const WHOLE_ID_RANGE = 4294967295;
const DEFAULT_PAGE_BYTES = 4096;

const features: readonly KernelFeature[] = [
  'xdp',
  'schedCls',
  'progArray',
  'cpumap',
  'lpmTrie',
  'arrayOfMaps',
  'ringbuf',
  'xdpFrags',
];

/** @param status text of /proc/<pid>/status */
export function parseCapabilities(status: string): CapabilityFacts {
  const effective = BigInt(`0x${/^CapEff:\s*([0-9a-f]+)/m.exec(status)?.[1] ?? '0'}`);
  const has = (bit: bigint) => (effective >> bit) % 2n === 1n;
  const sysAdmin = has(CAP_SYS_ADMIN);
  return {
    // CAP_SYS_ADMIN stands for both where they are asked for (bpf_capable, perfmon_capable).
    bpf: has(CAP_BPF) || sysAdmin,
    perfmon: has(CAP_PERFMON) || sysAdmin,
    netAdmin: has(CAP_NET_ADMIN),
    sysAdmin,
    sysResource: has(CAP_SYS_RESOURCE),
  };
}

/** Soft limit of locked memory in /proc/<pid>/limits. */
export function parseMemlock(limits: string): number | 'unlimited' | null {
  const soft = /^Max locked memory\s+(\S+)/m.exec(limits)?.[1];
  if (soft === undefined) return null;
  return soft === 'unlimited' ? 'unlimited' : Number(soft);
}

function isBpffs(line: string): boolean {
  const [, mountPoint, type] = line.split(' ');
  return mountPoint === '/sys/fs/bpf' && type === 'bpf';
}

function isInitialUserNamespace(files: HostFiles): boolean {
  const [inside, outside, count] = (files.read('/proc/thread-self/uid_map') ?? '').trim().split(/\s+/).map(Number);
  return inside === 0 && outside === 0 && count === WHOLE_ID_RANGE;
}

/**
 * `ip netns exec` mounts a sysfs of the namespace's name over /sys in a mount namespace of its own. Other mount
 * namespaces show by comparison with the first process, if it may be looked at.
 */
function hasPrivateMounts(files: HostFiles, mounts: readonly string[]): boolean | null {
  const [source] = mounts.findLast((line) => line.split(' ')[1] === '/sys')?.split(' ') ?? [];
  if (files.list('/run/netns').some(({ name }) => name === source)) return true;
  const own = files.target('/proc/thread-self/ns/mnt');
  const first = files.target('/proc/1/ns/mnt');
  return own === null || first === null ? null : own !== first;
}

function numberIn(text: string | null): number | null {
  const number = Number.parseInt(text ?? '', 10);
  return Number.isNaN(number) ? null : number;
}

export function gatherHost(ports: PreflightPorts): HostFacts {
  const { files, kernel } = ports;
  const capabilities = parseCapabilities(files.read('/proc/thread-self/status') ?? '');
  const initialUserNamespace = isInitialUserNamespace(files);
  // A probe that is not permitted looks like one that found nothing.
  const mayProbe = capabilities.bpf && initialUserNamespace;
  const bpfWorks = mayProbe ? kernel.bpfWorks() : null;
  const probe = (feature: KernelFeature) =>
    bpfWorks === true && capabilities.netAdmin ? kernel.hasFeature(feature) : null;
  const possible = parseCpuList(files.read('/sys/devices/system/cpu/possible') ?? '0');
  const mounts = (files.read('/proc/thread-self/mounts') ?? '').split('\n');
  return {
    kernelRelease: files.read('/proc/sys/kernel/osrelease')?.trim() ?? '',
    pageSizeBytes: numberIn(ports.run('getconf', ['PAGESIZE']).stdout) ?? DEFAULT_PAGE_BYTES,
    capabilities,
    initialUserNamespace,
    bpfWorks,
    features: Object.fromEntries(features.map((name) => [name, probe(name)])) as Record<KernelFeature, boolean | null>,
    btf: files.list('/sys/kernel/btf').some((entry) => entry.name === 'vmlinux'),
    bpffsMounted: mounts.some(isBpffs),
    privateMounts: hasPrivateMounts(files, mounts),
    jitEnable: numberIn(files.read('/proc/sys/net/core/bpf_jit_enable')),
    cpuIds: Math.max(...possible) + 1,
    onlineCpus: parseCpuList(files.read('/sys/devices/system/cpu/online') ?? '0').length,
    memlockBytes: parseMemlock(files.read('/proc/thread-self/limits') ?? ''),
  };
}
