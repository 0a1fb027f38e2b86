// SPDX-License-Identifier: Apache-2.0
/** One device at one moment as plain data, and how it is read from mapped memory. */
import { type VnicControl, type VnicLatency, VnicNone, VnicRtt, VnicRttMode } from '../../maps/generated/abi.ts';
import type { MappedArray } from '../../maps/index.ts';
import type { Lever, Obedience, RedirectMode } from '../../steering/redirect.ts';
import { hasQueue } from '../../steering/table.ts';
import {
  type CounterCells,
  type DataplaneCounters,
  type LatencyCells,
  type QueueCounters,
  readCpuCells,
  readLatencyCells,
  readQueueCounters,
  readRttCells,
  sumCounters,
} from '../counters.ts';
import type { QueueDriverDrops } from '../driver-drops.ts';
import type { DeviceTraces } from '../traces/model.ts';
import type { SocketTimes } from '../traces/socket-times.ts';
import { isUnavailable, type Part, unavailable } from './part.ts';
import type { ProgramRuns } from './programs.ts';
import { type RuleCount, type RuleMaps, RuleReader } from './rule-reader.ts';
import type { SwitchCounters } from './switches.ts';

/** What bounds the number of series. */
export interface MetricSettings {
  /** Rules with series of their own; the others are summed in rule="other". */
  maxRules: number;
  maxTopFlows: number;
}

export const defaultMetricSettings: MetricSettings = { maxRules: 200, maxTopFlows: 10 };

/** Of a loaded dataplane. */
export interface SampledMaps extends CounterCells, RuleMaps {
  control: MappedArray<VnicControl>;
  rtt: MappedArray<VnicRtt>;
  rtts: MappedArray<VnicLatency>;
}

/** What adaptive coalescing did. */
export interface CoalescingSample {
  delayUsecs: number;
  changes: number;
}

/** What the maps do not say. */
export interface DeviceDescription {
  /** As users name it. */
  device: string;
  azs: readonly { name: string; queues: readonly number[]; up: boolean }[];
  /** NUMA node of each CPU; a CPU whose node is not known is left out or has -1. */
  cpuNodes: ReadonlyMap<number, number>;
  /** Largest first; see topFlowBytes. */
  topFlowBytes: Part<readonly bigint[]>;
  /** See readProgramRuns. */
  programs: Part<readonly ProgramRuns[]>;
  /** See Tracer. */
  traces: Part<DeviceTraces>;
  driverDrops: Part<readonly QueueDriverDrops[]>;
  socketTimes: SocketTimes;
  switches: SwitchCounters;
  /** Null: nobody adapts it. */
  coalescing: CoalescingSample | null;
  redirect: RedirectSample;
}

export interface RedirectSample {
  mode: RedirectMode;
  trial: Lever | null;
  /** As last looked at; null: nothing is asked of the device, or nobody looked yet. */
  device: Obedience | null;
}

export interface TrafficSample {
  queues: QueueCounters[];
  counters: DataplaneCounters;
  /** By CPU that queues have. */
  depths: { cpu: number; queues: number[]; packets: bigint }[];
  /** Steered to queues whose CPU is on the node. */
  nodes: { node: number; packets: bigint }[];
}

export interface AzSample {
  name: string;
  up: boolean;
  /** Queues of the AZ that the steering table uses; null while steering is off. */
  usableQueues: number | null;
}

/** Round-trip times of TCP. */
export interface RttSample {
  /** Empty: of no AZ that is known. */
  az: string;
  cells: LatencyCells;
}

export const sampleParts = ['traffic', 'latency', 'rules', 'azs'] as const;
export type SamplePart = (typeof sampleParts)[number];

export interface DeviceSample {
  device: string;
  /** What reading it took. */
  readSeconds: number;
  traffic: Part<TrafficSample>;
  latency: Part<LatencyCells>;
  rtts: Part<RttSample[]>;
  rules: Part<RuleCount[]>;
  azs: Part<AzSample[]>;
  topFlowBytes: Part<bigint[]>;
  programs: Part<ProgramRuns[]>;
  traces: Part<DeviceTraces>;
  driverDrops: Part<readonly QueueDriverDrops[]>;
  socketTimes: SocketTimes;
  switches: SwitchCounters;
  coalescing: Part<CoalescingSample>;
  redirect: RedirectSample;
  /** How often each part could not be read since the device was opened. */
  decodeErrors: Record<SamplePart, number>;
}

/** Reads one device again and again. */
export class DeviceSampler {
  readonly #maps: SampledMaps;
  readonly #settings: MetricSettings;
  readonly #rules: RuleReader;
  readonly #decodeErrors: Record<SamplePart, number> = { traffic: 0, latency: 0, rules: 0, azs: 0 };

