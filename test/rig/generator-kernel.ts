// SPDX-License-Identifier: Apache-2.0
/** The generator's BPF program: loaded, told its flows, run. Used in the generator's own process. */
import { VnicError } from '../../src/errors.ts';
import type { Fd } from '../../src/loader/fd.ts';
import type { Native } from '../../src/loader/ffi/index.ts';
import { attachXdp } from '../../src/loader/link.ts';
import { inNetns } from '../../src/loader/netns.ts';
import { BpfObject } from '../../src/loader/object.ts';
import { layoutOf } from '../../src/maps/btf/index.ts';
import { BpfTestRunOpts, TestRunFlag } from '../../src/maps/generated/host.ts';
import { frameTemplate, type RigFlow } from './flows.ts';
import { deviceIndex, MappedElements, type StructFields, setDevice, structFields } from './mapped.ts';
import { rigObject } from './objects.ts';

const EINTR = -4;
/** The loopback device is the first of every namespace. */
const loopbackIfindex = 1;

/** Flows that leave by one device. */
export interface StreamPlan {
  netns: string;
  device: string;
  /** Ethernet addresses of the frames. */
  macs: { src: string; dst: string };
  flows: readonly RigFlow[];
  /** Packets after which the stream ends. */
  packets: number;
}

/** By which rig packets are known. */
function rigMagic(object: BpfObject): number {
  const layout = layoutOf(object.btf, object.btf.idOf('rig_magic', 'enum'));
  if (layout.kind !== 'enum') throw new VnicError('failed', 'rig_magic is no enum.');
  return Number(layout.enumerators[0]!.value);
}

/**
 * Attaches the program to a loopback device where nothing is sent. BPF_PROG_RUN puts an XDP program that is attached
 * nowhere into the kernel's XDP dispatcher for the time of each run, and each change of the dispatcher waits for an RCU
 * grace period: 20 ms and more, for a run of less than one (kernel/bpf/dispatcher.c).
 */
function takeSeat(native: Native, program: Fd, namespaces: readonly string[]): Fd {
  for (const namespace of namespaces) {
    try {
      return inNetns(native, namespace, () => attachXdp(native, program, loopbackIfindex, 'generic'));
    } catch (error) {
      if (!(error instanceof VnicError && error.details['errno'] === 'EBUSY')) throw error;
    }
  }
  throw new VnicError('conflict', `A rig has room for ${namespaces.length} generators at a time.`);
}

export class GeneratorKernel {
  readonly #native: Native;
  readonly #program: Fd;
  readonly #seat: Fd;
  readonly #flows: MappedElements;
  readonly #control: MappedElements;
  readonly #flowFields: StructFields;
  readonly #controlFields: StructFields;
  readonly #payloadFields: StructFields;
  readonly #streamFields: StructFields;
  readonly #opts: Uint8Array<ArrayBuffer>;
  readonly #view: DataView;
  readonly #frame: Uint8Array<ArrayBuffer>;
  readonly #batch: number;
  readonly #flowCount: number;

