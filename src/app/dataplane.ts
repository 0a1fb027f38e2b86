// SPDX-License-Identifier: Apache-2.0
/** A loaded dataplane: its maps and programs, made new from the object or adopted from their pins. */
import path from 'node:path';
import { VnicError } from '../errors.ts';
import type { Fd } from '../loader/fd.ts';
import type { Native } from '../loader/ffi/index.ts';
import { BpfObject, type ObjectSettings } from '../loader/object.ts';
import type { PinFolder } from '../loader/pins.ts';
import type { StructCodec } from '../maps/codec.ts';
import {
  VnicAbi,
  VnicAzIndex,
  VnicAzPrefix,
  VnicBfdSession,
  VnicCapture,
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
  VnicRtt,
  VnicRuleAction,
  VnicRuleCell,
  VnicRuleState,
  VnicShape,
  VnicShapeCount,
  VnicTableRow,
  VnicWatch,
} from '../maps/generated/abi.ts';
import { BpfMap, CpuMap, HashMap, MapOfMaps, MappedArray, ProgArray, RingBuffer } from '../maps/index.ts';
import { projectFile } from '../project.ts';
import { type RuleCounterField, readRuleCounters } from '../telemetry/rule-counters.ts';
import { jiffyNs, possibleCpuCount } from './machine.ts';
import {
  checkRuleMaps,
  GLOBALS,
  type MapName,
  mapNames,
  openGlobals,
  openMaps,
  type PinnedMaps,
  pinned,
  readControl,
} from './pinned-maps.ts';

/** The compiled programs: those of this tree, or another build of them by VNIC_BPF_OBJECT. */
export const objectPath = path.resolve(process.env['VNIC_BPF_OBJECT'] || projectFile('build/bpf/vnic.bpf.o'));

export const programNames = [
  'vnic_root',
  'vnic_ingress',
  'vnic_cpu',
  'vnic_egress',
  'vnic_explain',
  'vnic_clock',
  'vnic_watch_start',
] as const;
export type ProgramName = (typeof programNames)[number];

export interface DataplaneSize {
  /** 1 to VNIC_MAX_QUEUES */
  queues: number;
  /** Rounded up to a power of two sets. */
  maxFlows: number;
  maxRules: number;
  hashSeed: number;
  deliverMetadata: boolean;
  /** One packet in 2^n has its latency measured. Default 6. */
  latencySampleShift?: number;
  /** For captures: clock and lengths come from `vnic_replay_frame`. */
  replay: boolean;
  /** Only these are loaded; default all. */
  programs?: readonly ProgramName[];
}

