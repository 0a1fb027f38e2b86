// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { abiSelection, clangs, compileBtf, hostSelection, root } from '../../scripts/codegen/compile.ts';
import { emitFile, type Selection } from '../../scripts/codegen/emit.ts';
import { fieldsOf } from '../../scripts/codegen/fields.ts';
import { camelCase, enumeratorName, pascalCase } from '../../scripts/codegen/names.ts';
import { layoutOf } from '../../src/maps/btf/index.ts';
import { hostLittleEndian, putBits, readBits } from '../../src/maps/codec.ts';
import * as abi from '../../src/maps/generated/abi.ts';
import * as host from '../../src/maps/generated/host.ts';
import { skip } from '../support/skip.ts';

type Fields = Record<string, unknown>;

/** Any generated codec, with its fields seen as data. */
interface AnyCodec {
  name: string;
  size: number;
  offsets: Record<string, number>;
  encode(value: Fields): Uint8Array;
  decode(bytes: Uint8Array, offset?: number): Fields;
  read(view: DataView, offset: number): Fields;
  write(view: DataView, offset: number, value: Fields): void;
  put(view: DataView, offset: number, value: Fields): void;
}

const exported: Record<string, unknown> = { ...abi, ...host };

function isCodec(value: unknown): value is AnyCodec {
  return typeof value === 'object' && value !== null && 'decode' in value;
}

const codecs = Object.values(exported).filter(isCodec);

/** Where a field can end at the latest: where the next one begins. */
function endOf(codec: AnyCodec, field: string): number {
  const start = codec.offsets[field]!;
  return Math.min(codec.size, ...Object.values(codec.offsets).filter((offset) => offset > start));
}

/** Random bytes of a struct whose text fields hold NUL-terminated ASCII, as the kernel writes them. */
function structBytes(codec: AnyCodec): fc.Arbitrary<Uint8Array> {
  const texts = Object.entries(codec.decode(new Uint8Array(codec.size))).filter(
    ([, value]) => typeof value === 'string',
  );
  return fc.uint8Array({ minLength: codec.size, maxLength: codec.size }).map((random) => {
    const bytes = Uint8Array.from(random);
    for (const [field] of texts) {
      const start = codec.offsets[field]!;
      const end = endOf(codec, field);
      bytes.set(
        bytes.subarray(start, end).map((byte) => byte & 0x7f),
        start,
      );
      // Shorter than the shortest of them: what follows a field may be padding that is not its own.
      bytes[start + 15] = 0;
    }
    return bytes;
  });
}