  /**
   * @param seats namespaces whose loopback device may be used, see `takeSeat`
   * @param batch frames that the kernel sends at a time, 1 to 256; a veth ring holds 256
   */
  constructor(native: Native, streams: readonly StreamPlan[], seats: readonly string[], batch: number) {
    this.#native = native;
    this.#batch = batch;
    this.#flowCount = streams.reduce((sum, stream) => sum + stream.flows.length, 0);
    using object = BpfObject.load(native, rigObject('rig_generator'), {
      maps: { rig_flows: { maxEntries: this.#flowCount } },
    });
    const magic = rigMagic(object);
    this.#flowFields = structFields(object, 'rig_flow');
    this.#controlFields = structFields(object, 'rig_generator');
    this.#streamFields = structFields(object, 'rig_stream');
    this.#program = object.programFd('rig_generate');
    this.#seat = takeSeat(native, this.#program, seats);
    using flows = object.mapFd('rig_flows');
    using control = object.mapFd('rig_control');
    using devices = object.mapFd('rig_devices');
    this.#flows = new MappedElements(native, flows, this.#flowCount, this.#flowFields.size);
    this.#control = new MappedElements(native, control, 1, this.#controlFields.size);

    this.#payloadFields = structFields(object, 'rig_payload');
    let next = 0;
    streams.forEach((stream, index) => {
      inNetns(native, stream.netns, () => setDevice(native, devices, index, deviceIndex(native, stream.device)));
      this.#setStream(index, 'first_flow', next);
      this.#setStream(index, 'flows', stream.flows.length);
      this.#setRemaining(index, stream.packets);
      for (const flow of stream.flows) this.#writeFlow(next++, flow, stream.macs, magic);
    });

    const longest = streams.reduce(
      (most, stream) => stream.flows.reduce((least, flow) => Math.max(least, flow.frameBytes), most),
      0,
    );
    // Never as long as a frame of a flow, so that the program always cuts it: only then the kernel takes the frame's
    // own size and metadata anew. A frame that was dropped behind a dataplane otherwise keeps that one's metadata.
    this.#frame = native.memory.alloc(longest + 1);
    this.#opts = BpfTestRunOpts.encode({});
    this.#view = new DataView(this.#opts.buffer);
  }

  #writeFlow(index: number, flow: RigFlow, macs: StreamPlan['macs'], magic: number): void {
    const fields = this.#flowFields;
    const template = frameTemplate(flow, macs, magic, this.#payloadFields);
    const at = this.#flows.offset(index, fields.at('header'));
    new Uint8Array(this.#flows.view.buffer).set(template.header, at);
    const payload = fields.at('payload');
    this.#flows.setU32(index, payload + this.#payloadFields.at('magic'), magic);
    this.#flows.setU32(index, payload + this.#payloadFields.at('flow'), flow.id);
    this.#flows.setU32(index, fields.at('checksum'), template.checksum);
    this.#flows.setU16(index, fields.at('frame_bytes'), flow.frameBytes);
    this.#flows.setU16(index, fields.at('payload_offset'), template.payloadOffset);
  }

  #streamOffset(stream: number, field: string): number {
    return this.#controlFields.at('streams') + stream * this.#streamFields.size + this.#streamFields.at(field);
  }

  #setStream(stream: number, field: string, value: number): void {
    this.#control.setU32(0, this.#streamOffset(stream, field), value);
  }

  #setRemaining(stream: number, packets: number): void {
    this.#control.setU64(0, this.#streamOffset(stream, 'remaining'), BigInt(packets));
  }

  /** Packets that the stream may still send. */
  remaining(stream: number): number {
    return this.#control.count(0, this.#streamOffset(stream, 'remaining'));
  }

  /** CLOCK_MONOTONIC when the stream's last packet was made; 0n: it has made none. */
  lastNs(stream: number): bigint {
    return this.#control.u64(0, this.#streamOffset(stream, 'last_ns'));
  }

  /** Between two packets of the stream, since the last `forgetGaps()`. */
  longestGapNs(stream: number): number {
    return this.#control.count(0, this.#streamOffset(stream, 'longest_gap_ns'));
  }

  forgetGaps(stream: number): void {
    for (const field of ['last_ns', 'longest_gap_ns']) this.#control.setU64(0, this.#streamOffset(stream, field), 0n);
  }

  /** Sends the stream's next packets, whole batches if more than one; a signal ends it early, the counters stay right. */
  send(stream: number, packets: number): void {
    this.#control.setU32(0, this.#controlFields.at('stream'), stream);
    BpfTestRunOpts.put(this.#view, 0, {
      dataIn: this.#native.memory.addressOf(this.#frame),
      dataSizeIn: this.#frame.length,
      flags: TestRunFlag.xdpLiveFrames,
      repeat: packets,
      batchSize: Math.min(packets, this.#batch),
    });
    const result = this.#native.libbpf.bpf_prog_test_run_opts(this.#program.value, this.#opts);
    if (result !== EINTR) this.#native.check(result, 'bpf_prog_test_run_opts', 'the generator');
  }

  /** Frees the seat for another generator. */
  close(): void {
    this.#seat.close();
    this.#program.close();
    this.#flows.close();
    this.#control.close();
  }

  /** Packets sent of each flow, in the order of the streams' flows. */
  sent(): Float64Array {
    const offset = this.#flowFields.at('payload') + this.#payloadFields.at('sequence');
    return Float64Array.from({ length: this.#flowCount }, (_, index) => this.#flows.count(index, offset));
  }
}
