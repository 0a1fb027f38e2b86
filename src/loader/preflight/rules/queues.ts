// SPDX-License-Identifier: Apache-2.0
/** Receive queues: how many there are, and how to get more. Pure. */
import type { DeviceFacts, LinkFacts } from '../facts.ts';
import { type Finding, finding } from '../finding.ts';

/** Receive queues in use. A combined channel is one, too. */
export function rxQueuesOf({ channels, allocatedRxQueues }: LinkFacts): number {
  const inUse = channels === null ? 0 : channels.rx + channels.combined;
  return inUse > 0 ? inUse : allocatedRxQueues;
}

function maxRxQueuesOf({ channels, allocatedRxQueues }: LinkFacts): number {
  const most = channels === null ? 0 : channels.maxRx + channels.maxCombined;
  return most > 0 ? most : allocatedRxQueues;
}

function ethtoolCommand({ name, channels }: LinkFacts, queues: number): string {
  return channels !== null && channels.maxCombined > 0
    ? `ethtool -L ${name} combined ${queues}`
    : `ethtool -L ${name} rx ${queues} tx ${queues}`;
}

/** Who can give the device `queues` receive queues, and how. */
function moreQueues(link: LinkFacts, queues: number, attached: boolean): Pick<Finding, 'whoMustChange' | 'remedy'> {
  if (maxRxQueuesOf(link) >= queues) {
    const detachFirst = attached ? `vnicctl detach ${link.name}; ` : '';
    return { whoMustChange: 'guest', remedy: `${detachFirst}${ethtoolCommand(link, queues)}` };
  }
  if (link.driver === 'virtio_net') {
    return {
      whoMustChange: 'hypervisor',
      remedy:
        `QEMU: -netdev tap,…,queues=${queues} -device virtio-net-pci,…,mq=on,vectors=${2 * queues + 2}; ` +
        `libvirt: <driver queues='${queues}'/> in the <interface>`,
    };
  }
  if (link.driver === 'veth') {
    return {
      whoMustChange: 'guest',
      remedy: `Make the pair anew: ip link add ${link.name} numtxqueues ${queues} numrxqueues ${queues} type veth peer name PEER numtxqueues ${queues} numrxqueues ${queues}`,
    };
  }
  return { whoMustChange: 'user', remedy: `Ask for no more than the device has: --queues ${maxRxQueuesOf(link)}` };
}

/** @param asked number of queues that the user asked for */
export function queueFindings(
  { link, attached }: DeviceFacts & { link: LinkFacts },
  asked: number | undefined,
): Finding[] {
  const have = rxQueuesOf(link);
  if (asked !== undefined && asked > have) {
    const { whoMustChange, remedy } = moreQueues(link, asked, attached.length > 0);
    return [
      finding('queues_too_few', `${link.name} uses ${have} receive queues; ${asked} were asked for.`, remedy, {
        whoMustChange,
        details: { have, most: maxRxQueuesOf(link), asked },
      }),
    ];
  }
  if (have > 1) return [];
  const most = maxRxQueuesOf(link);
  const { whoMustChange, remedy } = moreQueues(link, Math.max(most, 2), attached.length > 0);
  return [
    finding('single_queue', `${link.name} receives on one queue.`, whoMustChange === 'user' ? null : remedy, {
      whoMustChange: whoMustChange === 'user' ? 'nobody' : whoMustChange,
      details: { have, most },
    }),
  ];
}
