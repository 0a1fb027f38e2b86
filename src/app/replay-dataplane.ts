// SPDX-License-Identifier: Apache-2.0
/** Runs captures through the real ingress program, with the capture's clock and lengths. No device is needed. */
import type { ReplayDataplane, ReplayedFlow } from '../captures/replay.ts';
import { VnicError } from '../errors.ts';
import type { Native } from '../loader/ffi/index.ts';
import { ProgramRunner } from '../loader/program.ts';
import { VnicNone } from '../maps/generated/abi.ts';
import { readCounters } from '../telemetry/counters.ts';
import { Dataplane } from './dataplane.ts';
import type { DeviceModel } from './device-model.ts';
import { readFlows, verdictName } from './flows.ts';
import { RuleStore } from './rule-store.ts';
import { TableStore } from './table-store.ts';

/** Enough for all headers that are parsed; the rest of a frame does not matter to the program. */
const MAX_FRAME_BYTES = 3520;
/** Measured: BPF_PROG_RUN takes frames from 14 bytes on (ETH_HLEN, net/bpf/test_run.c). */

export class BpfReplay implements ReplayDataplane, Disposable {
  readonly #dataplane: Dataplane;
  readonly #runner: ProgramRunner;
  readonly #model: DeviceModel;

  /** @param maxFlows flows of the capture, with room to spare: see `evicted` */
  constructor(native: Native, model: DeviceModel, maxFlows: number) {
    this.#model = model;
    this.#dataplane = Dataplane.create(native, {
      queues: model.topology.queues.length,
      maxFlows,
      maxRules: Math.max(model.rules.length, 1),
      hashSeed: 0,
      deliverMetadata: false,
      latencySampleShift: 0,
      replay: true,
      // Verifying the others would take longer than most captures do.
      programs: ['vnic_ingress'],
    });
    const rules = new RuleStore(this.#dataplane);
    rules.activate(rules.prepare(model.rules, model.azs));
    new TableStore(this.#dataplane).commit(model.homeState().current);
    this.#runner = new ProgramRunner(native, this.#dataplane.program('vnic_ingress'), {
      maxInputBytes: MAX_FRAME_BYTES,
    });
  }

  run(frame: Uint8Array, timeNs: bigint, wireBytes: number): void {
    this.#dataplane.replayFrame.write(0, { timeNs, wireBytes });
    this.#runner.run(frame.length > MAX_FRAME_BYTES ? frame.subarray(0, MAX_FRAME_BYTES) : frame);
  }

  /** Flows that lost their entry to others: not 0 means that the report would be wrong, and more room is needed. */
  get evicted(): number {
    const { flowsEvicted, flowTableBusy } = readCounters(this.#dataplane);
    return Number(flowsEvicted + flowTableBusy);
  }

  *flows(): Iterable<ReplayedFlow> {
    for (const entry of readFlows(this.#dataplane)) {
      const { flow, verdict } = entry;
      const slot =
        verdict.slot === null ? undefined : this.#dataplane.ruleActions.read(this.#actionIndex(entry.verdict));
      yield {
        key: {
          src: flow.key.src.bytes,
          dst: flow.key.dst.bytes,
          sport: flow.key.sport,
          dport: flow.key.dport,
          proto: flow.key.proto,
        },
        packets: flow.packets,
        bytes: flow.bytes,
        droppedPackets: flow.droppedPackets,
        queue: flow.queue === VnicNone.noQueue ? null : flow.queue,
        az: this.#model.azName(verdict.az),
        rule: slot?.ruleId ?? null,
        verdict: verdictName(entry),
      };
    }
  }

  #actionIndex({ slot, generation }: { slot: number | null; generation: number }): number {
    if (slot === null) throw new VnicError('failed', 'A flow without a rule has no action.');
    return (generation % 2) * this.#dataplane.maxRules + slot;
  }

  unparsed(): Record<string, number> {
    const { unparsed } = readCounters(this.#dataplane);
    return Object.fromEntries(Object.entries(unparsed).map(([reason, count]) => [reason, Number(count)]));
  }

  close(): void {
    this.#dataplane.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
