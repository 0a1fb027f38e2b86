// SPDX-License-Identifier: Apache-2.0
/**
 * The machines that a guest can be, as data. A suite names those it runs on.
 *
 * Environment: CPUS (default 8) and QUEUES (default 32) change every machine; MACHINE and SUITE narrow a run to some
 * names (separated by commas or spaces); VNIC_VM=full runs more than the short run.
 */

export interface NicOptions {
  /** What a suite finds it by. */
  readonly name: string;
  /** Queue pairs of the tap behind it. */
  readonly queues: number;
  /** Further properties of QEMU's virtio-net-pci, such as `rss=on,hash=on`. */
  readonly properties?: string;
  /** Of the tap, and offered by the device (VIRTIO_NET_F_MTU). */
  readonly mtu?: number;
  /** NUMA node that its PCI bus belongs to. */
  readonly numaNode?: number;
}

export interface MachineOptions {
  /** After "a guest with N CPUs, ". */
  readonly title: string;
  readonly cpus: number;
  /** CPUs and memory are dealt to so many nodes, CPU ranges one after the other. */
  readonly numaNodes?: number;
  /** The first one is eth0, set up before the suites. The others are down, without addresses. */
  readonly nics: readonly NicOptions[];
}

function numberFrom(name: string, otherwise: number): number {
  const text = process.env[name];
  if (text === undefined || text === '') return otherwise;
  if (!/^[1-9]\d{0,2}$/.test(text)) throw new Error(`${name}: ${text} is no number from 1 to 999`);
  return Number(text);
}

/** QEMU's receive offloads of a guest; with all of them off XDP asks for nothing. */
const GUEST_OFFLOADS = ['guest_csum', 'guest_tso4', 'guest_tso6', 'guest_ecn', 'guest_ufo'];
/** What a driver refuses of a device that has no control queue. */
const NO_CONTROL_QUEUE =
  'mq=off,ctrl_vq=off,ctrl_rx=off,ctrl_vlan=off,ctrl_mac_addr=off,guest_announce=off,ctrl_guest_offloads=off';
const without = (...offloads: string[]): string => offloads.map((offload) => `${offload}=off`).join(',');

const cpus = numberFrom('CPUS', 8);
const queues = numberFrom('QUEUES', 32);

export const machines = {
  standard: {
    title: 'virtio_net with the defaults of QEMU',
    cpus,
    nics: [{ name: 'standard', queues }],
  },
  rss: {
    title: 'virtio_net with an RSS table of its own',
    cpus,
    nics: [{ name: 'rss', queues, properties: 'rss=on,hash=on' }],
  },
  numa: {
    title: 'two NUMA nodes, each with a virtio_net',
    cpus,
    numaNodes: 2,
    nics: [
      { name: 'node1', queues, numaNode: 1 },
      { name: 'node0', queues: 4, numaNode: 0 },
    ],
  },
  variants: {
    title: 'a virtio_net of each kind that a hypervisor may give',
    cpus,
    nics: [
      { name: 'plain', queues: 4 },
      { name: 'offloads-fixed', queues: 4, properties: 'ctrl_guest_offloads=off' },
      {
        name: 'checksum-fixed',
        queues: 4,
        properties: `ctrl_guest_offloads=off,${without(...GUEST_OFFLOADS.slice(1))}`,
      },
      { name: 'offloads-off', queues: 4, properties: `ctrl_guest_offloads=off,${without(...GUEST_OFFLOADS)}` },
      { name: 'jumbo', queues: 4, mtu: 9000 },
      { name: 'one-queue', queues: 1 },
      { name: 'no-multiqueue', queues: 1, properties: 'mq=off' },
      { name: 'no-control-queue', queues: 1, properties: NO_CONTROL_QUEUE },
      { name: 'bare', queues: 1, properties: `${NO_CONTROL_QUEUE},${without(...GUEST_OFFLOADS)}` },
      { name: 'big-packets', queues: 4, properties: 'mrg_rxbuf=off' },
      { name: 'small-buffers', queues: 4, properties: `mrg_rxbuf=off,${without(...GUEST_OFFLOADS)}` },
      { name: 'big-by-mtu', queues: 4, mtu: 9000, properties: `mrg_rxbuf=off,${without(...GUEST_OFFLOADS)}` },
      { name: 'header-split', queues: 4, properties: 'disable-modern=on,disable-legacy=off,any_layout=off' },
      { name: 'control-without-queue', queues: 1, properties: `${NO_CONTROL_QUEUE},ctrl_guest_offloads=on` },
      { name: 'many-queues', queues: 24 },
    ],
  },
} as const satisfies Record<string, MachineOptions>;

export type MachineName = keyof typeof machines;
export const machineNames = Object.keys(machines) as MachineName[];

function wanted(variable: string): (name: string) => boolean {
  const names = (process.env[variable] ?? '').split(/[\s,]+/).filter((name) => name !== '');
  return (name) => names.length === 0 || names.includes(name);
}

/** Whether a run is to have this machine, this suite. */
export const isMachineWanted = wanted('MACHINE');
export const isSuiteWanted = wanted('SUITE');
/** Whether only what is marked as short runs. */
export const isShortRun = process.env['VNIC_VM'] !== 'full';
