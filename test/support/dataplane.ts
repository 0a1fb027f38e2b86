// SPDX-License-Identifier: Apache-2.0
/** The real programs, loaded and run on packets through BPF_PROG_RUN. Nothing is attached; no device is touched. */
import { Dataplane, type DataplaneSize, programNames } from '../../src/app/dataplane.ts';
import { type FlowEntry, readFlows } from '../../src/app/flows.ts';
import { type PreparedRules, RuleStore } from '../../src/app/rule-store.ts';
import { TableStore } from '../../src/app/table-store.ts';
import type { Fd } from '../../src/loader/fd.ts';
import { loadNative, type Native } from '../../src/loader/ffi/index.ts';
import { hostLittleEndian } from '../../src/maps/codec.ts';
import {
  VnicDirection,
  VnicEvent,
  type VnicEventType,
  type VnicExplanation,
  type VnicFlowKey,
  VnicLimits,
} from '../../src/maps/generated/abi.ts';
import { BpfTestRunOpts, SkBuff } from '../../src/maps/generated/host.ts';
import type { AzConfig } from '../../src/steering/azs.ts';
import type { Rule } from '../../src/steering/rules/model.ts';
import type { SteeringTable } from '../../src/steering/table.ts';
import {
  type DataplaneCounters,
  type QueueCounters,
  readCounters,
  readQueueCounters,
} from '../../src/telemetry/counters.ts';
import { mapDigests } from './map-contents.ts';
import { resultText } from './reference-parser.ts';

/** enum xdp_action */
export const XDP = { aborted: 0, drop: 1, pass: 2, redirect: 4 } as const;
/** TC_ACT_UNSPEC and TC_ACT_SHOT. */
export const TC = { next: -1, drop: 2 } as const;

/** A flow key as `resultText` prints it. */
export function flowText(key: VnicFlowKey): string {
  return resultText({ ...key, src: key.src.bytes, dst: key.dst.bytes });
}

/** What BPF_PROG_RUN takes: the first buffer and MAX_SKB_FRAGS pages. */
const maxFrameBytes = 3520 + 17 * 4096;

const XDP_MD_BYTES = 24;

/** Where a packet arrives. */
export interface Arrival {
  ifindex: number;
  rxQueue: number;
}

export interface PacketRun {
  /** As a signed number: tc programs return -1. */
  returnValue: number;
  context: SkBuff;
}

/** Runs a program on packets; the buffers are made once. A context is given to tc programs only. */
export class PacketRunner {
  readonly #native: Native;
  readonly #fd: Fd;
  readonly #input: Uint8Array<ArrayBuffer>;
  readonly #contextIn: Uint8Array<ArrayBuffer>;
  readonly #contextOut: Uint8Array<ArrayBuffer>;
  readonly #opts: Uint8Array<ArrayBuffer>;
  readonly #view: DataView;
  readonly #inputAddress: bigint;

  constructor(native: Native, fd: Fd) {
    this.#native = native;
    this.#fd = fd;
    this.#input = native.memory.alloc(maxFrameBytes);
    this.#contextIn = native.memory.alloc(SkBuff.size);
    this.#contextOut = native.memory.alloc(SkBuff.size);
    this.#opts = BpfTestRunOpts.encode({});
    this.#view = new DataView(this.#opts.buffer);
    this.#inputAddress = native.memory.addressOf(this.#input);
  }

  run(packet: Uint8Array, repeat = 1): number {
    return this.#run(packet, repeat, {});
  }

