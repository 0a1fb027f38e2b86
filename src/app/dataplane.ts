// SPDX-License-Identifier: Apache-2.0
/** A loaded dataplane: its maps and programs, made new from the object or adopted from their pins. */
import { fileURLToPath } from 'node:url';
import { VnicError } from '../errors.ts';
import type { Fd } from '../loader/fd.ts';
import type { Native } from '../loader/ffi/index.ts';
import { BpfObject, type ObjectSettings } from '../loader/object.ts';
import type { PinFolder } from '../loader/pins.ts';
import {
  VnicAbi,
  VnicAzIndex,
  VnicAzPrefix,
  VnicControl,
  VnicCpuStats,
  VnicExplanation,
  VnicFlow,
  VnicFlowSet,
  VnicLatency,
  VnicLimits,
  VnicNone,
  VnicProgSlot,
  VnicQueueStats,
  VnicReplayFrame,
  VnicRuleAction,
  VnicRuleState,
  VnicShape,
  VnicShapeCount,
  VnicTableRow,
} from '../maps/generated/abi.ts';
import {
  BpfMap,
  CpuMap,
  checkLayout,
  declaredLayouts,
  HashMap,
  MapOfMaps,
  MappedArray,
  ProgArray,
  RingBuffer,
} from '../maps/index.ts';
import { jiffyNs, possibleCpuCount } from './machine.ts';

export const objectPath = fileURLToPath(new URL('../../build/bpf/vnic.bpf.o', import.meta.url));

export const programNames = [
  'vnic_root',
  'vnic_ingress',
  'vnic_cpu',
  'vnic_egress',
  'vnic_explain',
  'vnic_clock',
] as const;
export type ProgramName = (typeof programNames)[number];

/** Whose BTF layout is held against the code's before pinned maps are used. */
const mapNames = [
  'vnic_progs',
  'vnic_control',
  'vnic_table',
  'vnic_flows',
  'vnic_flow_sets',
  'vnic_rules',
  'vnic_shapes',
  'vnic_shape_counts',
  'vnic_rule_actions',
  'vnic_rule_states',
  'vnic_az_prefixes',
  'vnic_cpus',
  'vnic_queue_stats',
  'vnic_cpu_stats',
  'vnic_latency',
  'vnic_events',
  'vnic_explanation',
  'vnic_replay_frame',
] as const;
type MapName = (typeof mapNames)[number];

export interface DataplaneSize {
  /** 1 to VNIC_MAX_QUEUES */
  queues: number;
  /** Rounded up to a power of two sets. */
  maxFlows: number;
  maxRules: number;
  hashSeed: number;
  deliverMetadata: boolean;
  /** One packet in 2^n has its latency measured. */
  latencySampleShift: number;
  /** For captures: clock and lengths come from `vnic_replay_frame`. */
  replay: boolean;
  /** Only these are loaded; default all. */
  programs?: readonly ProgramName[];
}

/** splitmix32, so that the flow table's keys follow from the one seed that is kept. */
function flowHashKeys(seed: number): number[] {
  let state = seed >>> 0;
  return Array.from({ length: 10 }, () => {
    state = (state + 0x9e3779b9) >>> 0;
    let z = state;
    z = Math.imul(z ^ (z >>> 16), 0x21f0aaad);
    z = Math.imul(z ^ (z >>> 15), 0x735a2d97);
    return (z ^ (z >>> 15)) >>> 0;
  });
}

export function flowSetCount(maxFlows: number): number {
  const sets = Math.ceil(maxFlows / VnicLimits.flowWays);
  return 2 ** Math.ceil(Math.log2(Math.max(sets, 1)));
}

