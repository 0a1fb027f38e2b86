// SPDX-License-Identifier: Apache-2.0
/**
 * What virtio_net makes of a native XDP program (virtnet_xdp_set and virtnet_probe in drivers/net/virtio_net.c).
 * Feature bits: Virtual I/O Device 1.3, section 5.1.3. Pure.
 */
import { type DeviceFacts, kernelAtLeast, type LinkFacts } from '../facts.ts';
import { type Finding, finding } from '../finding.ts';

const SOURCE = 'drivers/net/virtio_net.c';

const CTRL_GUEST_OFFLOADS = 2;
const MRG_RXBUF = 15;
const CTRL_VQ = 17;
const ANY_LAYOUT = 27;
const VERSION_1 = 32;
const RSS = 60;

/** Receive offloads, by the name of their QEMU option. */
const guestOffloads: Readonly<Record<string, number>> = {
  guest_csum: 1,
  guest_tso4: 7,
  guest_tso6: 8,
  guest_ecn: 9,
  guest_ufo: 10,
  guest_uso4: 54,
  guest_uso6: 55,
};

const ETHERNET_MTU = 1500;

type VirtioFacts = DeviceFacts & { readonly link: LinkFacts };

function offloadFindings(name: string, has: (bit: number) => boolean): Finding[] {
  const on = Object.keys(guestOffloads).filter((offload) => has(guestOffloads[offload]!));
  if (on.length === 0) return [];
  const details = { offloads: on };
  // Without the queue for it the driver stops the whole guest (BUG_ON in virtnet_send_command).
  if (has(CTRL_GUEST_OFFLOADS) && has(CTRL_VQ)) {
    return [
      finding(
        'virtio_offloads_off',
        `Attaching switches off these receive offloads of ${name}: ${on.join(', ')}.`,
        null,
        {
          source: SOURCE,
          details,
        },
      ),
    ];
  }
  const allow = has(CTRL_VQ) ? 'ctrl_guest_offloads=on' : 'ctrl_vq=on,ctrl_guest_offloads=on';
  const off = on.map((offload) => `${offload}=off`).join(',');
  const libvirt = on.map((offload) => `${offload.replace('guest_', '')}='off'`).join(' ');
  return [
    finding(
      'virtio_offloads_fixed',
      `${name} has ${on.join(', ')} on, and its device does not let the guest switch them off.`,
      `QEMU: -device virtio-net-pci,…,${allow} (the default), or ${off}; libvirt: <driver><guest ${libvirt}/></driver>`,
      { source: SOURCE, details },
    ),
  ];
}

function bufferFindings(link: LinkFacts, has: (bit: number) => boolean): Finding[] {
  if (has(MRG_RXBUF)) {
    if (has(ANY_LAYOUT) || has(VERSION_1)) return [];
    return [
      finding(
        'virtio_header_split',
        `${link.name} is a legacy device with mergeable buffers and neither VERSION_1 nor ANY_LAYOUT.`,
        'QEMU: -device virtio-net-pci,…,disable-modern=off with a machine type newer than pc-i440fx-1.5',
        { source: SOURCE },
      ),
    ];
  }
  const guestGso = ['guest_tso4', 'guest_tso6', 'guest_ecn', 'guest_ufo'].some((name) => has(guestOffloads[name]!));
  const guestUso = has(guestOffloads['guest_uso4']!) && has(guestOffloads['guest_uso6']!);
  if (!guestGso && !guestUso && link.mtu <= ETHERNET_MTU) return [];
  const why = guestGso || guestUso ? 'receive segmentation offloads' : `an MTU of ${link.mtu}`;
  return [
    finding(
      'virtio_big_packets',
      `${link.name} has ${why} without mergeable buffers: XDP would attach and never run.`,
      'QEMU: -device virtio-net-pci,…,mrg_rxbuf=on (the default)',
      { source: SOURCE },
    ),
  ];
}

function txRingFindings({ link, host, attached }: VirtioFacts): Finding[] {
  const { channels, name } = link;
  // With a program attached the driver has taken its queues already.
  if (channels === null || attached.some(({ mode }) => mode === 'native')) return [];
  const needed = channels.combined + host.cpuIds;
  const details = { combined: channels.combined, cpuIds: host.cpuIds, most: channels.maxCombined };
  if (needed <= channels.maxCombined) {
    return [
      finding(
        'virtio_rx_queues_grow',
        `Attaching raises the receive queues of ${name} from ${channels.combined} to ${needed}: one more for each of ${host.cpuIds} CPUs.`,
        null,
        { source: SOURCE, details },
      ),
    ];
  }
  const message = `${name} has ${channels.maxCombined} queues at most, ${channels.combined} in use, and none to spare for each of ${host.cpuIds} CPUs.`;
  if (!kernelAtLeast(host.kernelRelease, 5, 13)) {
    const fitting = channels.maxCombined - host.cpuIds;
    return [
      fitting >= 1
        ? finding('virtio_tx_rings', message, `ethtool -L ${name} combined ${fitting}`, { source: SOURCE, details })
        : finding('virtio_tx_rings', message, `QEMU: queues=${needed}, or boot Linux 5.13 or newer`, {
            whoMustChange: 'hypervisor',
            source: SOURCE,
            details,
          }),
    ];
  }
  return [finding('virtio_xdp_tx_locked', message, null, { source: SOURCE, details })];
}

export function virtioFindings(facts: VirtioFacts): Finding[] {
  const { link, virtioFeatures } = facts;
  if (virtioFeatures === null) {
    return [
      finding(
        'virtio_features_unknown',
        `The features of ${link.name} cannot be read from /sys/bus/virtio/devices.`,
        'Make /sys visible here (a container: --volume /sys:/sys:ro).',
      ),
      ...txRingFindings(facts),
    ];
  }
  const has = (bit: number) => virtioFeatures[bit] === '1';
  const findings = [...offloadFindings(link.name, has), ...bufferFindings(link, has)];
  if (!has(CTRL_VQ)) {
    findings.push(
      finding(
        'virtio_no_control_queue',
        `${link.name} has no control queue.`,
        'QEMU: -device virtio-net-pci,…,ctrl_vq=on (the default)',
        {
          source: SOURCE,
        },
      ),
    );
  }
  findings.push(...txRingFindings(facts));
  if (has(RSS)) {
    findings.push(
      finding(
        'virtio_rss_lost',
        `${link.name} loses its RSS table when XDP is attached or detached; ethtool -x still shows it.`,
        `After attaching and after detaching, set the table again, e.g. ethtool -X ${link.name} equal ${link.channels?.combined ?? link.allocatedRxQueues}`,
        { source: SOURCE },
      ),
    );
  }
  return findings;
}
