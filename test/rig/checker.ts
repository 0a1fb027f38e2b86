// SPDX-License-Identifier: Apache-2.0
/** The judge behind the dataplane: what arrived of each flow, in which order, from which queue, on which CPU. */
import { VnicError } from '../../src/errors.ts';
import type { Fd } from '../../src/loader/fd.ts';
import type { Native } from '../../src/loader/ffi/index.ts';
import { inNetns } from '../../src/loader/netns.ts';
import { BpfObject } from '../../src/loader/object.ts';
import { hostLittleEndian } from '../../src/maps/codec.ts';
import { VnicLimits } from '../../src/maps/generated/abi.ts';
import { BpfTcAttachPoint, BpfTcHook, BpfTcOpts } from '../../src/maps/generated/host.ts';
import { bitsOf } from './fabric.ts';
import type { RigFlow } from './flows.ts';
import { deviceIndex, MappedElements, readArray, type StructFields, structFields, zeroArray } from './mapped.ts';
import { rigObject } from './objects.ts';
import type { Rig } from './topology.ts';

/** Far from the handles of others on the same hook ("ri"). */
const tcHandle = 0x7269;
const tcPriority = 0x7269;
const EEXIST = -17;
const groupCount = 16;
/** Looks a tenth of a second apart that must find nothing new. */
const QUIET_LOOKS = 5;

export interface CheckerOptions {
  /** All flows of all generators; their ids count from 0. */
  flows: readonly RigFlow[];
  /** Length of a slice of time. Default 10. */
  sliceMs?: number;
  /** Slices that are kept; what arrives later is only in the totals. Default 4096. */
  slices?: number;
}

/** Where packets of a flow must arrive: bit masks; 0n allows everything. */
export interface Expectation {
  queues?: bigint;
  cpus?: bigint;
  /** 0 to 15, for the counters over time. Default: the index of the flow's AZ. */
  group?: number;
}

export interface SeenFlow {
  id: number;
  received: number;
  /** Whole frames. */
  bytes: number;
  /** One more than the highest sequence seen. */
  nextSequence: number;
  /** Gaps: below the highest sequence seen and not received. */
  missing: number;
  reordered: number;
  duplicates: number;
  /** Reordered by more than 64 packets: a duplicate as late would be taken for one of these. */
  tooLate: number;
  /** Queues that the dataplane gave as the packets' queue. */
  queues: number[];
  cpus: number[];
  wrongQueue: number;
  wrongCpu: number;
  /** Came without the dataplane's word on the queue. */
  noMetadata: number;
  /** CLOCK_MONOTONIC. */
  firstNs: bigint;
  lastNs: bigint;
  /** Longest time between two packets. */
  maxGapNs: number;
  /** Mean time from making to arrival. */
  meanTransitNs: number;
}

/** By flow, in the order of the checker's flows; since the last reset. */
export interface FlowCounts {
  received: Float64Array;
  /** Gaps: what is lost, once a later packet of the flow has arrived. */
  missing: Float64Array;
  reordered: Float64Array;
}

export interface CheckReport {
  received: number;
  bytes: number;
  /** What was sent and did not arrive, with `sentByFlow`; else the gaps, which do not show a lost tail. */
  lost: number;
  missing: number;
  reordered: number;
  duplicates: number;
  tooLate: number;
  wrongQueue: number;
  wrongCpu: number;
  noMetadata: number;
  /** Rig packets of flows that the checker was not told of. */
  unknownFlow: number;
  /** Arrived after the last slice. */
  beyondSlices: number;
  flows: SeenFlow[];
  /** By queue, from 0. */
  perQueue: { packets: number; bytes: number }[];
  /** By name of the AZ; `lost` as above. */
  perAz: Map<string, { received: number; bytes: number; lost: number; reordered: number }>;
}

export interface Slices {
  /** CLOCK_MONOTONIC at the first slice's begin. */
  startNs: bigint;
  sliceMs: number;
  /** Slices up to now. */
  count: number;
  /** `[group][slice]`; the group is the AZ's index unless `expect` says otherwise. */
  groupPackets: Float64Array[];
  groupBytes: Float64Array[];
  /** `[queue][slice]` */
  queuePackets: Float64Array[];
}

