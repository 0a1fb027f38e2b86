// SPDX-License-Identifier: Apache-2.0
/** sysfs and procfs of machines of other shapes than this one, in memory, with the kernel's own checks on what is written. */
import { VnicError } from '../../src/errors.ts';
import { formatCpuList, parseCpuList } from '../../src/loader/cpu-set.ts';
import type { HostFiles } from '../../src/loader/preflight/ports.ts';
import type { SettingName, SettingsPort } from '../../src/loader/settings/setting.ts';
import { type FactPorts, gatherTuneFacts, type TuneFacts } from '../../src/tune/facts.ts';

export interface MachineShape {
  nodes: number;
  /** Of each node. */
  cores: number;
  /** Of each core. */
  threads: 1 | 2;
  /** The second threads of cores have the upper half of the numbers, as on most servers; else they follow the first. */
  siblingsLast?: boolean;
  offline?: readonly number[];
  /** -1: the device does not say. */
  deviceNode: number;
  queues: number;
  /** Queue pairs that the device has. Absent: channels cannot be set. */
  maxQueues?: number;
  driver?: 'virtio_net' | 'ena';
  irqbalance?: boolean;
  /** Of cpuidle. Absent: the kernel has none. */
  idle?: { driver: string; governor: string };
  /** Absent: the kernel has no governor haltpoll. */
  haltPollNs?: number;
}

interface Cpu {
  cpu: number;
  node: number;
  siblings: number[];
}

function cpusOf({ nodes, cores, threads, siblingsLast = true }: MachineShape): Cpu[] {
  const all = nodes * cores;
  return Array.from({ length: all * threads }, (_, cpu) => {
    const core = siblingsLast ? cpu % all : Math.floor(cpu / threads);
    const siblings = Array.from({ length: threads }, (__, thread) =>
      siblingsLast ? core + thread * all : core * threads + thread,
    );
    return { cpu, node: Math.floor(core / cores), siblings };
  });
}

const FIRST_IRQ = 40;

/** A device `eth0` on a machine, with settings that can be read and written. */
export class FakeMachine implements SettingsPort {
  readonly shape: MachineShape;
  readonly values = new Map<SettingName, string>();
  /** In the order in which they were written. */
  readonly written: SettingName[] = [];
  /** Called before each write: may throw, or change the machine. */
  beforeWrite: (name: SettingName, value: string) => void = () => undefined;
  readonly #cpus: Cpu[];
  readonly #files = new Map<string, string>();

  constructor(shape: MachineShape) {
    this.shape = shape;
    this.#cpus = cpusOf(shape);
    const { queues, maxQueues, driver = 'virtio_net' } = shape;
    this.#describeCpus();
    const names = Array.from({ length: maxQueues ?? queues }, (_, queue) =>
      driver === 'ena' ? [`eth0-Tx-Rx-${queue}`] : [`virtio3-input.${queue}`, `virtio3-output.${queue}`],
    ).flat();
    const interrupts = driver === 'ena' ? ['ena-mgmnt@pci:0000:00:05.0', ...names] : ['virtio3-config', ...names];
    const online = this.online();
    const folder = driver === 'ena' ? '/sys/class/net/eth0/device' : '/sys/class/net/eth0/device/..';
    interrupts.forEach((_, index) => {
      this.#files.set(`${folder}/msi_irqs/${FIRST_IRQ + index}`, 'msix\n');
      this.values.set(`irq-${FIRST_IRQ + index}/smp_affinity_list`, formatCpuList(online));
    });
    this.#files.set(`${folder}/numa_node`, `${shape.deviceNode}\n`);
    const head = `      ${online.map((cpu) => `CPU${cpu}`).join('      ')}\n`;
    const rows = interrupts.map(
      (name, index) =>
        ` ${FIRST_IRQ + index}:  ${online.map(() => '7').join('  ')}  PCI-MSIX-0000:00:05.0   ${index}-edge      ${name}\n`,
    );
    this.#files.set('/proc/interrupts', `${head}${rows.join('')}NMI:  0  Non-maskable interrupts\n`);
    if (shape.irqbalance === true) this.#files.set('/proc/811/comm', 'irqbalance\n');
    this.#files.set('/proc/1/comm', 'systemd\n');
    if (maxQueues !== undefined) this.values.set('channels/combined', String(queues));
    if (shape.haltPollNs !== undefined) this.values.set('guest_halt_poll_ns', String(shape.haltPollNs));
    this.values.set('rings/rx', '256');
    this.values.set('gro_flush_timeout', '0');
    this.values.set('napi_defer_hard_irqs', '0');
    this.#setQueues(queues);
  }

