// SPDX-License-Identifier: Apache-2.0
/** The checker judges the dataplane, so its own books are held against packets whose fate is known. */
import assert from 'node:assert/strict';

import type { Fd } from '../../src/loader/fd.ts';
import { loadNative } from '../../src/loader/ffi/index.ts';
import { BpfObject } from '../../src/loader/object.ts';
import { ProgramRunner } from '../../src/loader/program.ts';
import { hostLittleEndian } from '../../src/maps/codec.ts';
import { frameTemplate, makeFlows } from '../rig/flows.ts';
import { readArray, type StructFields, structFields, zeroArray } from '../rig/mapped.ts';
import { rigObject } from '../rig/objects.ts';
import { udpFrame } from '../support/packet.ts';

const magic = 0x21676972;
const tcOk = 0;
const tcShot = 2;
const macs = { src: '02:72:69:67:00:01', dst: '02:76:6e:69:63:02' };

describe('the checker of the rig', () => {
  const native = loadNative();
  const [ipv4Flow, ipv6Flow] = makeFlows({
    count: 2,
    azs: [{ name: 'az-a', index: 1 }],
    host: { ipv4: '10.100.0.2', ipv6: 'fd00:100::2' },
    ipv6Every: 2,
  }) as [ReturnType<typeof makeFlows>[0], ReturnType<typeof makeFlows>[0]];

  let object: BpfObject;
  let program: Fd;
  let seen: Fd;
  let runner: ProgramRunner;
  let fields: StructFields;
  let payload: StructFields;

  before(() => {
    object = BpfObject.load(native, rigObject('rig_checker'), {
      maps: { rig_seen: { maxEntries: 2 }, rig_expected: { maxEntries: 2 }, rig_totals: { maxEntries: 256 } },
    });
    program = object.programFd('rig_check');
    seen = object.mapFd('rig_seen');
    fields = structFields(object, 'rig_seen');
    using generator = BpfObject.load(native, rigObject('rig_generator'));
    payload = structFields(generator, 'rig_payload');
    runner = new ProgramRunner(native, program, { maxInputBytes: 256 });
  });
  after(() => {
    seen.close();
    program.close();
    object.close();
  });

  /** Lets packets with these sequences arrive, one after the other. */
  function arrive(flow: typeof ipv4Flow, sequences: readonly number[]): void {
    const template = frameTemplate(flow, macs, magic, payload);
    const frame = new Uint8Array(flow.frameBytes);
    frame.set(template.header);
    const view = new DataView(frame.buffer, template.payloadOffset);
    view.setUint32(payload.at('magic'), magic, hostLittleEndian);
    view.setUint32(payload.at('flow'), flow.id, hostLittleEndian);
    for (const sequence of sequences) {
      view.setBigUint64(payload.at('sequence'), BigInt(sequence), hostLittleEndian);
      assert.equal(runner.run(frame).returnValue, tcShot);
    }
  }

  function booked(flowId: number): Record<'received' | 'missing' | 'reordered' | 'duplicates' | 'late', number> {
    const view = readArray(native, seen, 2, fields.size);
    const count = (name: string): number =>
      Number(view.getBigUint64(flowId * fields.size + fields.at(name), hostLittleEndian));
    return {
      received: count('received'),
      missing: count('missing'),
      reordered: count('reordered'),
      duplicates: count('duplicates'),
      late: count('too_late'),
    };
  }

  beforeEach(() => zeroArray(native, seen, 2, fields.size));

  const range = (from: number, to: number): number[] => Array.from({ length: to - from }, (_, index) => from + index);
  const clean = { missing: 0, reordered: 0, duplicates: 0, late: 0 };

  for (const [what, sequences, expected] of [
    ['packets in order', range(0, 200), { ...clean, received: 200 }],
    ['a gap', [0, 1, 4, 5], { ...clean, received: 4, missing: 2 }],
    ['a gap at the beginning', [3], { ...clean, received: 1, missing: 3 }],
    ['two packets that changed places', [0, 2, 1, 3], { ...clean, received: 4, reordered: 1 }],
    ['a duplicate of the last packet', [0, 1, 1, 2], { ...clean, received: 4, duplicates: 1 }],
    ['a duplicate of an older packet', [0, 1, 2, 3, 0], { ...clean, received: 5, duplicates: 1 }],
    ['a late packet and its duplicate', [0, 2, 1, 1], { ...clean, received: 4, reordered: 1, duplicates: 1 }],
    ['the oldest packet in the window', [0, ...range(2, 65), 1], { ...clean, received: 65, reordered: 1 }],
    ['a packet later than the window', [0, ...range(2, 66), 1], { ...clean, received: 66, reordered: 1, late: 1 }],
    ['a gap longer than the window', [0, 1000], { ...clean, received: 2, missing: 999 }],
  ] as const) {
    it(`books ${what}`, () => {
      arrive(ipv4Flow, sequences);
      assert.deepEqual(booked(ipv4Flow.id), expected);
      assert.deepEqual(booked(ipv6Flow.id), { ...clean, received: 0 }, 'the other flow is not touched');
    });
  }

  it('knows IPv6 packets too', () => {
    assert.ok(ipv6Flow.src.includes(':'));
    arrive(ipv6Flow, [0, 1, 3]);
    assert.deepEqual(booked(ipv6Flow.id), { ...clean, received: 3, missing: 1 });
  });

  it('lets everything else go on to the stack', () => {
    for (const frame of [
      udpFrame('10.1.0.1', '10.100.0.2', 1024, 7000, 60),
      udpFrame('fd00:a::1', 'fd00:100::2', 1024, 7000, 60),
      udpFrame('10.1.0.1', '10.100.0.2', 1024, 7000, 0),
    ]) {
      assert.equal(runner.run(frame).returnValue, tcOk);
    }
    assert.equal(booked(0).received + booked(1).received, 0);
  });
});
