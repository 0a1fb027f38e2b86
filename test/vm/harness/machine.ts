// SPDX-License-Identifier: Apache-2.0
/** One run of QEMU: a machine with virtio_net devices of many queues. */
import { type ChildProcess, spawn } from 'node:child_process';
import path from 'node:path';
import { createInterface } from 'node:readline';
import type { GuestKernel } from '../../../scripts/vm/kernel.ts';
import { QEMU } from '../../../scripts/vm/requirements.ts';
import type { BootTry } from './accelerator.ts';
import type { MachineOptions, NicOptions } from './machines.ts';
import type { GuestNetwork } from './network.ts';
import { cableOf } from './protocol.ts';

export interface MachineParts {
  readonly kernel: GuestKernel;
  readonly initramfs: string;
  readonly consoleLog: string;
  readonly network: GuestNetwork;
  readonly bootTry: BootTry;
}

const MEMORY_MIB = 2048;
/** Of the machine type q35. */
const ROOT_BUS = 'pcie.0';
const root = path.join(import.meta.dirname, '../../..');

/** The delay loop is given, not measured: measuring it takes longer than the whole boot on an emulator. */
const KERNEL_OPTIONS =
  'console=ttyS0 quiet panic=-1 lpj=10000000 nokaslr mitigations=off tsc=reliable no_timer_check random.trust_cpu=1 ' +
  'rcupdate.rcu_expedited=1 nowatchdog nosoftlockup audit=0 apparmor=0 net.ifnames=0';

function share(tag: string, folder: string): string[][] {
  return [
    ['-fsdev', `local,id=${tag},path=${folder},security_model=none,readonly=on,multidevs=remap`],
    ['-device', `virtio-9p-pci,bus=${ROOT_BUS},fsdev=${tag},mount_tag=${tag}`],
  ];
}

/** CPU ranges and equal parts of the memory, for each node. */
function numa({ cpus, numaNodes = 1 }: MachineOptions): string[][] {
  if (numaNodes === 1) return [];
  const each = Math.floor(cpus / numaNodes);
  return Array.from({ length: numaNodes }, (_, node) => {
    const last = node === numaNodes - 1 ? cpus - 1 : (node + 1) * each - 1;
    return [
      ['-object', `memory-backend-ram,id=ram${node},size=${MEMORY_MIB / numaNodes}M`],
      ['-numa', `node,nodeid=${node},cpus=${node * each}-${last},memdev=ram${node}`],
      // An expander is a root bus of its own, and has a node; what hangs below its port has the node of it.
      ['-device', `pxb-pcie,id=expander${node},bus_nr=${64 * (node + 1)},bus=${ROOT_BUS},numa_node=${node}`],
      ['-device', `pcie-root-port,id=port${node},bus=expander${node},chassis=${node + 1},slot=${node + 1}`],
    ];
  }).flat();
}

function nic({ queues, properties, mtu, numaNode }: NicOptions, position: number): string[][] {
  const { tap, guestMac } = cableOf(position);
  const device = [
    `virtio-net-pci,netdev=cable${position},mac=${guestMac}`,
    ...(queues > 1 ? ['mq=on'] : []),
    // A vector for each ring, one for configuration changes, one for the control queue.
    `vectors=${2 * queues + 2}`,
    ...(mtu === undefined ? [] : [`host_mtu=${mtu}`]),
    `bus=${numaNode === undefined ? ROOT_BUS : `port${numaNode}`}`,
    ...(properties === undefined ? [] : [properties]),
  ];
  return [
    ['-netdev', `tap,id=cable${position},ifname=${tap},queues=${queues},script=no,downscript=no,vhost=off`],
    ['-device', device.join(',')],
  ];
}

function qemuArguments(options: MachineOptions, { kernel, initramfs, consoleLog, bootTry }: MachineParts): string[] {
  return [
    ['-M', 'q35', '-accel', bootTry.accelerator, '-cpu', bootTry.cpu],
    ['-smp', String(options.cpus), '-m', String(MEMORY_MIB)],
    ...numa(options),
    ['-display', 'none', '-nodefaults', '-no-user-config', '-no-reboot'],
    ['-serial', `file:${consoleLog}`],
    ['-chardev', 'stdio,id=line,signal=off', '-serial', 'chardev:line'],
    ...share('checkout', root),
    ...share('modules', kernel.modules),
    ...options.nics.flatMap(nic),
    ['-kernel', kernel.vmlinux, '-initrd', initramfs],
    ['-append', KERNEL_OPTIONS],
  ].flat();
}

export class Machine {
  readonly #child: ChildProcess;
  /** Resolves when QEMU has ended. */
  readonly ended: Promise<void>;

  constructor(options: MachineOptions, parts: MachineParts, onLine: (line: string) => void) {
    const [command, args] = parts.network.command(QEMU, qemuArguments(options, parts));
    this.#child = spawn(command, args, { stdio: ['pipe', 'pipe', 'pipe'] });
    for (const stream of [this.#child.stdout, this.#child.stderr]) {
      if (stream !== null) createInterface({ input: stream }).on('line', onLine);
    }
    // It may end while something is being written to it.
    this.#child.stdin?.on('error', () => undefined);
    this.ended = new Promise((resolve) => {
      this.#child.once('close', () => resolve());
      this.#child.once('error', (error) => {
        onLine(String(error));
        resolve();
      });
    });
  }

  writeLine(line: string): void {
    this.#child.stdin?.write(`${line}\n`);
  }

  kill(): void {
    this.#child.kill('SIGKILL');
  }
}
