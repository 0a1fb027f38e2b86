// SPDX-License-Identifier: Apache-2.0
/** A device as it was asked for: its topology, AZs and rules together. Pure. */
import type { DeviceConfig } from '../config/device.ts';
import type { AzConfig } from '../steering/azs.ts';
import { applyHomeMoves, parseHomeMoves } from '../steering/home-moves.ts';
import { initialState, type SteeringState } from '../steering/plan-az.ts';
import { planHome } from '../steering/planner.ts';
import {
  type AzSpec,
  type CpuSpec,
  checkTopology,
  planQueues,
  type QueueSpec,
  type Topology,
} from '../steering/queues.ts';
import type { Rule } from '../steering/rules/model.ts';
import type { SteeringTable } from '../steering/table.ts';

export class DeviceModel {
  readonly config: DeviceConfig;
  readonly azs: readonly AzConfig[];
  readonly rules: readonly Rule[];
  readonly topology: Topology;
  #planned: SteeringTable | undefined;
  /** The last state that was asked for: every look at a device asks for the same. */
  #homeState: { key: string; state: SteeringState } | undefined;

  private constructor(config: DeviceConfig, topology: Topology) {
    this.config = config;
    this.azs = config.azs;
    this.rules = config.rules;
    this.topology = topology;
  }

  /** For a new device: queues are dealt to CPUs. */
  static plan(config: DeviceConfig, queueCount: number, cpus: readonly CpuSpec[]): DeviceModel {
    const azs = azSpecs(config.azs);
    const queues = planQueues({ queueCount, azs, cpus, numaNode: config.numaNode });
    return new DeviceModel(config, { queues, azs });
  }

  /** For a device whose queues have their CPUs already. */
  static of(config: DeviceConfig, queueCpus: readonly number[]): DeviceModel {
    const azs = azSpecs(config.azs);
    const queues = queueCpus.map((cpu, index): QueueSpec => {
      const az = azs.find((candidate) => candidate.queues.includes(index))?.index ?? null;
      return { index, az, cpu, numaNode: -1, usable: true };
    });
    const topology = { queues, azs };
    checkTopology(topology);
    return new DeviceModel(config, topology);
  }

  /** All queues usable but those of failed AZs. @param homeMoves what rebalancing made of the home table */
  homeState(failedAzs: readonly string[] = [], homeMoves: readonly string[] = []): SteeringState {
    const key = JSON.stringify([failedAzs, homeMoves]);
    if (this.#homeState?.key !== key) {
      const failed = failedAzs.map((name) => this.azIndex(name)).filter((index) => index !== 0);
      const options = { policy: this.config.failover.policy, home: this.#home(homeMoves) };
      this.#homeState = { key, state: initialState(this.topology, failed, options) };
    }
    return this.#homeState.state;
  }

  #home(homeMoves: readonly string[]): SteeringTable {
    const { queues, azs } = this.topology;
    this.#planned ??= planHome(queues, azs);
    return homeMoves.length === 0 ? this.#planned : applyHomeMoves(this.#planned, parseHomeMoves(homeMoves), queues);
  }

  /** 1 upwards; 0 if there is no AZ of that name. */
  azIndex(name: string): number {
    return this.azs.findIndex((az) => az.name === name) + 1;
  }

  azName(index: number): string | null {
    return this.azs[index - 1]?.name ?? null;
  }
}

function azSpecs(azs: readonly AzConfig[]): AzSpec[] {
  return azs.map(({ name, weight, queues }, position) => ({ index: position + 1, name, weight, queues }));
}