  #describeCpus(): void {
    const folder = '/sys/devices/system/cpu';
    this.#files.set(`${folder}/online`, `${formatCpuList(this.online())}\n`);
    if (this.shape.idle !== undefined) {
      this.#files.set(`${folder}/cpuidle/current_driver`, `${this.shape.idle.driver}\n`);
      this.#files.set(`${folder}/cpuidle/current_governor`, `${this.shape.idle.governor}\n`);
    }
    for (const { cpu, node, siblings } of this.#cpus) {
      this.#files.set(`${folder}/cpu${cpu}/node${node}/meminfo`, '');
      const here = siblings.filter((sibling) => this.shape.offline?.includes(sibling) !== true);
      // The kernel has no topology of a CPU that is offline.
      if (here.includes(cpu))
        this.#files.set(`${folder}/cpu${cpu}/topology/thread_siblings_list`, `${formatCpuList(here)}\n`);
    }
  }

  online(): number[] {
    return this.#cpus.map(({ cpu }) => cpu).filter((cpu) => this.shape.offline?.includes(cpu) !== true);
  }

  nodeOf(cpu: number): number {
    return this.#cpus[cpu]!.node;
  }

  siblingsOf(cpu: number): number[] {
    return this.#cpus[cpu]!.siblings;
  }

  /** As the driver does it: with the channels come queues, and XPS is what the driver thinks best. */
  #setQueues(queues: number): void {
    for (const name of this.values.keys()) if (/^[rt]x-/.test(name)) this.values.delete(name);
    for (const path of this.#files.keys()) if (path.includes('/queues/')) this.#files.delete(path);
    const online = this.online();
    for (let queue = 0; queue < queues; queue++) {
      this.#files.set(`/sys/class/net/eth0/queues/rx-${queue}/rps_cpus`, '');
      this.#files.set(`/sys/class/net/eth0/queues/tx-${queue}/xps_cpus`, '');
      this.values.set(`tx-${queue}/xps_cpus`, String(online[queue % online.length]));
      this.values.set(`tx-${queue}/xps_rxqs`, '');
      this.values.set(`rx-${queue}/rps_cpus`, '');
      this.values.set(`rx-${queue}/rps_flow_cnt`, '0');
    }
  }

  read(name: SettingName): string | null {
    return this.values.get(name) ?? null;
  }

  write(name: SettingName, value: string): void {
    this.beforeWrite(name, value);
    const refused = (errno: string) => new VnicError('kernel_refused', `${name} cannot be set: ${errno}.`);
    if (!this.values.has(name)) throw refused('ENOENT');
    if (/cpus|affinity/.test(name) && parseCpuList(value).some((cpu) => !this.online().includes(cpu)))
      throw refused('EINVAL');
    if (name.startsWith('irq-') && value === '') throw refused('EINVAL');
    this.written.push(name);
    this.values.set(name, value);
    if (name === 'channels/combined') this.#setQueues(Number(value));
  }

  facts(heldByOthers = false): TuneFacts {
    const { driver = 'virtio_net', maxQueues = null } = this.shape;
    const ports: FactPorts = {
      files: this.#hostFiles(),
      settings: this,
      heldByOthers: () => heldByOthers,
      sysfs: '/sys',
      ethtool: () => ({ driver, maxCombined: maxQueues, maxRxRing: 256, rxUsecs: false }),
    };
    return gatherTuneFacts('eth0', ports);
  }

  #hostFiles(): HostFiles {
    const paths = [...this.#files.keys()];
    return {
      read: (path) => this.#files.get(path) ?? null,
      list: (folder) => {
        const inside = paths
          .filter((path) => path.startsWith(`${folder}/`))
          .map((path) => path.slice(folder.length + 1));
        const names = new Map(inside.map((rest) => [rest.split('/')[0]!, rest.includes('/')]));
        return [...names].map(([name, isFolder]) => ({ name, folder: isFolder }));
      },
      target: () => null,
    };
  }
}
