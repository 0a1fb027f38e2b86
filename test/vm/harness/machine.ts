// SPDX-License-Identifier: Apache-2.0
/** One run of QEMU: an emulated machine with a virtio_net device of many queues. */
import { type ChildProcess, spawn } from 'node:child_process';
import path from 'node:path';
import { createInterface } from 'node:readline';
import type { GuestKernel } from '../../../scripts/vm/kernel.ts';
import { QEMU } from '../../../scripts/vm/requirements.ts';
import { type GuestNetwork, tapName } from './network.ts';
import { guestAddresses } from './protocol.ts';

export interface MachineOptions {
  readonly cpus: number;
  /** Queue pairs of the NIC. */
  readonly queues: number;
  /** Further properties of QEMU's virtio-net-pci, such as `rss=on`. */
  readonly nic?: string;
  /** Names of files in test/vm/guest. */
  readonly suites: readonly string[];
}

export interface MachineParts {
  readonly kernel: GuestKernel;
  readonly initramfs: string;
  readonly consoleLog: string;
  readonly network: GuestNetwork;
}

const MEMORY_MIB = 2048;
const root = path.join(import.meta.dirname, '../../..');

/** The delay loop is given, not measured: measuring it takes longer than the whole boot on an emulator. */
const KERNEL_OPTIONS =
  'console=ttyS0 quiet panic=-1 lpj=10000000 nokaslr mitigations=off tsc=reliable no_timer_check random.trust_cpu=1 ' +
  'rcupdate.rcu_expedited=1 nowatchdog nosoftlockup audit=0 apparmor=0 net.ifnames=0';

function share(tag: string, folder: string): string[][] {
  return [
    ['-fsdev', `local,id=${tag},path=${folder},security_model=none,readonly=on,multidevs=remap`],
    ['-device', `virtio-9p-pci,fsdev=${tag},mount_tag=${tag}`],
  ];
}

/** One thread for all CPUs: it is the only mode in which every boot comes up, and it leaves the host a CPU. */
function qemuArguments(options: MachineOptions, { kernel, initramfs, consoleLog }: MachineParts): string[] {
  const { cpus, queues, nic } = options;
  // A vector for each ring, one for configuration changes, one for the control queue.
  const vectors = 2 * queues + 2;
  const device = `virtio-net-pci,netdev=cable,mac=${guestAddresses.mac},mq=on,vectors=${vectors}`;
  return [
    ['-M', 'q35', '-accel', 'tcg,thread=single', '-cpu', 'max', '-smp', String(cpus), '-m', String(MEMORY_MIB)],
    ['-display', 'none', '-nodefaults', '-no-user-config', '-no-reboot'],
    ['-serial', `file:${consoleLog}`],
    ['-chardev', 'stdio,id=line,signal=off', '-serial', 'chardev:line'],
    ...share('checkout', root),
    ...share('modules', kernel.modules),
    ['-netdev', `tap,id=cable,ifname=${tapName},queues=${queues},script=no,downscript=no,vhost=off`],
    ['-device', nic === undefined ? device : `${device},${nic}`],
    ['-kernel', kernel.vmlinux, '-initrd', initramfs],
    ['-append', `${KERNEL_OPTIONS} vnic.suites=${options.suites.join(',')}`],
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
