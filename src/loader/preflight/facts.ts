// SPDX-License-Identifier: Apache-2.0
/** What preflight knows of a device and its host. Plain data: it can be stored as JSON and judged on another machine. */

/** ethtool's channel counts (`ethtool -l`). */
export interface ChannelFacts {
  readonly maxRx: number;
  readonly maxTx: number;
  readonly maxCombined: number;
  readonly rx: number;
  readonly tx: number;
  readonly combined: number;
}

export interface OffloadFacts {
  readonly gro: boolean | null;
  readonly gso: boolean | null;
  readonly tso: boolean | null;
  readonly lro: boolean | null;
  readonly groHw: boolean | null;
}

/** Null in a field means unknown, everywhere in this file. */
export interface LinkFacts {
  /** The kernel's name, also when the device was named by an alternative name. */
  readonly name: string;
  readonly ifindex: number;
  /** As `ip` names it: `ether`, `loopback`, `none`… */
  readonly linkType: string;
  readonly mtu: number;
  readonly up: boolean;
  /** rtnetlink's kind of a virtual device: `veth`, `bridge`… */
  readonly kind: string | null;
  /** The driver by ethtool, else the kind. */
  readonly driver: string | null;
  /** Queues that the device was created with; `channels` says how many are in use. */
  readonly allocatedRxQueues: number;
  readonly allocatedTxQueues: number;
  readonly channels: ChannelFacts | null;
  readonly offloads: OffloadFacts;
  /** Bit mask, `enum netdev_xdp_act`; known since Linux 6.3. */
  readonly xdpFeatures: number | null;
  /** The other end of a veth pair, if it is in the same network namespace. */
  readonly peer: { readonly name: string; readonly mtu: number; readonly txQueues: number | null } | null;
}

export interface XdpHolder {
  readonly pid: number;
  readonly command: string;
}

export interface AttachedProgram {
  readonly mode: 'native' | 'generic' | 'hardware';
  readonly id: number;
  readonly name: string | null;
  /** Hex, 16 digits. */
  readonly tag: string | null;
  /** The bpf_link that attached it; null: attached by netlink; `unknown`: links may not be listed. */
  readonly linkId: number | null | 'unknown';
  /** Processes that hold the program or its link open. */
  readonly holders: readonly XdpHolder[];
  /** Paths under bpffs of the program and its link. */
  readonly pins: readonly string[];
  /** Attached by this product: the root program, by a link that is pinned in the device's folder. */
  readonly ours: boolean;
}

export interface CapabilityFacts {
  readonly bpf: boolean;
  readonly netAdmin: boolean;
  readonly perfmon: boolean;
  readonly sysAdmin: boolean;
  readonly sysResource: boolean;
}

/** What the dataplane needs of the kernel beyond plain BPF; each is probed. */
export type KernelFeature =
  | 'xdp'
  | 'schedCls'
  | 'progArray'
  | 'cpumap'
  | 'lpmTrie'
  | 'arrayOfMaps'
  | 'ringbuf'
  | 'xdpFrags';

export interface HostFacts {
  /** `uname -r` */
  readonly kernelRelease: string;
  readonly pageSizeBytes: number;
  readonly capabilities: CapabilityFacts;
  /** In a user namespace of its own a process has capabilities that bpf(2) does not count. */
  readonly initialUserNamespace: boolean;
  /** Whether a plain array map can be made: false if seccomp or a security module forbids bpf(2). */
  readonly bpfWorks: boolean | null;
  /** True and false are what the kernel answered; null: it could not be asked. */
  readonly features: Readonly<Record<KernelFeature, boolean | null>>;
  readonly btf: boolean;
  readonly bpffsMounted: boolean;
  /** Mounts made here are not seen by the rest of the system, as under `ip netns exec`. */
  readonly privateMounts: boolean | null;
  /** net.core.bpf_jit_enable; not visible outside the first network namespace. */
  readonly jitEnable: number | null;
  /** Highest possible CPU + 1: what drivers size their XDP queues by. */
  readonly cpuIds: number;
  readonly onlineCpus: number;
  readonly memlockBytes: number | 'unlimited' | null;
}

export interface DeviceFacts {
  /** The name that was asked for. */
  readonly device: string;
  /** Null: there is no such device in this network namespace. */
  readonly link: LinkFacts | null;
  /** Negotiated feature bits of a virtio device: character i is bit i. */
  readonly virtioFeatures: string | null;
  readonly attached: readonly AttachedProgram[];
  readonly host: HostFacts;
}

/** Major and minor version of a kernel release; [0, 0] if it cannot be read. */
export function kernelVersion(release: string): readonly [major: number, minor: number] {
  const match = /^(\d+)\.(\d+)/.exec(release);
  return match === null ? [0, 0] : [Number(match[1]), Number(match[2])];
}

export function kernelAtLeast(release: string, major: number, minor: number): boolean {
  const [haveMajor, haveMinor] = kernelVersion(release);
  return haveMajor > major || (haveMajor === major && haveMinor >= minor);
}
