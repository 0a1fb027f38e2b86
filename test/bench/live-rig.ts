// SPDX-License-Identifier: Apache-2.0
/**
 * Live traffic with as little around it as can be: a veth pair of 32 queues in two namespaces, a BPF program that makes
 * packets on one end as fast as the kernel takes them, and a sink at tc ingress of the other. Whatever is measured stands
 * in between, at the same place: a bare program, the dataplane, or nothing.
 */
import { setPriority } from 'node:os';
import { raiseCpumapThreads } from '../../src/loader/cpumap-threads.ts';
import type { Fd } from '../../src/loader/fd.ts';
import type { Native } from '../../src/loader/ffi/index.ts';
import { attachXdp } from '../../src/loader/link.ts';
import { inNetns } from '../../src/loader/netns.ts';
import { BpfObject } from '../../src/loader/object.ts';
import { CpuMap } from '../../src/maps/cpu-map.ts';
import { VnicLatency } from '../../src/maps/generated/abi.ts';
import { BpfTestRunOpts, TestRunFlag } from '../../src/maps/generated/host.ts';
import { BpfMap } from '../../src/maps/map.ts';
import { MappedArray } from '../../src/maps/mapped-array.ts';
import { namespaceName } from '../rig/addresses.ts';
import { attachAtIngress } from '../rig/checker.ts';
import { deviceIndex, MappedElements, type StructFields, setDevice, structFields } from '../rig/mapped.ts';
import { removeNamespace, run, runInNamespace, sweepStaleNamespaces } from '../rig/namespaces.ts';
import { rigObject } from '../rig/objects.ts';
import { packet } from '../support/packet.ts';
import { quietIpv6 } from '../support/quiet-ipv6.ts';
import { runOnCpus } from '../support/run-on-cpus.ts';
import { flowOrder } from './packet-subjects.ts';

const EINTR = -4;
const ORDER = 1 << 20;
const MAX_CPUS = 64;
/** Frames that the kernel sends at a time; a ring of veth holds 256. */
const BATCH = 64;
const CPUMAP_PACKETS = 4096;
const BURSTS = 3;
/** Most of a millisecond each. */
const LOOK_RUNS = 2000;
/** Where packets are redirected to; the sender is on CPU 0. */
export const TARGET_CPU = 1;
/** The longest that BPF_PROG_RUN makes of one page; jumbo frames of more than one buffer it does not send. */
export const LONGEST_FRAME = 3400;

export interface Load {
  flows: number;
  mix: 'uniform' | 'heavy-tailed';
  frames: readonly (readonly [bytes: number, weight: number])[];
  /** Above 1: one packet of so many is of those flows, each of the others is a flow of its own. */
  knownEvery?: number;
  /** The sink says how often a known flow changed its queue. */
  isFollowed?: boolean;
}

export interface Burst {
  packets: number;
  seconds: number;
  /** Of the sender, in which everything up to a redirect to another CPU runs. */
  cpuSeconds: number;
  /** What arrived at the sink. */
  known: number;
  flood: number;
  bytes: number;
  /** Of the known ones, if they are followed: by another queue than the one before, and without a word on it. */
  moved: number;
  unmarked: number;
}

/** Packets at a given rate, not as fast as they go. */
export interface Pace {
  packets: number;
  ratePps: number;
  /** Packets that come together, 1 to 64, as a network card brings them at a poll. */
  group: number;
}

/** A bare redirect to the target CPU, whose way there is timed as the dataplane times its own. */
export interface TimedRedirect {
  program: Fd;
  latency: MappedArray<VnicLatency>;
}

const totals = ['known', 'flood', 'bytes', 'moved', 'unmarked'] as const;
export type Totals = Record<(typeof totals)[number], number>;

export class LiveRig implements Disposable {
  readonly native: Native;
  readonly netns: string;
  readonly device = 'vnic0';
  readonly #sender: string;
  readonly #opened = new DisposableStack();
  readonly #object: BpfObject;
  readonly #send: Fd;
  readonly #sink: Fd;
  readonly #control: MappedElements;
  readonly #order: MappedElements;
  readonly #seen: MappedElements;
  readonly #fields: Record<'control' | 'order' | 'seen', StructFields>;
  readonly #frame: Uint8Array<ArrayBuffer>;