const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

export class Checker {
  readonly #native: Native;
  readonly #flows: readonly RigFlow[];
  readonly #capacity: number;
  readonly #cpus: number;
  readonly #sliceMs: number;
  readonly #sliceCount: number;
  readonly #seen: Fd;
  readonly #seenFields: StructFields;
  readonly #control: MappedElements;
  readonly #controlFields: StructFields;
  readonly #expected: MappedElements;
  readonly #expectedFields: StructFields;
  readonly #totals: MappedElements;
  readonly #totalFields: StructFields;
  readonly #slices: MappedElements;
  readonly #sliceFields: StructFields;
  #startNs = 0n;

  constructor(rig: Rig, options: CheckerOptions) {
    const { native } = rig;
    const { flows, sliceMs = 10, slices = 4096 } = options;
    this.#native = native;
    this.#flows = flows;
    this.#capacity = flows.reduce((most, flow) => Math.max(most, flow.id + 1), 1);
    this.#cpus = native.check(native.libbpf.libbpf_num_possible_cpus(), 'libbpf_num_possible_cpus');
    this.#sliceMs = sliceMs;
    this.#sliceCount = slices;
    using object = BpfObject.load(native, rigObject('rig_checker'), {
      maps: {
        rig_seen: { maxEntries: this.#capacity },
        rig_expected: { maxEntries: this.#capacity },
        rig_totals: { maxEntries: this.#cpus },
        rig_slices: { maxEntries: this.#cpus * slices },
      },
    });
    const mapped = (map: string, elements: number, fields: StructFields): MappedElements => {
      using fd = object.mapFd(map);
      return new MappedElements(native, fd, elements, fields.size);
    };
    this.#seenFields = structFields(object, 'rig_seen');
    this.#controlFields = structFields(object, 'rig_checker');
    this.#expectedFields = structFields(object, 'rig_expected');
    this.#totalFields = structFields(object, 'rig_totals');
    this.#sliceFields = structFields(object, 'rig_slice');
    this.#seen = object.mapFd('rig_seen');
    this.#control = mapped('rig_control', 1, this.#controlFields);
    this.#expected = mapped('rig_expected', this.#capacity, this.#expectedFields);
    this.#totals = mapped('rig_totals', this.#cpus, this.#totalFields);
    this.#slices = mapped('rig_slices', this.#cpus * slices, this.#sliceFields);
    for (const flow of flows) this.expect(flow.id, { group: rig.az(flow.az).index });
    this.reset();
    using program = object.programFd('rig_check');
    inNetns(native, rig.netns, () => attachAtIngress(native, program, rig.device));
  }

  /** Says where the flow's packets must arrive from now on. Packets on their way meanwhile are judged by this too. */
  expect(flowId: number, expectation: Expectation): void {
    const fields = this.#expectedFields;
    if (!(flowId >= 0 && flowId < this.#capacity)) {
      throw new VnicError('usage', `The checker was not told of flow ${flowId}.`);
    }
    this.#expected.setU64(flowId, fields.at('queues'), expectation.queues ?? 0n);
    this.#expected.setU64(flowId, fields.at('cpus'), expectation.cpus ?? 0n);
    if (expectation.group === undefined) return;
    if (!(expectation.group >= 0 && expectation.group < groupCount)) {
      throw new VnicError('usage', `A group is 0 to ${groupCount - 1}, not ${expectation.group}.`);
    }
    this.#expected.setU32(flowId, fields.at('group'), expectation.group);
  }

  /** Forgets all that arrived and begins the slices now; flows begin at sequence 0 again. Not while packets arrive. */
  reset(): void {
    const fields = this.#controlFields;
    this.#control.setU64(0, fields.at('start_ns'), 0n);
    zeroArray(this.#native, this.#seen, this.#capacity, this.#seenFields.size);
    this.#totals.clear();
    this.#slices.clear();
    this.#startNs = process.hrtime.bigint();
    this.#control.setU64(0, fields.at('slice_ns'), BigInt(this.#sliceMs * 1_000_000));
    this.#control.setU32(0, fields.at('slices'), this.#sliceCount);
    this.#control.setU64(0, fields.at('start_ns'), this.#startNs);
  }

  /** Packets that arrived so far. */
  received(): number {
    return this.#sumTotals('received');
  }

  #sumTotals(field: string): number {
    let sum = 0;
    for (let cpu = 0; cpu < this.#cpus; cpu++) sum += this.#totals.count(cpu, this.#totalFields.at(field));
    return sum;
  }

  /** Waits until `packets` have arrived or nothing more does for half a second. Returns how many have. */
  async settled(packets = Number.POSITIVE_INFINITY): Promise<number> {
    let before = -1;
    let sameLooks = 0;
    for (;;) {
      const now = this.received();
      sameLooks = now === before ? sameLooks + 1 : 0;
      // A CPU of a virtual machine that shares its host can stand still for longer than one look.
      if (now >= packets || sameLooks === QUIET_LOOKS) return now;
      before = now;
      await sleep(100);
    }
  }

  /** What arrived so far, while more arrives. */
  counts(): FlowCounts {
    const fields = this.#seenFields;
    const view = readArray(this.#native, this.#seen, this.#capacity, fields.size);
    const column = (field: string): Float64Array => {
      const at = fields.at(field);
      return Float64Array.from(this.#flows, ({ id }) =>
        Number(view.getBigUint64(id * fields.size + at, hostLittleEndian)),
      );
    };
    return { received: column('received'), missing: column('missing'), reordered: column('reordered') };
  }

  /** @param sentByFlow what generators sent since the last reset, to know what was lost exactly */
  report(sentByFlow?: ReadonlyMap<number, number>): CheckReport {
    const view = readArray(this.#native, this.#seen, this.#capacity, this.#seenFields.size);
    const flows = this.#flows.map(({ id }) => this.#seenFlow(view, id));
    const perAz: CheckReport['perAz'] = new Map();
    let lost = 0;
    flows.forEach((seen, index) => {
      const { az } = this.#flows[index]!;
      const sent = sentByFlow === undefined ? undefined : (sentByFlow.get(seen.id) ?? 0);
      const lostOfFlow = sent === undefined ? seen.missing : sent - (seen.received - seen.duplicates);
      const sum = perAz.get(az) ?? { received: 0, bytes: 0, lost: 0, reordered: 0 };
      sum.received += seen.received;
      sum.bytes += seen.bytes;
      sum.lost += lostOfFlow;
      sum.reordered += seen.reordered;
      perAz.set(az, sum);
      lost += lostOfFlow;
    });
    const sumOf = (
      field: 'missing' | 'reordered' | 'duplicates' | 'tooLate' | 'wrongQueue' | 'wrongCpu' | 'noMetadata',
    ) => flows.reduce((sum, flow) => sum + flow[field], 0);
    return {
      received: this.received(),
      bytes: this.#sumTotals('bytes'),
      lost,
      missing: sumOf('missing'),
      reordered: sumOf('reordered'),
      duplicates: sumOf('duplicates'),
      tooLate: sumOf('tooLate'),
      wrongQueue: sumOf('wrongQueue'),
      wrongCpu: sumOf('wrongCpu'),
      noMetadata: sumOf('noMetadata'),
      unknownFlow: this.#sumTotals('unknown_flow'),
      beyondSlices: this.#sumTotals('beyond_slices'),
      flows,
      perQueue: this.#perQueue(),
      perAz,
    };
  }

  #seenFlow(view: DataView, id: number): SeenFlow {
    const fields = this.#seenFields;
    const u64 = (field: string): bigint => view.getBigUint64(id * fields.size + fields.at(field), hostLittleEndian);
    const count = (field: string): number => Number(u64(field));
    const received = count('received');
    return {
      id,
      received,
      bytes: count('bytes'),
      nextSequence: count('next_sequence'),
      missing: count('missing'),
      reordered: count('reordered'),
      duplicates: count('duplicates'),
      tooLate: count('too_late'),
      queues: bitsOf(u64('queues')),
      cpus: bitsOf(u64('cpus')),
      wrongQueue: count('wrong_queue'),
      wrongCpu: count('wrong_cpu'),
      noMetadata: count('no_metadata'),
      firstNs: u64('first_ns'),
      lastNs: u64('last_ns'),
      maxGapNs: count('max_gap_ns'),
      meanTransitNs: received === 0 ? 0 : count('transit_ns') / received,
    };
  }

  #perQueue(): CheckReport['perQueue'] {
    const sum = (field: string, queue: number): number => {
      let total = 0;
      for (let cpu = 0; cpu < this.#cpus; cpu++) {
        total += this.#totals.count(cpu, this.#totalFields.at(field) + 8 * queue);
      }
      return total;
    };
    return Array.from({ length: VnicLimits.maxQueues }, (_, queue) => ({
      packets: sum('queue_packets', queue),
      bytes: sum('queue_bytes', queue),
    }));
  }

  /** The counters over time, since the last reset. */
  slices(): Slices {
    const elapsedNs = process.hrtime.bigint() - this.#startNs;
    const count = Math.min(this.#sliceCount, Number(elapsedNs / BigInt(this.#sliceMs * 1_000_000)) + 1);
    const rows = (length: number): Float64Array[] => Array.from({ length }, () => new Float64Array(count));
    const groupPackets = rows(groupCount);
    const groupBytes = rows(groupCount);
    const queuePackets = rows(VnicLimits.maxQueues);
    const [bytesAt, packetsAt, queuesAt] = ['group_bytes', 'group_packets', 'queue_packets'].map((field) =>
      this.#sliceFields.at(field),
    ) as [number, number, number];
    for (let cpu = 0; cpu < this.#cpus; cpu++) {
      for (let slice = 0; slice < count; slice++) {
        const element = cpu * this.#sliceCount + slice;
        for (let group = 0; group < groupCount; group++) {
          groupBytes[group]![slice]! += this.#slices.count(element, bytesAt + 8 * group);
          groupPackets[group]![slice]! += this.#slices.u32(element, packetsAt + 4 * group);
        }
        for (let queue = 0; queue < VnicLimits.maxQueues; queue++) {
          queuePackets[queue]![slice]! += this.#slices.u32(element, queuesAt + 4 * queue);
        }
      }
    }
    return { startNs: this.#startNs, sliceMs: this.#sliceMs, count, groupPackets, groupBytes, queuePackets };
  }

  /** Gives up the maps; the program stays on the device until the rig goes. Idempotent. */
  close(): void {
    this.#seen.close();
    for (const mapped of [this.#control, this.#expected, this.#totals, this.#slices]) mapped.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** Puts a checker behind the rig's device. A later one takes the place of an earlier one. */
export function attachChecker(rig: Rig, options: CheckerOptions): Checker {
  return new Checker(rig, options);
}

/** Puts a classifier at tc ingress of a device of the calling thread's namespace, in place of an earlier one. */
export function attachAtIngress(native: Native, program: Fd, device: string): void {
  const BPF_TC_F_REPLACE = 1;
  const hook = BpfTcHook.encode({ ifindex: deviceIndex(native, device), attachPoint: BpfTcAttachPoint.ingress });
  // libbpf prints the kernel's "Exclusivity flag on" when somebody else made the hook.
  native.setPrint(null);
  const created = native.libbpf.bpf_tc_hook_create(hook);
  if (created !== EEXIST) native.check(created, 'bpf_tc_hook_create', device);
  const opts = BpfTcOpts.encode({
    progFd: program.value,
    handle: tcHandle,
    priority: tcPriority,
    flags: BPF_TC_F_REPLACE,
  });
  native.check(native.libbpf.bpf_tc_attach(hook, opts), 'bpf_tc_attach', device);
}
