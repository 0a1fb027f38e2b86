// SPDX-License-Identifier: Apache-2.0
/** The generator's BPF program: loaded, told its flows, run. Used in the generator's own process. */
import { VnicError } from '../../src/errors.ts';
import type { Fd } from '../../src/loader/fd.ts';
import type { Native } from '../../src/loader/ffi/index.ts';
import { inNetns } from '../../src/loader/netns.ts';
import { BpfObject } from '../../src/loader/object.ts';
import { layoutOf } from '../../src/maps/btf/index.ts';
import { BpfTestRunOpts, TestRunFlag } from '../../src/maps/generated/host.ts';
import { frameTemplate, type RigFlow } from './flows.ts';
import { deviceIndex, MappedElements, type StructFields, setDevice, structFields } from './mapped.ts';
import { rigObject } from './objects.ts';

const EINTR = -4;

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

/** Enumerators of `enum rig_limits`. */
function rigLimits(object: BpfObject): ReadonlyMap<string, number> {
  const layout = layoutOf(object.btf, object.btf.idOf('rig_limits', 'enum'));
  if (layout.kind !== 'enum') throw new VnicError('failed', 'rig_limits is no enum.');
  return new Map(layout.enumerators.map((enumerator) => [enumerator.name, Number(enumerator.value)]));
}

export class GeneratorKernel {
  readonly #native: Native;
  readonly #program: Fd;
  readonly #flows: MappedElements;
  readonly #control: MappedElements;
  readonly #flowFields: StructFields;
  readonly #controlFields: StructFields;
  readonly #streamFields: StructFields;
  readonly #opts: Uint8Array<ArrayBuffer>;
  readonly #view: DataView;
  readonly #frame: Uint8Array<ArrayBuffer>;
  readonly #batch: number;
  readonly #flowCount: number;

  /** @param batch frames that the kernel sends at a time, 1 to 256; a veth ring holds 256 */
  constructor(native: Native, streams: readonly StreamPlan[], batch: number) {
    this.#native = native;
    this.#batch = batch;
    this.#flowCount = streams.reduce((sum, stream) => sum + stream.flows.length, 0);
    using object = BpfObject.load(native, rigObject('rig_generator'), {
      maps: { rig_flows: { maxEntries: this.#flowCount } },
    });
    const limits = rigLimits(object);
    if (streams.length > limits.get('RIG_STREAMS')!) {
      throw new VnicError('usage', `A generator serves ${limits.get('RIG_STREAMS')} streams, not ${streams.length}.`);
    }
    this.#flowFields = structFields(object, 'rig_flow');
    this.#controlFields = structFields(object, 'rig_generator');
    this.#streamFields = structFields(object, 'rig_stream');
    this.#program = object.programFd('rig_generate');
    using flows = object.mapFd('rig_flows');
    using control = object.mapFd('rig_control');
    using devices = object.mapFd('rig_devices');
    this.#flows = new MappedElements(native, flows, this.#flowCount, this.#flowFields.size);
    this.#control = new MappedElements(native, control, 1, this.#controlFields.size);

    const payload = structFields(object, 'rig_payload');
    let next = 0;
    streams.forEach((stream, index) => {
      inNetns(native, stream.netns, () => setDevice(native, devices, index, deviceIndex(native, stream.device)));
      this.#setStream(index, 'first_flow', next);
      this.#setStream(index, 'flows', stream.flows.length);
      this.#setRemaining(index, stream.packets);
      for (const flow of stream.flows) this.#writeFlow(next++, flow, stream.macs, limits.get('RIG_MAGIC')!, payload);
    });

    const longest = streams.reduce((most, { flows: some }) => some.reduce((m, f) => Math.max(m, f.frameBytes), most), 0);
    this.#frame = native.memory.alloc(longest);
    this.#opts = BpfTestRunOpts.encode({
      dataIn: native.memory.addressOf(this.#frame),
      dataSizeIn: longest,
      flags: TestRunFlag.xdpLiveFrames,
    });
    this.#view = new DataView(this.#opts.buffer);
  }

  #writeFlow(index: number, flow: RigFlow, macs: StreamPlan['macs'], magic: number, payload: StructFields): void {
    const fields = this.#flowFields;
    const template = frameTemplate(flow, macs, magic, payload);
    const at = this.#flows.offset(index, fields.at('header'));
    new Uint8Array(this.#flows.view.buffer).set(template.header, at);
    this.#flows.setU32(index, fields.at('id'), flow.id);
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

  /** Packets sent of each flow, in the order of the streams' flows. */
  sent(): Float64Array {
    const offset = this.#flowFields.at('sequence');
    return Float64Array.from({ length: this.#flowCount }, (_, index) => this.#flows.count(index, offset));
  }
}
