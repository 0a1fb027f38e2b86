// SPDX-License-Identifier: Apache-2.0
/** What an upgrade leaves as it was, what it replaces, and what it refuses. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { Controller } from '../../src/app/controller.ts';
import { Dataplane, objectPath, type ProgramName, programNames } from '../../src/app/dataplane.ts';
import { explainFrame } from '../../src/app/explain.ts';
import { readFlows } from '../../src/app/flows.ts';
import { programIdentity } from '../../src/app/program-identity.ts';
import { objectSha256, type UpgradeReport, upgradeDataplane } from '../../src/app/upgrade.ts';
import { parseDevice } from '../../src/config/device.ts';
import type { VnicError } from '../../src/errors.ts';
import { loadNative, type Native } from '../../src/loader/ffi/index.ts';
import { linkInfo } from '../../src/loader/link.ts';
import { PinFolder } from '../../src/loader/pins.ts';
import { programById, programInfo } from '../../src/loader/program.ts';
import { VnicAbi, VnicProgSlot } from '../../src/maps/generated/abi.ts';
import { buildDataplane, type Edits, withNop } from '../support/builds.ts';
import { CliRig } from '../support/cli.ts';
import { PacketRunner } from '../support/dataplane.ts';
import { mapDigests } from '../support/map-contents.ts';
import { disturbed } from '../support/maps.ts';
import { udpFrame } from '../support/packet.ts';
import { skip } from '../support/skip.ts';
import { thrownBy } from '../support/thrown.ts';

const native = loadNative();
native.setPrint(null);

// 12 seconds of their limit each.
const limited = udpFrame('10.1.0.1', '10.9.0.1', 1000, 53, 1458);
const flowLimited = udpFrame('10.1.0.2', '10.9.0.1', 1000, 54, 1458);
const dropped = udpFrame('10.1.0.3', '10.9.0.1', 1000, 55);
const plain = udpFrame('10.1.0.4', '10.9.0.1', 1000, 56);
const frames = [limited, flowLimited, dropped, plain];

const config = parseDevice('vnic0', {
  num_queues: 32,
  azs: [{ name: 'az-a', queues: '0-15', prefixes: ['10.1.0.0/16'] }],
  rules: [
    {
      id: 1,
      match: { proto: 'udp', dstPort: 53 },
      action: 'pass',
      limit: { rate: '1kbit', burst: 3000, scope: 'rule' },
    },
    {
      id: 2,
      match: { proto: 'udp', dstPort: 54 },
      action: 'pass',
      limit: { rate: '1kbit', burst: 3000, scope: 'flow' },
    },
    { id: 3, match: { proto: 'udp', dstPort: 55 }, action: 'drop' },
  ],
});

/** Their contents are ids of programs, a program's own, or somebody's question. */
const notState = ['vnic_progs', 'vnic_cpus', 'vnic.rodata', 'vnic_explanatio'];

