// SPDX-License-Identifier: Apache-2.0
/** What the driver makes of a native XDP program with frags support. Pure. */
import { type DeviceFacts, kernelAtLeast, type LinkFacts } from '../facts.ts';
import { type Finding, finding } from '../finding.ts';
import type { FindingCode } from '../finding-table.ts';
import { rxQueuesOf } from './queues.ts';

/** Bits of `enum netdev_xdp_act` (include/uapi/linux/netdev.h). */
const XDP_ACT_BASIC = 1;
const XDP_ACT_RX_SG = 32;

const XDP_PACKET_HEADROOM = 256;
/** sizeof(struct skb_shared_info), aligned to a cache line, on 64-bit machines. */
const SHARED_INFO_BYTES = 320;
const ETHERNET_HEADER_BYTES = 14;
/** virtio_net accepts an MTU up to the limit, but loses frames of the last few bytes (seen on 6.1). */
const UNSAFE_BYTES = 56;

/** Drivers in Linux 6.2 with ndo_bpf, asked only where the kernel does not say itself. */
const nativeDrivers = new Set(
  (
    'virtio_net veth tun tap bonding ena bnxt_en i40e ice ixgbe ixgbevf igb igc mlx4_en mlx5_core nfp qede sfc hv_netvsc ' +
    'mana vif nicvf rvu_nicpf rvu-nicpf mvneta mvpp2 fsl_dpaa2_eth fsl_dpa fsl_enetc netsec st_gmac atlantic lan966x-switch ' +
    'funeth tsnep fec cpsw netdevsim'
  ).split(' '),
);

/** For a veth pair the other end's MTU counts; tun gives XDP what fits a page and the rest to generic XDP. */
const mtuNeverMatters = new Set(['veth', 'tun', 'tap']);

/** Drivers that answer EINVAL or EOPNOTSUPP while hardware merges received frames. */
const refuseLro = new Set(['mlx5_core', 'ixgbe', 'hv_netvsc']);

/** Largest MTU whose frames fit one page beside what XDP keeps there: 3506 with pages of 4 KiB. */
export function singleBufferMtu(pageSizeBytes: number): number {
  return pageSizeBytes - XDP_PACKET_HEADROOM - SHARED_INFO_BYTES - ETHERNET_HEADER_BYTES;
}

const VETH_SOURCE = 'drivers/net/veth.c: veth_xdp_set';

type Facts = DeviceFacts & { readonly link: LinkFacts };

function genericRemedy(device: string): string {
  return `vnicctl attach ${device} --mode generic (works with every driver; costs a socket buffer per packet before the first decision)`;
}

function hasBasic(xdpFeatures: number): boolean {
  return (xdpFeatures & XDP_ACT_BASIC) !== 0;
}

function supportFindings({ link, host }: Facts): Finding[] {
  const { name, driver, channels, xdpFeatures } = link;
  if (driver === 'ena' && channels !== null && 2 * channels.combined > channels.maxCombined) {
    const half = Math.floor(channels.maxCombined / 2);
    return [
      finding(
        'driver_queues_reserved',
        `${name} uses ${channels.combined} of ${channels.maxCombined} channels; the ena driver allows XDP with half of them at most.`,
        half >= 1 ? `ethtool -L ${name} combined ${half}` : genericRemedy(name),
        { source: 'drivers/net/ethernet/amazon/ena/ena_xdp.h', details: { combined: channels.combined, most: half } },
      ),
    ];
  }
  if (xdpFeatures !== null) {
    if (hasBasic(xdpFeatures)) return [];
    return [
      finding(
        'native_unsupported',
        `The driver of ${name} (${driver ?? 'unknown'}) offers no native XDP.`,
        genericRemedy(name),
        {
          details: { driver, xdpFeatures },
        },
      ),
    ];
  }
  if (driver !== null && nativeDrivers.has(driver)) return [];
  return [
    finding(
      'native_unknown',
      `Linux ${host.kernelRelease} cannot say whether the driver of ${name} (${driver ?? 'unknown'}) has native XDP; it is not one of those known to have it.`,
      genericRemedy(name),
      { details: { driver } },
    ),
  ];
}

/** Whether the driver gives frags programs frames of more than one buffer; null: not known. */
function hasFrags({ link, host }: Facts): boolean | null {
  if (link.xdpFeatures !== null) return (link.xdpFeatures & XDP_ACT_RX_SG) !== 0;
  return link.driver === 'virtio_net' ? kernelAtLeast(host.kernelRelease, 6, 3) : null;
}

