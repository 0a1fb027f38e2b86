// SPDX-License-Identifier: Apache-2.0
/** The product on its rig: a controller with a state folder of its own, and the device attached. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { stringify } from 'yaml';
import { Controller } from '../../../src/app/controller.ts';
import { parseDevice } from '../../../src/config/device.ts';
import type { DeviceId } from '../../../src/loader/pins.ts';
import { bucketOf, chooseQueue, flowHash } from '../../../src/steering/hash.ts';
import type { SteeringTable } from '../../../src/steering/table.ts';
import { hashKeyOf, type RigFlow } from '../flows.ts';
import type { Rig } from '../topology.ts';

/** Where the limits and rules of the demo apply; everything else goes to port 7000. */
export const ports = { plain: 7000, ruleLimit: 7020, flowLimit: 7030, named: 7040, dropped: 7666 } as const;

export const limits = {
  rule: { id: 20, bitsPerSecond: 100e6, rate: '100mbit', burst: '2mb' },
  flow: { id: 30, bitsPerSecond: 10e6, rate: '10mbit', burst: '256kb' },
} as const;

export const namedQueues = [3, 4] as const;

/** The device as a user would configure it. */
export function deviceInput(rig: Rig): Record<string, unknown> {
  const queues = ['0-10', '11-21', '22-31'];
  return {
    num_queues: rig.queues,
    azs: rig.azs.map((az, index) => ({
      name: az.name,
      queues: queues[index],
      prefixes: [az.ipv4Prefix, az.ipv6Prefix],
    })),
    rules: [
      { id: 10, priority: 100, match: { proto: 'udp', dstPort: ports.dropped }, action: 'drop' },
      {
        id: limits.rule.id,
        match: { proto: 'udp', dstPort: ports.ruleLimit },
        action: 'pass',
        limit: { rate: limits.rule.rate, burst: limits.rule.burst, scope: 'rule' },
      },
      {
        id: limits.flow.id,
        match: { proto: 'udp', dstPort: ports.flowLimit },
        action: 'pass',
        limit: { rate: limits.flow.rate, burst: limits.flow.burst, scope: 'flow' },
      },
      { id: 40, match: { proto: 'udp', dstPort: ports.named }, action: 'pass', queues: [...namedQueues] },
    ],
  };
}

export class Setting implements Disposable {
  readonly rig: Rig;
  readonly controller: Controller;
  readonly device: DeviceId;
  readonly stateFolder: string;

  constructor(rig: Rig) {
    this.rig = rig;
    this.device = { name: rig.device, netns: rig.netns };
    this.stateFolder = mkdtempSync(path.join(tmpdir(), 'vnic-rig-'));
    this.controller = new Controller({ native: rig.native, stateFolder: this.stateFolder });
  }

  attach(input: Record<string, unknown> = deviceInput(this.rig)): void {
    this.controller.attach(this.device, {
      config: parseDevice(this.rig.device, input),
      mode: 'native',
      deliverMetadata: true,
    });
  }

  /** The same configuration as a file, for the command line. */
  writeConfig(file: string): void {
    writeFileSync(file, stringify({ devices: { [this.rig.device]: deviceInput(this.rig) } }));
  }

  /** One letter for each queue: the AZ that it belongs to. */
  azLetters(): string {
    return this.controller.withDevice(this.device, (device) =>
      device
        .queues()
        .map(({ az }) => az?.slice(-1) ?? '.')
        .join(''),
    );
  }

  /** The table that packets meet now, as it stands in the kernel. */
  activeTable(): SteeringTable {
    return this.controller.withDevice(this.device, (device) => {
      const active = device.tables.active();
      if (active === null) throw new Error('steering is off');
      return device.tables.read(active);
    });
  }

  hashSeed(): number {
    return this.controller.withDevice(this.device, (device) => device.record.settings.hashSeed);
  }

  cpuOfQueue(): number[] {
    return this.controller.withDevice(this.device, (device) => device.record.settings.queueCpus);
  }

  dispose(): void {
    if (this.controller.isAttached(this.device)) this.controller.detach(this.device, true);
    rmSync(this.stateFolder, { recursive: true, force: true });
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

/** Queue of each flow by the TypeScript hash and a table: what the BPF programs must have chosen on their own. */
export function expectedQueues(
  flows: readonly RigFlow[],
  table: SteeringTable,
  options: { seed: number; azIndex: (name: string) => number; ruleQueues?: (flow: RigFlow) => bigint | undefined },
): Map<number, number> {
  return new Map(
    flows.map((flow) => {
      const hash = flowHash(hashKeyOf(flow), options.seed);
      const ruleQueues = options.ruleQueues?.(flow);
      const queue = chooseQueue({
        hash,
        bucket: bucketOf(hash),
        az: flow.outside ? 0 : options.azIndex(flow.az),
        rows: table.rows,
        usableQueues: table.usableQueues,
        ...(ruleQueues === undefined ? {} : { ruleQueues }),
      });
      return [flow.id, queue];
    }),
  );
}