describe('an upgrade', function () {
  this.timeout(120_000);
  let folder: string;
  let rig: CliRig;
  let controller: Controller;

  before(() => {
    folder = mkdtempSync(path.join(tmpdir(), 'vnic-builds-'));
    rig = new CliRig('upgrade');
    controller = new Controller({ native, stateFolder: rig.stateFolder });
  });
  beforeEach(() => {
    controller.attach(device(), { config, mode: 'native', maxFlows: 1024, maxRules: 16 });
  });
  afterEach(() => {
    if (controller.isAttached(device())) controller.detach(device(), true);
  });
  after(() => {
    rig?.[Symbol.dispose]();
    rmSync(folder, { recursive: true, force: true });
  });

  const device = () => ({ name: 'vnic0', netns: rig.guest });
  const open = () => Dataplane.open(native, controller.pins(device()));

  function upgrade(objectFile: string, through: Native = native): UpgradeReport {
    const settings = { mode: 'native', egress: 'tcx', deliverMetadata: false } as const;
    const pins = new PinFolder(through, device());
    return controller.locked(() => upgradeDataplane({ native: through, pins, settings, objectFile }));
  }

  const changed = ({ programs }: UpgradeReport): ProgramName[] =>
    programNames.filter((name) => programs[name] === 'replaced');

  /** Id of the program in every place that holds one, and the names of all pins. */
  function places(): Record<string, unknown> {
    using dataplane = open();
    const pins = controller.pins(device());
    const linked = (name: string): number => {
      using link = pins.open(name);
      return linkInfo(native, link).programId;
    };
    return {
      slot: dataplane.progs.get(VnicProgSlot.slotIngress),
      egress: linked('link_egress'),
      root: linked('link_xdp'),
      cpus: [...new Set(controller.withDevice(device(), (attached) => attached.record.settings.queueCpus))].map(
        (cpu) => dataplane.cpus.get(cpu)?.progId,
      ),
      pinned: programNames.map((name) => programInfo(native, dataplane.program(name)).id),
      pins: pins.names().sort(),
    };
  }

  function send(frame: Uint8Array, packets: number): void {
    using dataplane = open();
    const slot = dataplane.progs.get(VnicProgSlot.slotIngress);
    using program = programById(native, slot ?? 0);
    assert.ok(program !== null);
    const runner = new PacketRunner(native, program);
    for (let sent = 0; sent < packets; sent++) runner.run(frame);
  }

  function states(): Map<string, string> {
    using dataplane = open();
    return mapDigests(
      native,
      programNames.map((name) => dataplane.program(name)),
      notState,
    );
  }

  function explanations() {
    using dataplane = open();
    const names = { azName: () => 'az-a', ruleId: (slot: number) => slot };
    return frames.map((frame) => {
      const { limit, ...rest } = explainFrame(dataplane, frame, 'ingress', names);
      // The debt shrinks with time.
      return { ...rest, over: limit?.over };
    });
  }

  function tags(): Record<string, string> {
    using dataplane = open();
    return Object.fromEntries(programNames.map((name) => [name, programInfo(native, dataplane.program(name)).tag]));
  }

  const otherBuilds: Record<string, { compiler?: string; edits?: Edits }> = {
    'by clang-14': { compiler: 'clang-14' },
    'with -O3': { edits: { Makefile: (text) => text.replace('-O2', '-O3') } },
  };
  for (const [name, options] of Object.entries(otherBuilds)) {
    it(`to a build ${name} keeps flows, counters, limiters and tables, and goes on with them`, function () {
      const { compiler } = options;
      if (compiler && spawnSync(compiler, ['--version']).status !== 0) skip(this, `${compiler} is not installed`);
      const file = buildDataplane(folder, name, options);
      for (const frame of frames) send(frame, 10);
      const before = { states: states(), explanations: explanations(), tags: tags(), places: places() };
      assert.deepEqual(
        before.explanations.map(({ over, verdict, queue }) => [over, verdict, queue !== null && queue < 16]),
        [
          [true, 'limit', true],
          [true, 'limit', true],
          [undefined, 'drop', true],
          [undefined, 'pass', true],
        ],
      );

      const report = upgrade(file);
      assert.ok(changed(report).includes('vnic_ingress') && changed(report).includes('vnic_egress'));
      assert.equal(report.objectSha256, objectSha256(file));
      assert.deepEqual(states(), before.states);
      assert.deepEqual(explanations(), before.explanations);
      for (const program of programNames) {
        const isSame = tags()[program] === before.tags[program];
        // A program with the same tag can still be another: with other constants.
        if (report.programs[program] === 'unchanged') assert.ok(isSame, program);
        if (!isSame) assert.equal(report.programs[program], 'replaced', program);
      }
      assert.notEqual(tags()['vnic_ingress'], before.tags['vnic_ingress']);
      assert.deepEqual(places()['pins'], before.places['pins']);

      for (const frame of frames) send(frame, 10);
      using dataplane = open();
      const flows = readFlows(dataplane).filter(({ flow }) => flow.packets >= 10n);
      assert.deepEqual(
        flows.map(({ flow }) => flow.packets),
        [20n, 20n, 20n, 20n],
        'the flows of before are found again',
      );
      const passed = flows.map(({ flow }) => flow.packets - flow.droppedPackets).sort((a, b) => Number(a - b));
      // Two of the first ten conformed; a limiter that began anew would let two more through.
      assert.deepEqual(passed.slice(0, 3), [0n, 2n, 2n]);
    });
  }

  it('to the same build finds nothing to do', () => {
    const before = places();
    const report = upgrade(objectPath);
    assert.deepEqual(changed(report), []);
    assert.deepEqual([report.replacedCpus, report.pausesQueues], [[], false]);
    assert.equal(report.objectSha256, objectSha256());
    assert.deepEqual(places(), before);
  });

  for (const program of programNames) {
    it(`replaces ${program} everywhere when it alone is another, and no other program`, () => {
      const before = places();
      const report = upgrade(buildDataplane(folder, `only-${program}`, { edits: withNop(program) }));
      assert.deepEqual(changed(report), [program]);
      const after = places() as { pinned: number[]; cpus: number[] } & Record<string, unknown>;
      const at = programNames.indexOf(program);
      const id = after.pinned[at];
      const expected: Record<string, unknown> = {
        ...before,
        pinned: (before['pinned'] as number[]).with(at, id ?? -1),
      };
      if (program === 'vnic_ingress') expected['slot'] = id;
      if (program === 'vnic_egress') expected['egress'] = id;
      if (program === 'vnic_root') expected['root'] = id;
      if (program === 'vnic_cpu') expected['cpus'] = after.cpus.map(() => id);
      assert.notEqual(id, (before['pinned'] as number[])[at]);
      assert.deepEqual(after, expected);
    });
  }

  it('tells programs apart that have the same tag and other constants', () => {
    const size = { queues: 32, maxFlows: 64, maxRules: 16, hashSeed: 1, replay: false } as const;
    using one = Dataplane.create(native, { ...size, deliverMetadata: false });
    using other = Dataplane.create(native, { ...size, deliverMetadata: true });
    const tagOf = (dataplane: Dataplane) => programInfo(native, dataplane.program('vnic_clock')).tag;
    assert.equal(tagOf(one), tagOf(other));
    const identityOf = (dataplane: Dataplane, name: ProgramName) => programIdentity(native, dataplane.program(name));
    // vnic_clock refers to no map at all; vnic_cpu to a constant that differs.
    assert.equal(identityOf(one, 'vnic_clock'), identityOf(other, 'vnic_clock'));
    assert.notEqual(identityOf(one, 'vnic_cpu'), identityOf(other, 'vnic_cpu'));
  });

  function refused(action: () => unknown): VnicError {
    const before = { places: places(), states: states() };
    const error = thrownBy(action);
    assert.deepEqual({ places: places(), states: states() }, before, 'all is as it was');
    return error;
  }

  const abi = 'bpf/vnic_abi.h';
  const mismatches: Record<string, { edits: Edits; says: RegExp }> = {
    'a field that moved': {
      // The 64 bytes stay, so that only the layout tells them apart.
      edits: {
        [abi]: (text) =>
          text
            .replace('\t__u64 limit_event_ns;', '\t__u64 moved;\n$&')
            .replace(/(struct vnic_rule_state \{[^}]*)pad\[2\]/, '$1pad[1]'),
      },
      says: /value of map vnic_rule_stat\w* has another layout: moved is expected where/,
    },
    'a map of another size': {
      edits: { [abi]: (text) => text.replace('VNIC_TABLE_GENERATIONS = 8', 'VNIC_TABLE_GENERATIONS = 4') },
      says: /vnic_table has another shape: maxEntries 360 is expected, it is 720/,
    },
    'rules with longer keys': {
      edits: {
        [abi]: (text) =>
          text
            .replace('\t__u8 shape;', '\t__u64 more;\n\t__u8 shape;')
            .replace('sizeof(struct vnic_rule_key) == 40', 'sizeof(struct vnic_rule_key) >= 40'),
      },
      says: /rules of set 1 have keys of 40 and values of 8 bytes; 56 and 8 are expected/,
    },
    'another ABI version': {
      edits: {
        [abi]: (text) => text.replace(`VNIC_ABI_VERSION = ${VnicAbi.version},`, 'VNIC_ABI_VERSION = 77,'),
        'bpf/maps.h': withAbiInBtf,
      },
      says: new RegExp(`ABI version ${VnicAbi.version}; the BPF object has version 77`),
    },
  };
  for (const [name, { edits, says }] of Object.entries(mismatches)) {
    it(`refuses a build with ${name}, names both, and changes nothing`, () => {
      const file = buildDataplane(folder, name.replaceAll(' ', '-'), { edits });
      const error = refused(() => upgrade(file));
      assert.equal(error.code, 'abi_mismatch', error.message);
      assert.match(error.message, says);
      assert.ok(error.details['expected'] !== undefined && error.details['actual'] !== undefined);
    });
  }

  it('refuses a build that the verifier refuses, and changes nothing', () => {
    const unsafe: Edits = {
      'bpf/vnic.bpf.c': (text) =>
        text.replace(
          'return vnic_handle_cpu(ctx);',
          'return *(volatile char *)(long)ctx->data + vnic_handle_cpu(ctx);',
        ),
    };
    const file = buildDataplane(folder, 'unsafe', { edits: unsafe });
    assert.equal(refused(() => upgrade(file)).code, 'verifier_rejected');
  });

  it('puts the old programs back when a step fails', () => {
    const file = buildDataplane(folder, 'all', { edits: withNop(...programNames) });
    const before = places();
    for (const [call, failAt] of [
      ['bpf_link_update', 0],
      ['bpf_link_update', 1],
      ['bpf_map_update_elem', 1],
      ['bpf_obj_pin', 0],
      ['bpf_obj_pin', 5],
    ] as const) {
      let calls = 0;
      const failing = (...args: never[]): number =>
        calls++ === failAt ? -16 : (native.libbpf[call] as (...all: never[]) => number)(...args);
      const error = thrownBy(() => upgrade(file, disturbed(native, { [call]: failing })));
      assert.equal(error.code, 'kernel_refused');
      assert.ok(calls > failAt);
      assert.deepEqual(places(), before, `${call} number ${failAt} failed`);
    }
    assert.deepEqual(changed(upgrade(file)), programNames, 'and can be tried again');
  });

  it('can begin from a build that VNIC_BPF_OBJECT names', () => {
    controller.detach(device());
    const file = buildDataplane(folder, 'all', { edits: withNop(...programNames) });
    const env = { VNIC_BPF_OBJECT: path.relative(process.cwd(), file) };
    rig.ok(['attach', 'vnic0'], { env });
    assert.deepEqual(changed(upgrade(file)), []);
    assert.deepEqual(changed(upgrade(objectPath)), programNames);
    rig.ok(['status', 'vnic0']);
    rig.ok(['status', 'vnic0'], { env });
  });
});

/** An object carries its ABI version in its BTF. */
function withAbiInBtf(text: string): string {
  const carrier = 'const volatile enum vnic_abi vnic_object_abi = VNIC_ABI_VERSION;\n';
  return text.includes('enum vnic_abi ')
    ? `${text}\n`
    : text.replace('const volatile bool vnic_replay', `${carrier}$&`);
}
