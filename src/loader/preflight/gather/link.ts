// SPDX-License-Identifier: Apache-2.0
/** Facts of the device itself, from rtnetlink (by `ip`), ethtool and the virtio bus. */
import { VnicError } from '../../../errors.ts';
import type { LinkFacts } from '../facts.ts';
import type { PreflightPorts, RunCommand } from '../ports.ts';

/** The part of `ip -j -d link show` that is read. Fields that do not apply are left out by ip. */
interface IpLink {
  ifindex: number;
  ifname: string;
  flags: string[];
  mtu: number;
  link_type: string;
  num_rx_queues?: number;
  num_tx_queues?: number;
  /** Name of the lower or other device, if it is in the same network namespace. */
  link?: string;
  linkinfo?: { info_kind?: string };
  parentbus?: string;
  parentdev?: string;
}

/** IFNAMSIZ limits names; alternative names (ALTIFNAMSIZ) are longer. A leading dash would be an option of ip. */
function isPossibleName(device: string): boolean {
  return /^[^\s/-][^\s/]{0,126}$/.test(device) && device !== '.' && device !== '..';
}

function showLink(run: RunCommand, device: string): IpLink | null {
  if (!isPossibleName(device)) return null;
  const result = run('ip', ['-j', '-d', 'link', 'show', 'dev', device]);
  if (result.status === null) {
    throw new VnicError('failed', 'The command ip is not installed.', { remedy: 'apt-get install iproute2' });
  }
  if (result.status !== 0) {
    if (/does not exist|not a valid ifname/.test(result.stderr)) return null;
    throw new VnicError('failed', `ip link show dev ${device} failed: ${result.stderr.trim()}`);
  }
  const [link] = JSON.parse(result.stdout) as IpLink[];
  return link ?? null;
}

/** `rx-gro-hw` in `ethtool --json -k`; null without the tool. */
function groHw(run: RunCommand, device: string): boolean | null {
  const result = run('ethtool', ['--json', '-k', device]);
  if (result.status !== 0) return null;
  const [features] = JSON.parse(result.stdout) as Record<string, { active?: boolean } | undefined>[];
  return features?.['rx-gro-hw']?.active ?? null;
}

function gatherPeer({ run, kernel }: PreflightPorts, link: IpLink): LinkFacts['peer'] {
  if (link.linkinfo?.info_kind !== 'veth' || link.link === undefined) return null;
  const peer = showLink(run, link.link);
  if (peer === null) return null;
  return { name: peer.ifname, mtu: peer.mtu, txQueues: kernel.channelsOf(peer.ifname)?.tx ?? null };
}

function virtioFeatures({ files, kernel }: PreflightPorts, link: IpLink): string | null {
  const busInfo = kernel.driverOf(link.ifname)?.busInfo ?? '';
  const folders = [
    ...(link.parentbus === 'virtio' ? [`/sys/bus/virtio/devices/${link.parentdev}`] : []),
    // Before Linux 5.14 the parent is not told, but a virtio-pci device says which PCI device it is.
    ...files
      .list(`/sys/bus/pci/devices/${busInfo}`)
      .filter(({ name }) => name.startsWith('virtio'))
      .map(({ name }) => `/sys/bus/pci/devices/${busInfo}/${name}`),
    `/sys/bus/virtio/devices/${busInfo}`,
  ];
  for (const folder of folders) {
    const features = files.read(`${folder}/features`)?.trim();
    if (features !== undefined && /^[01]+$/.test(features)) return features;
  }
  return null;
}

/** Null if there is no such device in the calling thread's network namespace. */
export function gatherLink(
  ports: PreflightPorts,
  device: string,
): { link: LinkFacts; virtioFeatures: string | null } | null {
  const { run, kernel } = ports;
  const shown = showLink(run, device);
  if (shown === null) return null;
  const { ifname: name, ifindex } = shown;
  const kind = shown.linkinfo?.info_kind ?? null;
  const driver = kernel.driverOf(name)?.driver ?? kind;
  const link: LinkFacts = {
    name,
    ifindex,
    linkType: shown.link_type,
    mtu: shown.mtu,
    up: shown.flags.includes('UP'),
    kind,
    driver,
    allocatedRxQueues: shown.num_rx_queues ?? 1,
    allocatedTxQueues: shown.num_tx_queues ?? 1,
    channels: kernel.channelsOf(name),
    offloads: {
      gro: kernel.offload(name, 'gro'),
      gso: kernel.offload(name, 'gso'),
      tso: kernel.offload(name, 'tso'),
      lro: kernel.offload(name, 'lro'),
      groHw: groHw(run, name),
    },
    xdpFeatures: kernel.xdpFeatures(ifindex),
    peer: gatherPeer(ports, shown),
  };
  return { link, virtioFeatures: driver === 'virtio_net' ? virtioFeatures(ports, shown) : null };
}