function objectSettings(native: Native, size: DataplaneSize): ObjectSettings {
  const cpus = possibleCpuCount();
  const sets = flowSetCount(size.maxFlows);
  return {
    maps: {
      vnic_flows: { maxEntries: sets * VnicLimits.flowWays },
      vnic_flow_sets: { maxEntries: sets },
      vnic_rule_actions: { maxEntries: size.maxRules * VnicLimits.ruleSets },
      vnic_rule_states: { maxEntries: size.maxRules },
      vnic_cpus: { maxEntries: cpus },
      vnic_queue_stats: { maxEntries: cpus * VnicLimits.maxQueues },
      vnic_cpu_stats: { maxEntries: cpus },
      vnic_latency: { maxEntries: cpus },
    },
    constants: {
      vnic_flow_set_mask: sets - 1,
      vnic_flow_hash_keys: flowHashKeys(size.hashSeed),
      // One more, because a jiffy may be nearly over when it is read.
      vnic_flow_protected_jiffies: Math.ceil(1e9 / jiffyNs(native)) + 1,
      vnic_latency_sample_mask: 2 ** size.latencySampleShift - 1,
      vnic_deliver_metadata: size.deliverMetadata,
      vnic_replay: size.replay,
    },
  };
}

export class Dataplane implements Disposable {
  readonly native: Native;
  readonly #maps: ReadonlyMap<MapName, BpfMap>;
  readonly #programs: ReadonlyMap<ProgramName, Fd>;
  readonly #opened: Disposable[] = [];

  readonly control: MappedArray<VnicControl>;
  readonly table: MappedArray<VnicTableRow>;
  readonly flows: MappedArray<VnicFlow>;
  readonly flowSets: MappedArray<VnicFlowSet>;
  readonly rules: MapOfMaps;
  readonly shapes: MappedArray<VnicShape>;
  readonly shapeCounts: MappedArray<VnicShapeCount>;
  readonly ruleActions: MappedArray<VnicRuleAction>;
  readonly ruleStates: MappedArray<VnicRuleState>;
  readonly azPrefixes: HashMap<VnicAzPrefix, VnicAzIndex>;
  readonly cpus: CpuMap;
  readonly queueStats: MappedArray<VnicQueueStats>;
  readonly cpuStats: MappedArray<VnicCpuStats>;
  readonly latency: MappedArray<VnicLatency>;
  readonly explanation: MappedArray<VnicExplanation>;
  readonly replayFrame: MappedArray<VnicReplayFrame>;
  #events: RingBuffer | undefined;