function mtuFindings(facts: Facts): Finding[] {
  const { link, host } = facts;
  const frags = hasFrags(facts);
  if (frags === true || mtuNeverMatters.has(link.driver ?? '')) return [];
  const limit = singleBufferMtu(host.pageSizeBytes);
  const safe = limit - UNSAFE_BYTES;
  if (link.mtu <= safe) return [];
  const details = { mtu: link.mtu, limit };
  const isOldVirtio = link.driver === 'virtio_net' && !kernelAtLeast(host.kernelRelease, 6, 3);
  const newer = isOldVirtio ? '; or boot Linux 6.3 or newer, whose driver has no such limit' : '';
  const remedy = `ip link set dev ${link.name} mtu ${Math.min(safe, 1500)}${newer}`;
  if (frags === null) {
    const message = `${link.name} has MTU ${link.mtu}; its driver may refuse XDP above ${limit}, or lose larger frames.`;
    return [finding('mtu_unproven', message, remedy, { details })];
  }
  const [code, consequence]: [FindingCode, string] =
    link.mtu > limit
      ? ['mtu_too_large', `XDP with this driver takes up to ${limit}, larger frames are refused or lost`]
      : ['mtu_near_limit', `frames of more than ${safe} bytes may be lost`];
  return [finding(code, `${link.name} has MTU ${link.mtu}; ${consequence}.`, remedy, { details })];
}

function lroFindings({ link }: Facts): Finding[] {
  const { name, driver, offloads } = link;
  // virtio_net's receive offloads are judged by its feature bits.
  if (driver === null || driver === 'virtio_net') return [];
  const on = [...(offloads.lro === true ? ['lro'] : []), ...(offloads.groHw === true ? ['rx-gro-hw'] : [])];
  if (on.length === 0) return [];
  const remedy = `ethtool -K ${name} ${on.map((feature) => `${feature} off`).join(' ')}`;
  if (refuseLro.has(driver)) {
    return [
      finding('lro_refused', `${name}: the ${driver} driver refuses XDP while ${on.join(' and ')} is on.`, remedy),
    ];
  }
  return [finding('lro_on', `${name} merges received frames in hardware (${on.join(', ')}).`, remedy)];
}

/** Too few receive queues for the peer; also where only the missing XDP support tells it (veth_set_xdp_features). */
function vethQueueFindings({ link }: Facts): Finding[] {
  const { name, peer, channels, xdpFeatures } = link;
  const rxQueues = rxQueuesOf(link);
  const peerTxQueues = peer?.txQueues ?? null;
  const tooFew = peerTxQueues !== null ? rxQueues < peerTxQueues : xdpFeatures !== null && !hasBasic(xdpFeatures);
  if (!tooFew) return [];
  const peerText = `its peer ${peer === null ? 'in another namespace' : peer.name} sends on ${peerTxQueues ?? 'more'}`;
  const needed = peerTxQueues ?? channels?.maxRx ?? link.allocatedRxQueues;
  const canGrow = (channels?.maxRx ?? link.allocatedRxQueues) >= needed && needed > rxQueues;
  const remedy = canGrow ? `ethtool -L ${name} rx ${needed}` : `ethtool -L ${peer?.name ?? 'PEER'} tx ${rxQueues}`;
  return [
    finding('veth_peer_queues', `${name} receives on ${rxQueues} queues, but ${peerText}.`, remedy, {
      source: VETH_SOURCE,
      details: { rxQueues, peerTxQueues },
    }),
  ];
}

function vethFindings(facts: Facts): Finding[] {
  const { link, host } = facts;
  const { name, peer } = link;
  const findings = vethQueueFindings(facts);
  const limit = singleBufferMtu(host.pageSizeBytes);
  if (peer !== null && peer.mtu > limit && !kernelAtLeast(host.kernelRelease, 5, 18)) {
    const message = `${peer.name}, the peer of ${name}, has MTU ${peer.mtu}; ${limit} is the most.`;
    findings.push(
      finding('veth_peer_mtu', message, `ip link set dev ${peer.name} mtu ${limit}`, {
        source: VETH_SOURCE,
        details: { peerMtu: peer.mtu, limit },
      }),
    );
  }
  const message = `Attaching switches TCP segmentation offload off at the other end of ${name}.`;
  findings.push(finding('veth_peer_offloads', message, null, { source: VETH_SOURCE }));
  return findings;
}

export function driverFindings(facts: Facts): Finding[] {
  const veth = facts.link.driver === 'veth' ? vethFindings(facts) : [];
  // A veth end with too few queues reports that it has no XDP at all; the reason is the better answer.
  const support = veth.some(({ code }) => code === 'veth_peer_queues') ? [] : supportFindings(facts);
  return [...support, ...veth, ...mtuFindings(facts), ...lroFindings(facts)];
}