  constructor(maps: SampledMaps, settings: MetricSettings = defaultMetricSettings) {
    this.#maps = maps;
    this.#settings = settings;
    this.#rules = new RuleReader(maps, settings.maxRules);
  }

  /** No system call. Does not throw: a part that cannot be read is counted and says why. */
  read(description: DeviceDescription): DeviceSample {
    const start = performance.now();
    const control = this.#try(() => this.#maps.control.read(0));
    const part = <T>(name: SamplePart, read: (control: VnicControl) => T): Part<T> => {
      const result = isUnavailable(control) ? control : this.#try(() => read(control));
      if (isUnavailable(result)) this.#decodeErrors[name]++;
      return result;
    };
    const topFlows = description.topFlowBytes;
    const sample: DeviceSample = {
      device: description.device,
      readSeconds: 0,
      traffic: part('traffic', ({ queues, queueCpu }) => this.#traffic(queues, queueCpu, description.cpuNodes)),
      latency: part('latency', () => readLatencyCells(this.#maps)),
      rtts: this.#try(() => this.#rtts(description.azs)),
      rules: part('rules', ({ ruleGeneration }) => this.#rules.read(ruleGeneration)),
      azs: part('azs', (now) => azSamples(now, description.azs)),
      topFlowBytes: isUnavailable(topFlows) ? topFlows : topFlows.slice(0, this.#settings.maxTopFlows),
      programs: isUnavailable(description.programs) ? description.programs : [...description.programs],
      traces: description.traces,
      driverDrops: description.driverDrops,
      socketTimes: description.socketTimes,
      switches: description.switches,
      coalescing: coalescingPart(description.coalescing),
      redirect: description.redirect,
      decodeErrors: { ...this.#decodeErrors },
    };
    sample.readSeconds = (performance.now() - start) / 1000;
    return sample;
  }

  #try<T>(read: () => T): Part<T> {
    try {
      return read();
    } catch (error) {
      return unavailable(error instanceof Error ? error.message : String(error));
    }
  }

  #rtts(azs: DeviceDescription['azs']): Part<RttSample[]> {
    const { rtt, rtts } = this.#maps;
    if (rtt.u32(0, VnicRtt.offsets.mode) === VnicRttMode.off) return unavailable('rtt_sample is 0');
    return readRttCells(rtts).flatMap((cells, row) => {
      const az = row === 0 ? '' : azs[row - 1]?.name;
      return az === undefined ? [] : [{ az, cells }];
    });
  }

  #traffic(queueCount: number, queueCpu: Uint16Array, cpuNodes: ReadonlyMap<number, number>): TrafficSample {
    // Taken packets before handed ones, so that the difference is not negative.
    const perCpu = readCpuCells(this.#maps);
    const queues = readQueueCounters(this.#maps, queueCount);
    const ofCpu = Map.groupBy(queues, ({ queue }) => queueCpu[queue]!);
    ofCpu.delete(VnicNone.noCpu);
    const steered = (group: readonly QueueCounters[]): bigint =>
      group.reduce((sum, { steeredPackets }) => sum + steeredPackets, 0n);
    const depths = [...ofCpu]
      .map(([cpu, group]) => {
        const direct = group.reduce((sum, { directPackets }) => sum + directPackets, 0n);
        const waiting = steered(group) - direct - (perCpu[cpu]?.received ?? 0n);
        return { cpu, queues: group.map(({ queue }) => queue), packets: waiting > 0n ? waiting : 0n };
      })
      .sort((a, b) => a.cpu - b.cpu);
    const ofNode = Map.groupBy(ofCpu, ([cpu]) => cpuNodes.get(cpu) ?? -1);
    ofNode.delete(-1);
    const nodes = [...ofNode]
      .map(([node, cpus]) => ({ node, packets: cpus.reduce((sum, [, group]) => sum + steered(group), 0n) }))
      .sort((a, b) => a.node - b.node);
    return { queues, counters: sumCounters(perCpu, queues), depths, nodes };
  }
}

function azSamples({ activeTable, tables }: VnicControl, azs: DeviceDescription['azs']): AzSample[] {
  const usable = activeTable === VnicNone.noTable ? null : (tables[activeTable]?.usableQueues ?? 0n);
  return azs.map(({ name, up, queues }) => ({
    name,
    up,
    usableQueues: usable === null ? null : queues.filter((queue) => hasQueue(usable, queue)).length,
  }));
}

function coalescingPart(coalescing: CoalescingSample | null): Part<CoalescingSample> {
  if (coalescing === null) return unavailable('adaptive_coalesce is off');
  const { delayUsecs, changes } = coalescing;
  return { delayUsecs, changes };
}