  constructor(native: Native) {
    this.native = native;
    this.netns = namespaceName(process.pid, 'live', 'host');
    this.#sender = namespaceName(process.pid, 'live', 'sender');
    sweepStaleNamespaces();
    try {
      this.#opened.defer(() => removeNamespace(this.netns));
      this.#opened.defer(() => removeNamespace(this.#sender));
      for (const name of [this.netns, this.#sender]) {
        run('ip', ['netns', 'add', name]);
        runInNamespace(name, quietIpv6);
      }
      const many = `numtxqueues 32 numrxqueues 32 mtu ${LONGEST_FRAME - 14}`;
      runInNamespace(
        this.#sender,
        `ip link add sender ${many} type veth peer name ${this.device} ${many} netns ${this.netns}\nip link set sender up\n`,
      );
      runInNamespace(this.netns, `ip link set ${this.device} up\nethtool -K ${this.device} gro on\n`);
      this.#object = this.#opened.use(BpfObject.load(native, rigObject('bench_live')));
      this.#send = this.#opened.use(this.#object.programFd('bench_send'));
      this.#fields = {
        control: structFields(this.#object, 'bench_control'),
        order: structFields(this.#object, 'bench_order'),
        seen: structFields(this.#object, 'bench_seen'),
      };
      this.#control = this.#map('bench_control', 1, this.#fields.control.size);
      this.#order = this.#map('bench_order', ORDER, this.#fields.order.size);
      this.#seen = this.#map('bench_seen', MAX_CPUS, this.#fields.seen.size);
      using devices = this.#object.mapFd('bench_device');
      this.#sink = this.#opened.use(this.#object.programFd('bench_sink'));
      // BPF_PROG_RUN puts a program that is attached nowhere into the kernel's dispatcher for each run: see rig/generator.
      inNetns(native, this.#sender, () => {
        setDevice(native, devices, 0, deviceIndex(native, 'sender'));
        this.#opened.use(attachXdp(native, this.#send, 1, 'generic'));
      });
      this.#attachSink();
      const cpus = new CpuMap(native, this.#opened.use(BpfMap.fromFd(native, this.#object.mapFd('bench_cpus'))));
      cpus.set(TARGET_CPU, { qsize: CPUMAP_PACKETS });
      raiseCpumapThreads(cpus.map.id);
      const template = packet()
        .ethernet()
        .ipv4({ src: '10.0.0.1', dst: '10.100.0.2' })
        .udp({ sport: 4000, dport: 5000 });
      this.#frame = native.memory.alloc(LONGEST_FRAME + 1);
      this.#frame.set(template.padTo(LONGEST_FRAME + 1).build());
    } catch (error) {
      this.#opened.dispose();
      throw error;
    }
  }

  #map(name: string, elements: number, size: number): MappedElements {
    using fd = this.#object.mapFd(name);
    const map = new MappedElements(this.native, fd, elements, size);
    this.#opened.defer(() => map.close());
    return map;
  }

  bare(name: 'bench_drop' | 'bench_pass' | 'bench_redirect'): Fd {
    return this.#opened.use(this.#object.programFd(name));
  }

  /** Takes the sink away: what stands at tc or netfilter ingress itself is measured without it. */
  withoutSink(): Disposable {
    runInNamespace(this.netns, `tc qdisc del dev ${this.device} clsact\n`);
    return { [Symbol.dispose]: () => this.#attachSink() };
  }

  #attachSink(): void {
    inNetns(this.native, this.netns, () => attachAtIngress(this.native, this.#sink, this.device));
  }

  /** What comes before all stops in between: a program in native mode, or nothing. */
  attach(program: Fd | null): Disposable {
    if (program === null) return { [Symbol.dispose]: () => {} };
    return inNetns(this.native, this.netns, () =>
      attachXdp(this.native, program, deviceIndex(this.native, this.device), 'native'),
    );
  }

  /** What the next bursts are made of. */
  load({ flows, mix, frames, knownEvery = 0, isFollowed = false }: Load): void {
    const { order, control } = this.#fields;
    const turns = frames.flatMap(([bytes, weight]) => Array<number>(weight).fill(bytes));
    flowOrder(flows, mix, ORDER).forEach((flow, index) => {
      // Spread over 10.0.0.0/12, so that each AZ has its part.
      this.#order.setU32(index, order.at('flow'), (flow * 0x9e3b1) & (ORDER - 1));
      this.#order.setU32(index, order.at('frame_bytes'), turns[index % turns.length]!);
    });
    this.#control.setU32(0, control.at('follow'), isFollowed ? 1 : 0);
    this.flood(knownEvery);
  }

  /** From the next packet on, as `knownEvery` of a load. */
  flood(knownEvery: number): void {
    this.#control.setU32(0, this.#fields.control.at('known_every'), knownEvery);
  }

  /** Packets that were made so far: of known flows, and of those of a flood. */
  made(): { known: number; flood: number } {
    const flood = this.#control.count(0, this.#fields.control.at('flood'));
    return { known: this.#made() - flood, flood };
  }

  /** What arrived at the sink so far. */
  totals(): Totals {
    const total = (field: keyof Totals): number => {
      const at = this.#fields.seen.at(field);
      return Array.from({ length: MAX_CPUS }, (_, cpu) => this.#seen.count(cpu, at)).reduce((sum, n) => sum + n, 0);
    };
    return Object.fromEntries(totals.map((field) => [field, total(field)])) as Totals;
  }

  #made(): number {
    return this.#control.count(0, this.#fields.control.at('next'));
  }

  /** Sends at that rate; what was due while the sender stood still is not made up for. */
  pace({ packets, ratePps, group }: Pace): void {
    const { control } = this.#fields;
    const gapAt = control.at('gap_ns');
    this.#control.setU64(0, control.at('due_ns'), 0n);
    this.#control.setU32(0, control.at('group'), group);
    this.#control.setU32(0, control.at('left'), 0);
    this.#control.setU64(0, gapAt, BigInt(Math.round((group * 1e9) / ratePps)));
    try {
      this.send(packets, group);
    } finally {
      this.#control.setU64(0, gapAt, 0n);
    }
  }

  /** Share of the time in which this thread's CPU is away from a program for longer than 5 us, whatever takes it. */
  awayShare(): number {
    const { control } = this.#fields;
    using program = this.#object.programFd('bench_look_away');
    for (const field of ['first_look_ns', 'away_ns'] as const) this.#control.setU64(0, control.at(field), 0n);
    const opts = BpfTestRunOpts.encode({
      dataIn: this.native.memory.addressOf(this.#frame),
      dataSizeIn: 64,
      repeat: LOOK_RUNS,
    });
    const result = this.native.libbpf.bpf_prog_test_run_opts(program.value, opts);
    if (result !== EINTR) this.native.check(result, 'bpf_prog_test_run_opts', 'the look at the clock');
    const [from, to, away] = (['first_look_ns', 'look_ns', 'away_ns'] as const).map((field) =>
      this.#control.count(0, control.at(field)),
    ) as [number, number, number];
    return away / (to - from);
  }

  /** Where packets wait for their CPU as with `bench_redirect`, and each one says how long it took to get there. */
  timedRedirect(): TimedRedirect {
    const map = (name: string): BpfMap => this.#opened.use(BpfMap.fromFd(this.native, this.#object.mapFd(name)));
    const cpus = new CpuMap(this.native, map('bench_timed_cpus'));
    cpus.set(TARGET_CPU, { qsize: CPUMAP_PACKETS, progFd: this.#opened.use(this.#object.programFd('bench_arrived')) });
    raiseCpumapThreads(cpus.map.id);
    const latency = this.#opened.use(new MappedArray(this.native, map('bench_latency'), VnicLatency));
    return { program: this.#opened.use(this.#object.programFd('bench_redirect_timed')), latency };
  }

  /** Sends at least so many, whole batches; a signal ends a run early, and it goes on. */
  send(packets: number, batch = BATCH): void {
    const end = this.#made() + packets;
    for (let left = packets; left > 0; left = end - this.#made()) {
      const opts = BpfTestRunOpts.encode({
        dataIn: this.native.memory.addressOf(this.#frame),
        dataSizeIn: this.#frame.length,
        flags: TestRunFlag.xdpLiveFrames,
        repeat: left,
        batchSize: Math.min(batch, left),
      });
      const result = this.native.libbpf.bpf_prog_test_run_opts(this.#send.value, opts);
      if (result !== EINTR) this.native.check(result, 'bpf_prog_test_run_opts', 'the sender');
    }
  }

  /** Sends that many as fast as they go, after a few that are not counted. */
  burst(packets: number): Burst {
    this.send(Math.min(5000, packets));
    const before = this.totals();
    const cpu = process.threadCpuUsage();
    const made = this.#made();
    const startNs = process.hrtime.bigint();
    this.send(packets);
    const seconds = Number(process.hrtime.bigint() - startNs) / 1e9;
    const { user, system } = process.threadCpuUsage(cpu);
    const after = this.totals();
    const arrived = Object.fromEntries(totals.map((field) => [field, after[field] - before[field]])) as Totals;
    return { packets: this.#made() - made, seconds, cpuSeconds: (user + system) / 1e6, ...arrived };
  }

  /** Mpps that were sent or that arrived, in the best of some bursts: what else runs on the machine makes one slower only. */
  rate(packets: number, counted: 'sent' | 'arrived'): number {
    const rates = Array.from({ length: BURSTS }, () => {
      const { packets: sent, known, flood, seconds } = this.burst(packets);
      return (counted === 'sent' ? sent : known + flood) / seconds / 1e6;
    });
    return Math.max(...rates);
  }

  [Symbol.dispose](): void {
    this.#opened.dispose();
  }
}

/** The sender stays on one CPU, as a network card's queue does, and ahead of what else runs there. */
export function pinSender(native: Native, cpu: number): Disposable {
  const all = native.memory.alloc(128).fill(255);
  runOnCpus({ native, cpus: [cpu] });
  setPriority(-15);
  return {
    [Symbol.dispose]: () => {
      setPriority(0);
      native.check(native.libc.sched_setaffinity(0, all.length, all), 'sched_setaffinity');
    },
  };
}
