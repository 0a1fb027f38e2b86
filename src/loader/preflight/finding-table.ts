// SPDX-License-Identifier: Apache-2.0
/** Every finding of preflight: a stable code, how severe it is, who can change it, and what it means. */
import type { ErrorCode } from '../../errors.ts';

export type Severity = 'blocks' | 'degrades' | 'info';

/** `guest`: an administrator of this system; `user`: whoever typed the command. */
export type WhoMustChange = 'guest' | 'hypervisor' | 'nobody' | 'user';

export interface FindingKind {
  readonly severity: Severity;
  /** Usually; a finding names who it is in its case. */
  readonly whoMustChange: WhoMustChange;
  /** Error code of a refusal for this reason. */
  readonly refusal?: ErrorCode;
  readonly meaning: string;
}

export const findingTable = {
  device_missing: {
    severity: 'blocks',
    whoMustChange: 'user',
    refusal: 'not_found',
    meaning: 'There is no such device in this network namespace.',
  },
  device_loopback: { severity: 'blocks', whoMustChange: 'user', meaning: 'The device is the loopback.' },
  device_not_ethernet: {
    severity: 'blocks',
    whoMustChange: 'user',
    meaning: 'Frames of the device have no Ethernet header, which the dataplane parses.',
  },
  device_down: { severity: 'info', whoMustChange: 'guest', meaning: 'The device is administratively down.' },

  user_namespace: {
    severity: 'blocks',
    whoMustChange: 'guest',
    refusal: 'not_permitted',
    meaning: 'The process is in a user namespace, whose capabilities bpf(2) does not count.',
  },
  cap_bpf_missing: {
    severity: 'blocks',
    whoMustChange: 'guest',
    refusal: 'not_permitted',
    meaning: 'CAP_BPF is missing: maps and programs cannot be made.',
  },
  cap_net_admin_missing: {
    severity: 'blocks',
    whoMustChange: 'guest',
    refusal: 'not_permitted',
    meaning: 'CAP_NET_ADMIN is missing: network programs can be neither loaded nor attached.',
  },
  cap_perfmon_missing: {
    severity: 'blocks',
    whoMustChange: 'guest',
    refusal: 'not_permitted',
    meaning: 'CAP_PERFMON is missing: the verifier refuses the pointer arithmetic of the programs.',
  },
  cap_sys_admin_missing: {
    severity: 'degrades',
    whoMustChange: 'guest',
    meaning: 'CAP_SYS_ADMIN is missing: BPF objects of others cannot be listed, and namespaces not entered.',
  },
  bpf_refused: {
    severity: 'blocks',
    whoMustChange: 'guest',
    refusal: 'not_permitted',
    meaning: 'bpf(2) is refused although the capabilities are there: seccomp, a security module or kernel lockdown.',
  },
  kernel_too_old: {
    severity: 'blocks',
    whoMustChange: 'guest',
    meaning: 'The kernel is older than 6.1 and does not prove by probes that it has what is needed.',
  },
  kernel_untested: {
    severity: 'degrades',
    whoMustChange: 'guest',
    meaning: 'The kernel is older than 6.1, but has what is needed; it is not one that is tested.',
  },
  kernel_feature_missing: {
    severity: 'blocks',
    whoMustChange: 'guest',
    meaning: 'The kernel was built without something that the dataplane needs.',
  },
  memlock_low: {
    severity: 'blocks',
    whoMustChange: 'guest',
    meaning: 'Before Linux 5.11 maps count as locked memory, and the limit is too low for them.',
  },
  btf_missing: {
    severity: 'blocks',
    whoMustChange: 'guest',
    meaning: 'The kernel does not carry its type information, by which the programs are fitted to it.',
  },
  bpffs_missing: {
    severity: 'info',
    whoMustChange: 'nobody',
    meaning: 'No BPF file system is mounted yet; attaching mounts it.',
  },
  bpffs_forbidden: {
    severity: 'blocks',
    whoMustChange: 'guest',
    meaning: 'No BPF file system is mounted, and mounting it is not permitted.',
  },
  bpffs_private: {
    severity: 'blocks',
    whoMustChange: 'user',
    meaning: 'No BPF file system is visible in a private mount namespace; pins made here would end with it.',
  },
  jit_off: {
    severity: 'degrades',
    whoMustChange: 'guest',
    meaning: 'BPF programs are interpreted, which is several times slower than compiled code.',
  },
  single_cpu: {
    severity: 'degrades',
    whoMustChange: 'hypervisor',
    meaning: 'There is one CPU only: nothing to steer flows to. Rules, limits and counters work.',
  },

  foreign_xdp: {
    severity: 'blocks',
    whoMustChange: 'user',
    refusal: 'conflict',
    meaning: 'An XDP program of somebody else is on the device. Links and netlink attachments exclude each other.',
  },
  already_attached: { severity: 'info', whoMustChange: 'nobody', meaning: 'This dataplane is attached already.' },

  native_unsupported: {
    severity: 'blocks',
    whoMustChange: 'user',
    meaning: 'The driver has no native XDP, or not in its present configuration.',
  },
  native_unknown: {
    severity: 'degrades',
    whoMustChange: 'nobody',
    meaning: 'The kernel cannot say whether the driver has native XDP, and the driver is not a known one.',
  },
  generic_mode: {
    severity: 'degrades',
    whoMustChange: 'user',
    meaning: 'Generic XDP runs after the kernel has built a socket buffer: it costs more per packet and copies some.',
  },
  driver_queues_reserved: {
    severity: 'blocks',
    whoMustChange: 'guest',
    meaning: 'The driver needs as many free channels as it uses, for XDP transmission.',
  },
  mtu_too_large: {
    severity: 'blocks',
    whoMustChange: 'guest',
    meaning: 'A frame of this MTU does not fit one page, and the driver cannot give XDP more than one buffer.',
  },
  mtu_near_limit: {
    severity: 'degrades',
    whoMustChange: 'guest',
    meaning: 'The largest frames of this MTU may not fit the page that XDP gets, and are then lost without a word.',
  },
  mtu_unproven: {
    severity: 'degrades',
    whoMustChange: 'guest',
    meaning: 'A frame of this MTU does not fit one page, and the kernel cannot say what the driver does then.',
  },
  lro_refused: {
    severity: 'blocks',
    whoMustChange: 'guest',
    meaning: 'The driver refuses native XDP while it merges received frames in hardware.',
  },
  lro_on: {
    severity: 'degrades',
    whoMustChange: 'guest',
    meaning: 'Received frames are merged in hardware; some drivers refuse native XDP then, others switch it off.',
  },

  virtio_features_unknown: {
    severity: 'degrades',
    whoMustChange: 'guest',
    meaning: 'The negotiated features of the virtio device cannot be read, so nothing is known of its offloads.',
  },
  virtio_offloads_fixed: {
    severity: 'blocks',
    whoMustChange: 'hypervisor',
    meaning: 'Receive offloads are on and the device does not let the guest switch them off (EOPNOTSUPP).',
  },
  virtio_header_split: {
    severity: 'blocks',
    whoMustChange: 'hypervisor',
    meaning: 'A legacy device puts the header of a mergeable buffer into a page of its own (EINVAL).',
  },
  virtio_big_packets: {
    severity: 'blocks',
    whoMustChange: 'hypervisor',
    meaning: 'Without mergeable buffers the driver receives into page chains: XDP attaches but never runs.',
  },
  virtio_tx_rings: {
    severity: 'blocks',
    whoMustChange: 'guest',
    meaning: 'Before Linux 5.13 the driver needs a free queue for each CPU (ENOMEM).',
  },
  virtio_no_control_queue: {
    severity: 'degrades',
    whoMustChange: 'hypervisor',
    meaning: 'The device has no control queue: one queue pair, and nothing can be changed while it runs.',
  },
  virtio_offloads_off: {
    severity: 'info',
    whoMustChange: 'nobody',
    meaning: 'Attaching switches receive offloads off; large TCP transfers to this host cost more CPU.',
  },
  virtio_rx_queues_grow: {
    severity: 'info',
    whoMustChange: 'nobody',
    meaning: 'Attaching raises the number of receive queues, so queue numbers above the configured ones occur.',
  },
  virtio_xdp_tx_locked: {
    severity: 'info',
    whoMustChange: 'nobody',
    meaning: 'Frames that XDP itself sends would share queues under a lock. This dataplane sends none.',
  },
  virtio_rss_lost: {
    severity: 'degrades',
    whoMustChange: 'guest',
    meaning: 'Attaching and detaching lose the RSS table in the device, while ethtool still shows it.',
  },

  veth_peer_queues: {
    severity: 'blocks',
    whoMustChange: 'guest',
    meaning: 'A veth end needs as many receive queues as the other end has transmit queues (ENOSPC).',
  },
  veth_peer_mtu: {
    severity: 'blocks',
    whoMustChange: 'guest',
    meaning: 'Before Linux 5.18 the other end of a veth pair may not have an MTU beyond one page (ERANGE).',
  },
  veth_peer_offloads: {
    severity: 'info',
    whoMustChange: 'nobody',
    meaning: 'Attaching switches segmentation offload off at the other end of a veth pair.',
  },

  queues_too_few: {
    severity: 'blocks',
    whoMustChange: 'guest',
    meaning: 'The device uses fewer receive queues than were asked for.',
  },
  single_queue: {
    severity: 'degrades',
    whoMustChange: 'guest',
    meaning: 'The device receives on one queue: one CPU takes every packet before it can be steered.',
  },
} as const satisfies Record<string, FindingKind>;

export type FindingCode = keyof typeof findingTable;