  /** Also what the program left of the packet: metadata, if there is any, stands before the frame. */
  runWithOutput(packet: Uint8Array): { returnValue: number; output: Uint8Array } {
    const output = this.#native.memory.alloc(packet.length + 256);
    const context = { dataOut: this.#native.memory.addressOf(output), dataSizeOut: output.length };
    const returnValue = this.#run(packet, 1, context);
    const length = this.#view.getUint32(BpfTestRunOpts.offsets.dataSizeOut, hostLittleEndian);
    return { returnValue, output: output.subarray(0, length) };
  }

  /** As if the packet had arrived on that RX queue of a device of the calling thread's network namespace. */
  runOn(packet: Uint8Array, { ifindex, rxQueue }: Arrival): { returnValue: number; output: Uint8Array } {
    const { memory } = this.#native;
    const output = memory.alloc(packet.length + 256);
    const context = memory.alloc(XDP_MD_BYTES);
    // struct xdp_md: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex
    new Uint32Array(context.buffer).set([0, packet.length, 0, ifindex, rxQueue, 0]);
    const returnValue = this.#run(packet, 1, {
      ctxIn: memory.addressOf(context),
      ctxSizeIn: XDP_MD_BYTES,
      dataOut: memory.addressOf(output),
      dataSizeOut: output.length,
    });
    const length = this.#view.getUint32(BpfTestRunOpts.offsets.dataSizeOut, hostLittleEndian);
    return { returnValue, output: output.subarray(0, length) };
  }

  runWithContext(packet: Uint8Array, context: Partial<SkBuff>): PacketRun {
    const { memory } = this.#native;
    SkBuff.write(new DataView(this.#contextIn.buffer), 0, context);
    const returnValue = this.#run(packet, 1, {
      ctxIn: memory.addressOf(this.#contextIn),
      ctxSizeIn: SkBuff.size,
      ctxOut: memory.addressOf(this.#contextOut),
      ctxSizeOut: SkBuff.size,
    });
    return { returnValue, context: SkBuff.decode(this.#contextOut) };
  }

  #run(packet: Uint8Array, repeat: number, context: Partial<BpfTestRunOpts>): number {
    this.#input.set(packet);
    BpfTestRunOpts.write(this.#view, 0, { dataIn: this.#inputAddress, dataSizeIn: packet.length, repeat, ...context });
    this.#native.check(
      this.#native.libbpf.bpf_prog_test_run_opts(this.#fd.value, this.#opts),
      'bpf_prog_test_run_opts',
    );
    return this.#view.getInt32(BpfTestRunOpts.offsets.retval, hostLittleEndian);
  }
}

const defaultSize: DataplaneSize = {
  queues: 32,
  maxFlows: 65_536,
  maxRules: 16,
  hashSeed: 0x5eed_1234,
  deliverMetadata: false,
  latencySampleShift: 6,
  replay: false,
};

/** A loaded dataplane with the stores that fill it and a runner for each of its programs. */
export class TestDataplane implements Disposable {
  readonly native = loadNative();
  readonly size: DataplaneSize;
  readonly dataplane: Dataplane;
  readonly rules: RuleStore;
  readonly tables: TableStore;
  readonly #ingress: PacketRunner;
  readonly #explain: PacketRunner;

  constructor(size: Partial<DataplaneSize> = {}, objectFile?: string) {
    this.size = { ...defaultSize, ...size };
    this.dataplane = Dataplane.create(this.native, this.size, objectFile);
    this.rules = new RuleStore(this.dataplane);
    this.tables = new TableStore(this.dataplane);
    this.#ingress = new PacketRunner(this.native, this.dataplane.program('vnic_ingress'));
    this.#explain = new PacketRunner(this.native, this.dataplane.program('vnic_explain'));
  }

  setRules(rules: readonly Rule[], azs: readonly AzConfig[] = []): PreparedRules {
    const prepared = this.rules.prepare(rules, azs);
    this.rules.activate(prepared);
    return prepared;
  }

  setTable(table: SteeringTable): number {
    return this.tables.commit(table).generation;
  }

  /** One frame that arrives; `XDP`. */
  ingress(frame: Uint8Array, repeat = 1): number {
    return this.#ingress.run(frame, repeat);
  }

  /** One frame that arrives, and what is left of it. */
  ingressWithOutput(frame: Uint8Array): { returnValue: number; output: Uint8Array } {
    return this.#ingress.runWithOutput(frame);
  }

  /** The same, as if it had arrived on an RX queue of a device of the calling thread's network namespace. */
  ingressOn(frame: Uint8Array, arrival: Arrival): { returnValue: number; output: Uint8Array } {
    return this.#ingress.runOn(frame, arrival);
  }

  /** One frame of a capture; for a dataplane made with `replay`. */
  replay(frame: Uint8Array, timeNs: bigint, wireBytes = frame.length): number {
    this.dataplane.replayFrame.write(0, { timeNs, wireBytes });
    return this.#ingress.run(frame);
  }

  explain(frame: Uint8Array, direction: 'ingress' | 'egress' = 'ingress'): VnicExplanation & { returnValue: number } {
    this.dataplane.explanation.write(0, { direction: VnicDirection[direction] });
    const returnValue = this.#explain.run(frame);
    return { ...this.dataplane.explanation.read(0), returnValue };
  }

  /** By `resultText` of the key; the direction must not matter. */
  flows(): Map<string, FlowEntry> {
    return new Map(readFlows(this.dataplane).map((entry) => [flowText(entry.flow.key), entry]));
  }

  counters(): DataplaneCounters {
    return readCounters(this.dataplane);
  }

  /** Of all 64 queues. */
  queueCounters(): QueueCounters[] {
    return readQueueCounters(this.dataplane, VnicLimits.maxQueues);
  }

  /** Rule id of a slot in the live set; 0: none. */
  ruleId(slot: number | null): number {
    if (slot === null) return 0;
    const set = this.rules.generation() % VnicLimits.ruleSets;
    return this.dataplane.ruleActions.read(set * this.dataplane.maxRules + slot).ruleId;
  }

  /** Values of the events of a type since the last call for any type. */
  events(type: VnicEventType): number[] {
    const events = this.dataplane.events.drain().map((bytes) => VnicEvent.decode(bytes));
    return events.filter((event) => event.type === type).map(({ value }) => Number(value));
  }

  /** A digest of every map of the programs but the answer of `explain`, by the kernel's name. */
  hashMaps(): Map<string, string> {
    const programs = programNames.map((name) => this.dataplane.program(name));
    return mapDigests(this.native, programs, ['vnic_explanatio']);
  }

  /** Forgets all flows and counters, as if nothing had arrived. */
  clear(): void {
    const { cpuStats, queueStats, ruleStates, ruleCells } = this.dataplane;
    for (const array of [cpuStats, queueStats, ruleStates, ruleCells]) array.asBigUint64().fill(0n);
    forgetFlows(this.dataplane);
  }

  close(): void {
    this.dataplane.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** A packet finds its flow by the key, a reader by the tag: neither may stay. */
export function forgetFlows({ flows, flowSets }: Dataplane): void {
  const tags = flowSets.u32Row.bind(flowSets);
  for (let set = 0; set < flowSets.length; set++) {
    for (const [way, tag] of tags(set).entries()) if (tag !== 0) flows.bytes(set * VnicLimits.flowWays + way).fill(0);
    tags(set).fill(0);
  }
}