const LATENCY_SAMPLE_SHIFT = 6;
/** A CPUMAP ring of 16,384 packets, taken out at 33,000 a second. */
const RESIDENCE_NS = 500e6;
/** A driver's poll, and the jiffies for which GRO may keep a TCP segment of it. */
const POLL_RESIDENCE_NS = 10e6;
/** A queueing discipline of 1000 packets of 1500 bytes, sent at 1 Gbit/s. */
const TX_RESIDENCE_NS = 12e6;
/** VNIC_SHAPE_HORIZON_TICKS in bpf/limiter.h. */
const SHAPE_HORIZON_NS = 2e9;

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
  // One more, because a jiffy may be nearly over when it is read.
  const jiffies = (ns: number): number => Math.ceil(ns / jiffyNs(native)) + 1;
  return {
    maps: {
      vnic_flows: { maxEntries: sets * VnicLimits.flowWays },
      vnic_flow_sets: { maxEntries: sets },
      vnic_rule_actions: { maxEntries: size.maxRules * VnicLimits.ruleSets },
      vnic_rule_states: { maxEntries: size.maxRules },
      vnic_rule_cells: { maxEntries: cpus * VnicLimits.ruleCells },
      vnic_cpus: { maxEntries: cpus },
      vnic_queue_stats: { maxEntries: cpus * VnicLimits.maxQueues },
      vnic_cpu_stats: { maxEntries: cpus },
      vnic_latency: { maxEntries: cpus },
      vnic_capture_copy: { maxEntries: cpus },
    },
    constants: {
      vnic_flow_set_mask: sets - 1,
      vnic_flow_hash_keys: flowHashKeys(size.hashSeed),
      vnic_flow_protected_jiffies: jiffies(1e9),
      vnic_residence_jiffies: jiffies(RESIDENCE_NS),
      vnic_poll_residence_jiffies: jiffies(POLL_RESIDENCE_NS),
      vnic_tx_residence_jiffies: jiffies(TX_RESIDENCE_NS),
      vnic_shape_residence_jiffies: jiffies(SHAPE_HORIZON_NS),
      vnic_gro_hold_ns: 2 * jiffyNs(native),
      vnic_cpu_count: cpus,
      vnic_latency_sample_mask: 2 ** (size.latencySampleShift ?? LATENCY_SAMPLE_SHIFT) - 1,
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
  /** Megabytes each, and used by changes and by who looks around, not by every scrape. */
  readonly #onDemand: { rest(): void }[] = [];

  readonly progs: ProgArray;
  readonly control: MappedArray<VnicControl>;
  readonly table: MappedArray<VnicTableRow>;
  readonly flows: MappedArray<VnicFlow>;
  readonly flowSets: MappedArray<VnicFlowSet>;
  readonly rules: MapOfMaps;
  readonly shapes: MappedArray<VnicShape>;
  readonly shapeCounts: MappedArray<VnicShapeCount>;
  readonly ruleActions: MappedArray<VnicRuleAction>;
  readonly ruleStates: MappedArray<VnicRuleState>;
  readonly ruleCells: MappedArray<VnicRuleCell>;
  readonly azPrefixes: HashMap<VnicAzPrefix, VnicAzIndex>;
  readonly cpus: CpuMap;
  readonly queueStats: MappedArray<VnicQueueStats>;
  readonly cpuStats: MappedArray<VnicCpuStats>;
  readonly latency: MappedArray<VnicLatency>;
  readonly bfd: MappedArray<VnicBfdSession>;
  readonly watch: MappedArray<VnicWatch>;
  readonly explanation: MappedArray<VnicExplanation>;
  readonly replayFrame: MappedArray<VnicReplayFrame>;
  readonly rtt: MappedArray<VnicRtt>;
  /** Round-trip times of TCP, by row. */
  readonly rtts: MappedArray<VnicLatency>;
  readonly capture: MappedArray<VnicCapture>;
  #events: RingBuffer | undefined;
  #captured: RingBuffer | undefined;

  private constructor(native: Native, maps: ReadonlyMap<MapName, BpfMap>, programs: ReadonlyMap<ProgramName, Fd>) {
    this.native = native;
    this.#maps = maps;
    this.#programs = programs;
    const mapped = <T>(name: MapName, codec: StructCodec<T>, onDemand = false): MappedArray<T> => {
      const array = new MappedArray<T>(native, this.#map(name), codec, { onDemand });
      this.#opened.push(array);
      if (onDemand) this.#onDemand.push(array);
      return array;
    };
    this.progs = new ProgArray(native, this.#map('vnic_progs'));
    this.control = mapped('vnic_control', VnicControl);
    this.table = mapped('vnic_table', VnicTableRow, true);
    this.flows = mapped('vnic_flows', VnicFlow, true);
    this.flowSets = mapped('vnic_flow_sets', VnicFlowSet, true);
    this.rules = new MapOfMaps(native, this.#map('vnic_rules'));
    this.shapes = mapped('vnic_shapes', VnicShape);
    this.shapeCounts = mapped('vnic_shape_counts', VnicShapeCount);
    this.ruleActions = mapped('vnic_rule_actions', VnicRuleAction, true);
    this.ruleStates = mapped('vnic_rule_states', VnicRuleState, true);
    this.ruleCells = mapped('vnic_rule_cells', VnicRuleCell, true);
    this.azPrefixes = new HashMap(native, this.#map('vnic_az_prefixes'), VnicAzPrefix, VnicAzIndex);
    this.cpus = new CpuMap(native, this.#map('vnic_cpus'));
    this.queueStats = mapped('vnic_queue_stats', VnicQueueStats);
    this.cpuStats = mapped('vnic_cpu_stats', VnicCpuStats);
    this.latency = mapped('vnic_latency', VnicLatency);
    this.bfd = mapped('vnic_bfd', VnicBfdSession);
    this.watch = mapped('vnic_watch', VnicWatch);
    this.explanation = mapped('vnic_explanation', VnicExplanation);
    this.replayFrame = mapped('vnic_replay_frame', VnicReplayFrame);
    this.rtt = mapped('vnic_rtt', VnicRtt);
    this.rtts = mapped('vnic_rtts', VnicLatency);
    this.capture = mapped('vnic_capture', VnicCapture);
  }

  /** Loads the object. Nothing is pinned or attached; steering is off until a table is made active. */
  static create(native: Native, size: DataplaneSize, objectFile = objectPath): Dataplane {
    const names = size.programs ?? programNames;
    using object = BpfObject.load(native, objectFile, { ...objectSettings(native, size), programs: names });
    const maps = new Map(mapNames.map((name) => [name, BpfMap.fromFd(native, object.mapFd(name))]));
    const programs = new Map(names.map((name) => [name, object.programFd(name)]));
    const dataplane = new Dataplane(native, maps, programs);
    dataplane.control.write(0, {
      activeTable: VnicNone.noTable,
      lostAzs: 0,
      ruleGeneration: 0,
      abiVersion: VnicAbi.version,
      queues: size.queues,
      ruleSlots: size.maxRules,
      hashSeed: size.hashSeed,
      queueCpu: new Uint16Array(VnicLimits.maxQueues).fill(VnicNone.noCpu),
      tables: [],
      standby: new Uint16Array(VnicLimits.standbyBanks * VnicLimits.azSets).fill(VnicNone.noStandby),
    });
    dataplane.watch.put(0, { passedTable: VnicNone.noTable });
    dataplane.progs.set(VnicProgSlot.slotIngress, dataplane.program('vnic_ingress'));
    return dataplane;
  }

  /**
   * Opens what is pinned. Throws `not_found` (not pinned), `abi_mismatch` (pinned by a version with other layouts):
   * nothing is changed then.
   */
  static open(native: Native, pins: PinFolder, objectFile = objectPath): Dataplane {
    const maps = openMaps(native, pins, BpfObject.readBtf(objectFile));
    const programs = new Map<ProgramName, Fd>();
    try {
      for (const name of programNames) programs.set(name, pins.open(name));
      return new Dataplane(native, maps, programs);
    } catch (error) {
      closeAll(maps, programs);
      throw error;
    }
  }

  /**
   * The maps that are pinned with the programs of an object, which are loaded for it and neither pinned nor attached.
   * Constants follow from the maps' sizes and contents as they did when the maps were made. Throws as `open`, and
   * `verifier_rejected`.
   */
  static reload(
    native: Native,
    pins: PinFolder,
    { deliverMetadata }: Pick<DataplaneSize, 'deliverMetadata'>,
    objectFile = objectPath,
  ): { dataplane: Dataplane; objectSha256: string } {
    using object = BpfObject.open(native, objectFile);
    const maps = openMaps(native, pins, object.btf);
    const programs = new Map<ProgramName, Fd>();
    try {
      checkRuleMaps(native, maps, object);
      const { queues, hashSeed } = readControl(native, maps);
      const { maps: sizes, constants } = objectSettings(native, {
        queues,
        hashSeed,
        maxFlows: pinned(maps, 'vnic_flows').maxEntries,
        maxRules: pinned(maps, 'vnic_rule_states').maxEntries,
        deliverMetadata,
        replay: false,
      });
      using globals = openGlobals(native, pins, programNames);
      const reused = [
        ...mapNames.map((name) => [name, { ...sizes?.[name], reuse: pinned(maps, name).fd }] as const),
        ...(globals !== null && object.declares(GLOBALS) ? [[GLOBALS, { reuse: globals.fd }] as const] : []),
      ];
      object.load({ maps: Object.fromEntries(reused), ...(constants && { constants }), programs: programNames });
      for (const name of programNames) programs.set(name, object.programFd(name));
      return { dataplane: new Dataplane(native, maps, programs), objectSha256: object.sha256 };
    } catch (error) {
      closeAll(maps, programs);
      throw error;
    }
  }

  #map(name: MapName): BpfMap {
    return pinned(this.#maps, name);
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

  /** Captured packets since the last call of anybody. */
  get captured(): RingBuffer {
    this.#captured ??= new RingBuffer(this.native, this.#map('vnic_captured'));
    return this.#captured;
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

  /** Packets that arrived from an AZ's prefixes, over all CPUs. @param row the AZ's; 0: from no AZ that is known */
  azPackets(row: number): bigint {
    const at = VnicCpuStats.offsets.azPackets + row * 8;
    return Array.from({ length: this.cpuStats.length }, (_, cpu) => this.cpuStats.u64(cpu, at)).reduce(
      (sum, packets) => sum + packets,
      0n,
    );
  }

  /** Counters of the rule that has the slot in the live set. */
  ruleCounters(slot: number): Record<RuleCounterField, bigint> {
    const set = this.control.u32(0, VnicControl.offsets.ruleGeneration) % VnicLimits.ruleSets;
    const id = this.ruleActions.u32(set * this.maxRules + slot, VnicRuleAction.offsets.ruleId);
    return readRuleCounters(this, slot, id);
  }

  get maxFlows(): number {
    return this.flows.length;
  }

  get maxRules(): number {
    return this.ruleStates.length;
  }

  /** Unmaps what is large and may not be used again soon; it is mapped again when it is used. */
  rest(): void {
    for (const array of this.#onDemand) array.rest();
  }

  /** Unmaps and closes; pins and attachments stay. */
  close(): void {
    this.#events?.close();
    this.#captured?.close();
    for (const opened of this.#opened.splice(0)) opened[Symbol.dispose]();
    closeAll(this.#maps, this.#programs);
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

function closeAll(maps: PinnedMaps, programs: ReadonlyMap<ProgramName, Fd>): void {
  for (const map of maps.values()) map.close();
  for (const program of programs.values()) program.close();
}