/** Compiles with gcc a program that prints a JSON array of the given C expressions, and runs it. */
function evaluateInC(includes: string[], expressions: string[]): number[] {
  const folder = mkdtempSync(join(tmpdir(), 'vnic-offsets-'));
  try {
    const lines = expressions.map((expression) => `printf("%lld\\n", (long long)(${expression}));`);
    const program = join(folder, 'offsets');
    writeFileSync(
      `${program}.c`,
      [...includes, '#include <stddef.h>', '#include <stdio.h>', 'int main(void) {', ...lines, 'return 0; }', ''].join(
        '\n',
      ),
    );
    execFileSync('gcc', ['-I', join(root, 'bpf'), '-o', program, `${program}.c`]);
    return execFileSync(program, { encoding: 'utf8' }).trim().split('\n').map(Number);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Compares the committed codecs with what gcc makes of the same headers. `mayGrow`: structs may be longer there. */
function compareWithGcc(selection: Selection, includes: string[], mayGrow: boolean): number {
  const checks: { expression: string; expected: number; least?: boolean }[] = [];
  for (const struct of selection.structs) {
    const codec = exported[pascalCase(struct.name)];
    assert.ok(isCodec(codec), `${struct.name} has no codec`);
    const type = `struct ${struct.name}`;
    checks.push({ expression: `sizeof(${type})`, expected: codec.size, least: mayGrow });
    const fields = fieldsOf(struct, selection.picks[struct.name]);
    const known = new Set(fields.map((field) => field.name));
    assert.deepEqual(
      Object.keys(codec.offsets).filter((name) => !known.has(name)),
      [],
    );
    for (const field of fields.filter((candidate) => candidate.bits === undefined)) {
      const offset = codec.offsets[field.name];
      if (offset === undefined && mayGrow) {
        continue;
      }
      assert.ok(offset !== undefined, `${struct.name}.${field.path} is missing`);
      checks.push({ expression: `offsetof(${type}, ${field.path})`, expected: offset });
      checks.push({ expression: `sizeof(((${type} *)0)->${field.path})`, expected: field.layout.size });
    }
  }
  for (const { name, enumerators } of selection.enums) {
    const prefix = selection.enumPrefix ?? '';
    const cut = (text: string): string => (text.toLowerCase().startsWith(prefix) ? text.slice(prefix.length) : text);
    const values = exported[pascalCase(cut(name))] as Record<string, number>;
    for (const enumerator of enumerators) {
      const expected = values[enumeratorName(cut(name), cut(enumerator.name))];
      // Header versions and end markers are allowed to differ from those of the machine that generated the file.
      if (expected !== undefined && name !== 'host_headers') {
        checks.push({ expression: enumerator.name, expected });
      } else {
        assert.ok(mayGrow, `${enumerator.name} is missing`);
      }
    }
  }
  const actual = evaluateInC(
    includes,
    checks.map((check) => check.expression),
  );
  checks.forEach(({ expression, expected, least }, index) => {
    const value = actual[index]!;
    assert.ok(
      least === true ? value >= expected : value === expected,
      `${expression}: gcc ${value}, codec ${expected}`,
    );
  });
  return checks.length;
}

describe('generated codecs', () => {
  it('give back what they were given, for any bytes', () => {
    assert.ok(codecs.length > 30);
    for (const codec of codecs) {
      fc.assert(
        fc.property(structBytes(codec), (bytes) => {
          const value = codec.decode(bytes);
          const encoded = codec.encode(value);
          assert.equal(encoded.length, codec.size, codec.name);
          assert.deepEqual(codec.decode(encoded), value, codec.name);
        }),
        { numRuns: 50 },
      );
    }
  });

  it('write a field into its own bytes and no others', () => {
    for (const codec of codecs) {
      fc.assert(
        fc.property(structBytes(codec), (bytes) => {
          const value = codec.decode(bytes);
          for (const field of Object.keys(value)) {
            const start = codec.offsets[field]!;
            const copy = new Uint8Array(codec.size);
            codec.put(new DataView(copy.buffer), 0, { [field]: value[field] });
            // `sz` is written in any case.
            const first = 'sz' in codec.offsets && field !== 'sz' ? 8 : 0;
            const written = [...copy.keys()].filter((at) => at >= first && copy[at] !== 0);
            assert.ok(
              written.every((at) => at >= start && at < endOf(codec, field)),
              `${codec.name}.${field}`,
            );
          }
        }),
        { numRuns: 20 },
      );
    }
  });

  it('read and write at an offset as they decode and encode', () => {
    const lead = 24;
    for (const codec of codecs) {
      fc.assert(
        fc.property(structBytes(codec), (bytes) => {
          const memory = new Uint8Array(lead + codec.size + 8).fill(0xaa);
          const value = codec.decode(bytes);
          codec.write(new DataView(memory.buffer), lead, value);
          assert.deepEqual(memory.slice(lead, lead + codec.size), codec.encode(value));
          assert.deepEqual(codec.decode(memory, lead), value);
          assert.deepEqual(codec.read(new DataView(memory.buffer, 8), lead - 8), value);
          assert.ok(
            [...memory.subarray(0, lead), ...memory.subarray(lead + codec.size)].every((byte) => byte === 0xaa),
          );
        }),
        { numRuns: 10 },
      );
    }
  });

  it('write ports in network byte order and counters in the order of the host', () => {
    const key = abi.VnicFlowKey.encode({
      src: { bytes: Uint8Array.from([1, 2]) },
      sport: 0x1234,
      dport: 443,
      proto: 17,
      direction: abi.VnicDirection.egress,
    });
    const expected = new Uint8Array(40);
    expected.set([1, 2]);
    expected.set([0x12, 0x34, 0x01, 0xbb, 17, 1], 32);
    assert.deepEqual(key, expected);
    const flow = new DataView(abi.VnicFlow.encode({ packets: 0x1122334455667788n }).buffer);
    assert.equal(flow.getBigUint64(abi.VnicFlow.offsets.packets, hostLittleEndian), 0x1122334455667788n);
  });

  it('write zero for every field that is left out, and for all padding', () => {
    for (const codec of codecs) {
      const bytes = codec.encode({});
      assert.ok(
        bytes.every((byte, at) => byte === 0 || ('sz' in codec.offsets && at < 8)),
        codec.name,
      );
    }
    const memory = new Uint8Array(abi.VnicRuleKey.size).fill(0xff);
    abi.VnicRuleKey.write(new DataView(memory.buffer), 0, { shape: 3 });
    assert.deepEqual(memory, abi.VnicRuleKey.encode({ shape: 3 }));
  });

  it('leave fields alone that put() was not given', () => {
    const memory = new Uint8Array(abi.VnicControl.size).fill(0xff);
    abi.VnicControl.put(new DataView(memory.buffer), 0, { queues: 32, tables: [{ leftNs: 5n }] });
    const control = abi.VnicControl.decode(memory);
    assert.equal(control.queues, 32);
    assert.equal(control.activeTable, abi.VnicNone.noTable);
    assert.equal(control.tables[0]?.leftNs, 5n);
    assert.equal(control.tables[0]?.usableQueues, 2n ** 64n - 1n);
    assert.equal(control.tables[1]?.leftNs, 2n ** 64n - 1n);
  });

  it("fill in the size of libbpf's options", () => {
    for (const codec of codecs.filter((candidate) => 'sz' in candidate.offsets)) {
      assert.equal(Object.entries(codec.decode(codec.encode({})))[0]?.[1], BigInt(codec.size), codec.name);
    }
    assert.equal(host.BpfTestRunOpts.decode(host.BpfTestRunOpts.encode({ sz: 40n })).sz, 40n);
    assert.equal(host.BpfTcHook.decode(host.BpfTcHook.encode({ ifindex: 7 })).sz, BigInt(host.BpfTcHook.size));
  });

  it('take any member of a union, and lists shorter than the array', () => {
    assert.equal(host.BpfCpumapVal.decode(host.BpfCpumapVal.encode({ bpfProgFd: 9 })).bpfProgId, 9);
    assert.equal(host.BpfCpumapVal.decode(host.BpfCpumapVal.encode({ bpfProgId: 0xffffffff })).bpfProgFd, -1);
    const { drops } = abi.VnicCpuStats.decode(abi.VnicCpuStats.encode({ drops: [1n] }));
    assert.equal(drops.length, abi.VnicDrop.reasons);
    assert.deepEqual(drops.slice(0, 2), [1n, 0n]);
    const row = abi.VnicTableRow.decode(abi.VnicTableRow.encode({ queue: [7, 8] }));
    assert.equal(row.queue.length, abi.VnicLimits.buckets);
    assert.deepEqual([...row.queue.subarray(0, 3)], [7, 8, 0]);
  });

  it('copy what they decode, so that later writes to the memory do not change it', () => {
    const memory = abi.VnicTableRow.encode({ queue: [7] });
    const key = abi.VnicAddr.encode({ bytes: Uint8Array.from([1]) });
    const row = abi.VnicTableRow.decode(memory);
    const addr = abi.VnicAddr.decode(key);
    memory.fill(0xff);
    key.fill(0xff);
    assert.equal(row.queue[0], 7);
    assert.equal(addr.bytes[0], 1);
  });

  it('refuse what a field cannot hold, and name the field', () => {
    const refused: [() => unknown, RegExp][] = [
      [() => abi.VnicFlowKey.encode({ sport: 65536 }), /vnic_flow_key\.sport: 65536 is not an integer from 0 to 65535/],
      [() => abi.VnicFlowKey.encode({ proto: -1 }), /vnic_flow_key\.proto/],
      [() => abi.VnicFlowKey.encode({ proto: 1.5 }), /vnic_flow_key\.proto/],
      [() => abi.VnicMeta.encode({ magic: Number.NaN }), /vnic_meta\.magic/],
      [() => abi.VnicFlow.encode({ tat: -1n }), /vnic_flow\.tat/],
      [() => abi.VnicFlow.encode({ tat: 2n ** 64n }), /vnic_flow\.tat/],
      [() => host.Timespec.encode({ tvSec: 2n ** 63n }), /timespec\.tv_sec/],
      [() => host.BpfCpumapVal.encode({ bpfProgFd: 2 ** 31 }), /bpf_cpumap_val\.bpf_prog\.fd/],
      [
        () => abi.VnicAddr.encode({ bytes: new Uint8Array(17) }),
        /vnic_addr\.bytes: 17 bytes were given, 16 is the most/,
      ],
      [
        () => abi.VnicCpuStats.encode({ unparsed: Array<bigint>(99).fill(1n) }),
        /vnic_cpu_stats\.unparsed: 99 elements/,
      ],
      [() => abi.VnicTableRow.encode({ queue: [70000] }), /vnic_table_row\.queue/],
      [() => host.Ifreq.encode({ name: 'sixteen-letters-' }), /ifreq\.ifr_ifrn\.ifrn_name/],
      [() => host.Ifreq.encode({ name: 'a\0b' }), /ifreq\.ifr_ifrn\.ifrn_name/],
      [() => host.BpfProgInfo.encode({ gplCompatible: 2 }), /bpf_prog_info\.gpl_compatible/],
    ];
    for (const [work, message] of refused) {
      assert.throws(work, { name: 'VnicError', code: 'failed', message });
    }
    assert.throws(() => abi.VnicAddr.decode(new Uint8Array(15)), { message: /vnic_addr needs 16 bytes, but only 15/ });
    assert.throws(() => abi.VnicAddr.decode(new Uint8Array(16), 8), {
      message: /vnic_addr needs 16 bytes, but only 8/,
    });
  });

  it('read names up to the NUL, in UTF-8', () => {
    assert.equal(host.Ifreq.decode(host.Ifreq.encode({ name: 'größe0' })).name, 'größe0');
    const full = new Uint8Array(host.Ifreq.size).fill(0x61, 0, 16);
    assert.equal(host.Ifreq.decode(full).name, 'a'.repeat(16));
    assert.equal(host.BpfMapInfo.decode(host.BpfMapInfo.encode({ name: 'fifteen_letters' })).name, 'fifteen_letters');
  });

  it('write a bit field and leave the bits beside it', () => {
    const field = fc.tuple(fc.integer({ min: 0, max: 7 }), fc.integer({ min: 1, max: 32 }));
    fc.assert(
      fc.property(
        field,
        fc.uint8Array({ minLength: 8, maxLength: 8 }),
        fc.bigInt(0n, 2n ** 32n - 1n),
        ([first, width], bytes, raw) => {
          const before = Uint8Array.from(bytes);
          const view = new DataView(Uint8Array.from(bytes).buffer);
          const value = Number(BigInt.asUintN(width, raw));
          putBits(view, 1, first, width, value, 'bits');
          assert.equal(readBits(view, 1, first, width), value);
          putBits(view, 1, first, width, readBits(new DataView(before.buffer), 1, first, width), 'bits');
          assert.deepEqual(new Uint8Array(view.buffer), before);
        },
      ),
    );
  });
});

describe('names of generated types', () => {
  it('lose the words of their enum', () => {
    assert.equal(enumeratorName('vnic_unparsed', 'VNIC_UNPARSED_BAD_IHL'), 'badIhl');
    assert.equal(enumeratorName('vnic_unparsed', 'VNIC_PARSED'), 'parsed');
    assert.equal(enumeratorName('bpf_map_type', 'BPF_MAP_TYPE_LRU_HASH'), 'lruHash');
    assert.equal(enumeratorName('layer', 'LAYER_2'), 'layer2');
    assert.equal(enumeratorName('layer', 'LAYER'), 'layer');
    assert.equal(camelCase('last_seen_ns'), 'lastSeenNs');
    assert.equal(pascalCase('__sk_buff'), 'SkBuff');
  });
});

describe('scripts/generate-codecs.ts', () => {
  const script = join(root, 'scripts', 'generate-codecs.ts');
  const generate = (...options: string[]) => spawnSync(process.execPath, [script, ...options], { encoding: 'utf8' });
  let clang = '';

  before(function () {
    const [first] = clangs();
    if (first === undefined) {
      skip(this, 'clang is not installed');
    }
    clang = first;
  });

  it('gives every ABI field the offset, size and value that gcc gives it', function () {
    if (spawnSync('gcc', ['--version']).status !== 0) {
      skip(this, 'gcc is not installed');
    }
    const checks = compareWithGcc(abiSelection(clang), ['#include <linux/types.h>', '#include "vnic_abi.h"'], false);
    assert.ok(checks > 200);
  });

  it("gives every field of the kernel's and libbpf's structs the offset, size and value that gcc gives it", function () {
    if (spawnSync('gcc', ['--version']).status !== 0) {
      skip(this, 'gcc is not installed');
    }
    const checks = compareWithGcc(hostSelection(clang), ['#include "host_types.c"'], true);
    assert.ok(checks > 500);
  });

  it('writes the same text with every clang of this machine', function () {
    const others = clangs().filter((name) => name !== clang);
    if (others.length === 0) {
      skip(this, `${clang} is the only one`);
    }
    for (const other of others) {
      assert.equal(emitFile(abiSelection(other)), emitFile(abiSelection(clang)), other);
      assert.equal(emitFile(hostSelection(other)), emitFile(hostSelection(clang)), other);
    }
  });

  it('covers every struct and enum of the ABI header', () => {
    const header = readFileSync(join(root, 'bpf', 'vnic_abi.h'), 'utf8');
    const names = [...header.matchAll(/\b(?:struct|enum) (vnic_\w+)/g)].map((match) => match[1]!);
    for (const name of new Set(names)) {
      assert.ok(pascalCase(name) in abi, `${name} is not in src/maps/generated/abi.ts`);
    }
  });

  it('finds a file that is not up to date with --check', () => {
    const folder = mkdtempSync(join(tmpdir(), 'vnic-generated-'));
    try {
      assert.equal(generate('--out', folder).status, 0);
      assert.equal(generate('--check', '--out', folder).status, 0);
      const path = join(folder, 'abi.ts');
      writeFileSync(path, readFileSync(path, 'utf8').replace('size: 16,', 'size: 17,'));
      const result = generate('--check', '--out', folder);
      assert.equal(result.status, 1);
      assert.match(
        result.stderr,
        /abi\.ts is not up to date: line \d+\n {2}committed: {3}size: 17,\n {2}generated: {3}size: 16,/,
      );
      rmSync(path);
      assert.equal(generate('--check', '--out', folder).status, 1);
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  });

  it('refuses a field that no codec can carry, and names it', () => {
    const btf = compileBtf(clang, 'struct vnic_odd { int fine; __int128 wide; };\nstruct vnic_odd odd;\n');
    const layout = layoutOf(btf, btf.idOf('vnic_odd', 'struct'));
    assert.ok(layout.kind === 'struct');
    assert.throws(
      () => emitFile({ structs: [layout], enums: [], picks: {} }),
      /wide: integer of 128 bits is not supported/,
    );
  });
});