  private constructor(native: Native, maps: ReadonlyMap<MapName, BpfMap>, programs: ReadonlyMap<ProgramName, Fd>) {
    this.native = native;
    this.#maps = maps;
    this.#programs = programs;
    const mapped = <T>(name: MapName, codec: ConstructorParameters<typeof MappedArray<T>>[2]): MappedArray<T> => {
      const array = new MappedArray<T>(native, this.#map(name), codec);
      this.#opened.push(array);
      return array;
    };
    this.control = mapped('vnic_control', VnicControl);
    this.table = mapped('vnic_table', VnicTableRow);
    this.flows = mapped('vnic_flows', VnicFlow);
    this.flowSets = mapped('vnic_flow_sets', VnicFlowSet);
    this.rules = new MapOfMaps(native, this.#map('vnic_rules'));
    this.shapes = mapped('vnic_shapes', VnicShape);
    this.shapeCounts = mapped('vnic_shape_counts', VnicShapeCount);
    this.ruleActions = mapped('vnic_rule_actions', VnicRuleAction);
    this.ruleStates = mapped('vnic_rule_states', VnicRuleState);
    this.azPrefixes = new HashMap(native, this.#map('vnic_az_prefixes'), VnicAzPrefix, VnicAzIndex);
    this.cpus = new CpuMap(native, this.#map('vnic_cpus'));
    this.queueStats = mapped('vnic_queue_stats', VnicQueueStats);
    this.cpuStats = mapped('vnic_cpu_stats', VnicCpuStats);
    this.latency = mapped('vnic_latency', VnicLatency);
    this.explanation = mapped('vnic_explanation', VnicExplanation);
    this.replayFrame = mapped('vnic_replay_frame', VnicReplayFrame);
  }

  /** Loads the object. Nothing is pinned or attached; steering is off until a table is made active. */
  static create(native: Native, size: DataplaneSize, path = objectPath): Dataplane {
    const names = size.programs ?? programNames;
    using object = BpfObject.load(native, path, { ...objectSettings(native, size), programs: names });
    const maps = new Map(mapNames.map((name) => [name, BpfMap.fromFd(native, object.mapFd(name))]));
    const programs = new Map(names.map((name) => [name, object.programFd(name)]));
    const dataplane = new Dataplane(native, maps, programs);
    dataplane.control.write(0, {
      activeTable: VnicNone.noTable,
      ruleGeneration: 0,
      abiVersion: VnicAbi.version,
      queues: size.queues,
      ruleSlots: size.maxRules,
      hashSeed: size.hashSeed,
      queueCpu: new Uint16Array(VnicLimits.maxQueues).fill(VnicNone.noCpu),
      tables: [],
    });
    new ProgArray(native, dataplane.#map('vnic_progs')).set(
      VnicProgSlot.slotIngress,
      dataplane.program('vnic_ingress'),
    );
    return dataplane;
  }

  /**
   * Opens what is pinned. Throws `not_found` (not pinned), `abi_mismatch` (pinned by a version with other layouts):
   * nothing is changed then.
   */
  static open(native: Native, pins: PinFolder, path = objectPath): Dataplane {
    const btf = BpfObject.readBtf(path);
    const maps = new Map<MapName, BpfMap>();
    const programs = new Map<ProgramName, Fd>();
    try {
      for (const name of mapNames) {
        const map = BpfMap.fromPin(native, pins.pathOf(name));
        maps.set(name, map);
        if (mapsWithLayouts.has(name)) {
          checkLayout(map, declaredLayouts(btf, name));
        }
      }
      for (const name of programNames) programs.set(name, pins.open(name));
    } catch (error) {
      for (const map of maps.values()) map.close();
      for (const program of programs.values()) program.close();
      throw error;
    }
    return new Dataplane(native, maps, programs);
  }

  #map(name: MapName): BpfMap {
    const map = this.#maps.get(name);
    if (map === undefined) throw new VnicError('failed', `The dataplane has no map ${name}.`);
    return map;
  }

  program(name: ProgramName): Fd {
    const program = this.#programs.get(name);
    if (program === undefined) throw new VnicError('failed', `The dataplane has no program ${name}.`);
    return program;
  }

  /** Events since the last call of anybody; opened on first use, because a ring has one reader. */
  get events(): RingBuffer {
    this.#events ??= new RingBuffer(this.native, this.#map('vnic_events'));
    return this.#events;
  }

  pin(pins: PinFolder): void {
    for (const [name, map] of this.#maps) map.pin(pins.pathOf(name));
    for (const [name, program] of this.#programs) pins.pin(program, name);
  }

  /** CPU of each queue, by queue. */
  setQueueCpus(cpus: readonly number[]): void {
    const all = new Uint16Array(VnicLimits.maxQueues).fill(VnicNone.noCpu);
    all.set(cpus);
    this.control.put(0, { queueCpu: all });
  }

  get maxFlows(): number {
    return this.flows.length;
  }

  get maxRules(): number {
    return this.ruleStates.length;
  }

  /** Unmaps and closes; pins and attachments stay. */
  close(): void {
    this.#events?.close();
    for (const opened of this.#opened.splice(0)) opened[Symbol.dispose]();
    for (const map of this.#maps.values()) map.close();
    for (const program of this.#programs.values()) program.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

const mapsWithLayouts: ReadonlySet<MapName> = new Set<MapName>(
  mapNames.filter((name) => !['vnic_progs', 'vnic_cpus', 'vnic_rules', 'vnic_events'].includes(name)),
);
