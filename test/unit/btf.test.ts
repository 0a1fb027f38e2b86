// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import fc from 'fast-check';
import { clangs, compileObject } from '../../scripts/codegen/compile.ts';
import { VnicError } from '../../src/errors.ts';
import {
  type Btf,
  type BtfType,
  describeLayout,
  elfSection,
  elfSections,
  type Layout,
  layoutOf,
  mapTypes,
  parseBtf,
  parseObjectBtf,
  sameLayout,
} from '../../src/maps/btf/index.ts';
import { skip } from '../support/skip.ts';

const vmlinux = '/sys/kernel/btf/vmlinux';

const source = `
#include <linux/types.h>
enum color { RED, GREEN = 0xffffffff };
struct inner { __be16 port; __u8 bytes[6]; };
struct outer {
  const volatile __u32 first;
  _Bool flag;
  char name[16];
  struct inner list[3];
  union { __u64 wide; struct { __u16 low; __s16 high; } halves; };
  enum color color;
  void *pointer;
  int (*function)(struct outer *self, long value);
  __u32 narrow : 3, wider : 13;
  double real;
};
struct outer outer;
struct { int (*type)[2]; struct inner *key; struct outer *value; } pairs __attribute__((section(".maps"), used));
struct { int (*type)[9]; int (*key_size)[4]; struct inner *value; } sized __attribute__((section(".maps"), used));
`;

/** The layouts of structs with the given bodies. */
function layoutsOfBodies(clang: string, bodies: readonly string[]): Layout[] {
  const structs = bodies.map(
    (body, index) => `struct x${index} { ${body.replace('named', `y${index}`)} } x${index};\n`,
  );
  const btf = parseObjectBtf(compileObject(clang, `#include <linux/types.h>\n${structs.join('')}`));
  return bodies.map((_, index) => layoutOf(btf, btf.idOf(`x${index}`, 'struct')));
}

/** Parses, resolves and describes everything. */
function readAll(bytes: Uint8Array): Btf {
  const btf = parseBtf(bytes);
  btf.types.forEach((type, id) => {
    if (type.kind === 'struct' || type.kind === 'union' || type.kind === 'array') {
      describeLayout(layoutOf(btf, id));
    }
  });
  return btf;
}

/** Nothing but a VnicError may come out of damaged input. Returns whether one did. */
function refuses(work: () => void): boolean {
  try {
    work();
    return false;
  } catch (error) {
    assert.ok(error instanceof VnicError, `not a VnicError: ${String(error)}`);
    assert.equal(error.code, 'failed');
    return true;
  }
}

describe('BTF', () => {
  let clang = '';
  let object: Uint8Array = new Uint8Array();
  let btf: Btf;

  before(function () {
    const [first] = clangs();
    if (first === undefined) {
      skip(this, 'clang is not installed');
    }
    clang = first;
    object = compileObject(clang, source);
    btf = parseObjectBtf(object);
  });

  it('describes a struct with offsets, byte orders, unions and bit fields as C does', () => {
    assert.equal(
      describeLayout(layoutOf(btf, btf.idOf('outer', 'struct'))),
      [
        'struct outer { /* 96 bytes */',
        '  /* 0 */ __u32 first;',
        '  /* 4 */ _Bool flag;',
        '  /* 5 */ char name[16];',
        '  /* 22 */ struct inner { /* 8 bytes */',
        '    /* 22 */ __be16 port;',
        '    /* 24 */ __u8 bytes[6];',
        '  } list[3];',
        '  /* 48 */ union { /* 8 bytes */',
        '    /* 48 */ __u64 wide;',
        '    /* 48 */ struct { /* 4 bytes */',
        '      /* 48 */ __u16 low;',
        '      /* 50 */ __s16 high;',
        '    } halves;',
        '  };',
        '  /* 56 */ enum color color;',
        '  /* 64 */ void *pointer;',
        '  /* 72 */ void *function;',
        '  /* 80 */ __u32 narrow:3;',
        '  /* 80 */ __u32 wider:13;',
        '  /* 88 */ double real;',
        '}',
      ].join('\n'),
    );
  });

  it('knows big-endian integers, signs and the values of enumerators', () => {
    const outer = layoutOf(btf, btf.idOf('outer', 'struct'));
    assert.ok(outer.kind === 'struct');
    const color = outer.members.find((member) => member.name === 'color')?.layout;
    assert.ok(color?.kind === 'enum');
    assert.deepEqual(color.enumerators, [
      { name: 'RED', value: 0n },
      { name: 'GREEN', value: 0xffffffffn },
    ]);
    const inner = layoutOf(btf, btf.idOf('inner', 'struct'));
    assert.ok(inner.kind === 'struct');
    const port = inner.members[0]?.layout;
    assert.ok(port?.kind === 'integer');
    assert.equal(port.byteOrder, 'big');
    assert.equal(port.signed, false);
  });

  it('reads the same layouts from objects of either byte order', () => {
    const plain = source.replace('__u32 narrow : 3, wider : 13;', '__u32 bits;');
    const little = parseObjectBtf(compileObject(clang, plain, 'bpfel'));
    const big = parseObjectBtf(compileObject(clang, plain, 'bpfeb'));
    assert.equal(little.littleEndian, true);
    assert.equal(big.littleEndian, false);
    const outer = layoutOf(little, little.idOf('outer', 'struct'));
    assert.deepEqual(layoutOf(big, big.idOf('outer', 'struct')), outer);
  });

  it('finds the key and value types of a declared map', () => {
    assert.deepEqual(mapTypes(btf, 'pairs'), {
      keyTypeId: btf.idOf('inner', 'struct'),
      valueTypeId: btf.idOf('outer', 'struct'),
    });
    assert.deepEqual(mapTypes(btf, 'sized'), { keyTypeId: undefined, valueTypeId: btf.idOf('inner', 'struct') });
    assert.throws(() => mapTypes(btf, 'absent'), { code: 'not_found', message: /no map named absent/ });
  });

  it('takes layouts as the same only if the bytes mean the same', () => {
    const same = [
      '__u32 a; __u16 b[4]; struct { __be32 c; } d;',
      'unsigned int a; unsigned short b[4]; struct named { __be32 c; } d;',
    ];
    const different = [
      '__u32 z; __u16 b[4]; struct { __be32 c; } d;',
      '__s32 a; __u16 b[4]; struct { __be32 c; } d;',
      '__u32 a; __u16 b[4]; struct { __u32 c; } d;',
      '__u32 a; __u16 b[4]; struct { __be16 c, e; } d;',
      '__u32 a; __u64 b; struct { __be32 c; } d;',
      '__u16 b[4]; __u32 a; struct { __be32 c; } d;',
      '__u32 a; __u16 b[4]; struct { __be32 c; } d; __u32 e;',
      '__u32 a; __u8 b[8]; struct { __be32 c; } d;',
      '__u32 a : 31; __u16 b[4]; struct { __be32 c; } d;',
      '__u32 a; __u16 b[4]; union { __be32 c; } d;',
    ];
    const [base, alike, ...others] = layoutsOfBodies(clang, [...same, ...different]);
    assert.ok(base !== undefined && alike !== undefined);
    assert.equal(sameLayout(base, alike), true);
    assert.equal(sameLayout(alike, base), true);
    assert.equal(others.length, different.length);
    others.forEach((other, index) => {
      assert.equal(sameLayout(base, other), false, different[index]);
      assert.equal(sameLayout(other, base), false, different[index]);
      assert.equal(sameLayout(other, other), true, different[index]);
    });
  });

  it('refuses BTF that was cut off at any byte', () => {
    const bytes = elfSection(object, '.BTF')!;
    for (let length = 0; length < bytes.length; length++) {
      assert.ok(
        refuses(() => readAll(bytes.subarray(0, length))),
        `${length} of ${bytes.length} bytes were taken for whole`,
      );
    }
  });

  it('refuses an object that was cut off at any byte, or finds its BTF whole', () => {
    const whole = elfSection(object, '.BTF')!;
    for (let length = 0; length < object.length; length++) {
      refuses(() => {
        assert.deepEqual(elfSection(object.subarray(0, length), '.BTF'), whole);
      });
    }
    assert.ok(refuses(() => elfSections(object.subarray(0, object.length / 2))));
  });

  it('answers damaged BTF with an error or a reading, never a crash', () => {
    const bytes = elfSection(object, '.BTF')!;
    const damage = fc.array(fc.tuple(fc.nat(bytes.length - 1), fc.nat(255)), { minLength: 1, maxLength: 8 });
    fc.assert(
      fc.property(damage, (changes) => {
        const copy = Uint8Array.from(bytes);
        for (const [at, value] of changes) {
          copy[at] = value;
        }
        refuses(() => readAll(copy));
      }),
      { numRuns: 2000 },
    );
  });

  it('refuses a type that contains itself', () => {
    const bytes = elfSection(compileObject(clang, 'struct loop { struct loop *next; }; struct loop loop;'), '.BTF')!;
    const pointer = parseBtf(bytes).types.findIndex((type) => type.kind === 'ptr');
    const copy = Uint8Array.from(bytes);
    const view = new DataView(copy.buffer);
    const little = copy[0] === 0x9f;
    const loop = parseBtf(bytes).idOf('loop', 'struct');
    // Its one member stands behind its 12 bytes: name, type, offset.
    const words = Array.from({ length: copy.length / 4 - 2 }, (_, index) => index * 4);
    const member = words.find(
      (at) => at >= 36 && view.getUint32(at + 4, little) === pointer && view.getUint32(at + 8, little) === 0,
    );
    assert.ok(member !== undefined);
    view.setUint32(member + 4, loop, little);
    assert.throws(() => layoutOf(parseBtf(copy), loop), { code: 'failed', message: /contains itself/ });
  });

  it('says what is wrong with files that are not BPF objects', () => {
    assert.throws(() => parseObjectBtf(Buffer.from('#!/bin/sh\n')), { message: /does not begin with an ELF header/ });
    assert.throws(() => parseBtf(Buffer.alloc(64)), { message: /magic number/ });
    assert.throws(() => btf.idOf('missing', 'struct'), { message: 'The BTF has no struct named missing.' });
    assert.throws(() => parseObjectBtf(readFileSync(process.execPath)), { message: /no \.BTF section/ });
  });

  describe('of the running kernel', () => {
    let kernel: Btf;

    before(function () {
      if (!existsSync(vmlinux)) {
        skip(this, `the kernel has no ${vmlinux}`);
      }
      kernel = parseBtf(readFileSync(vmlinux));
    });

    it('is read as bpftool reads it: every type, member and enumerator', function () {
      if (spawnSync('bpftool', ['version']).status !== 0) {
        skip(this, 'bpftool is not installed');
      }
      const text = execFileSync('bpftool', ['-j', 'btf', 'dump', 'file', vmlinux, 'format', 'raw'], {
        maxBuffer: 2 ** 30,
        encoding: 'utf8',
      });
      const { types } = JSON.parse(text) as { types: BpftoolType[] };
      assert.equal(kernel.types.length - 1, types.length);
      for (const expected of types) {
        const shown =
          expected.kind === 'ENUM' ? { ...expected, values: expected.values?.map(withoutWideValue) } : expected;
        assert.deepEqual(likeBpftool(expected.id, kernel.type(expected.id)), shown);
      }
    }).timeout(0);

    it('has a layout for each of its structs, with no member outside', () => {
      let structs = 0;
      kernel.types.forEach((type, id) => {
        if (type.kind === 'struct') {
          assert.equal(layoutOf(kernel, id).size, type.size);
          structs += 1;
        }
      });
      assert.ok(structs > 1000);
    }).timeout(0);
  });
});

interface BpftoolType {
  id: number;
  kind: string;
  values?: BpftoolValue[];
}

interface BpftoolValue {
  name: string;
  val: number;
}

/** bpftool prints unsigned 32-bit enumerators above 2^31 widened by their sign, beyond what a JSON number holds. */
function withoutWideValue({ name, val }: BpftoolValue) {
  return { name, val: val > 0x7fffffff ? 'above 2^31' : val };
}

/** A type as `bpftool -j btf dump … format raw` prints it. */
function likeBpftool(id: number, type: BtfType): Record<string, unknown> {
  const anonymous = (name: string): string => (name === '' ? '(anon)' : name);
  const head = { id, kind: type.kind.replaceAll(/([A-Z])/g, '_$1').toUpperCase(), name: anonymous(type.name) };
  const linkage = ['static', 'global', 'extern'];
  switch (type.kind) {
    case 'int':
      return {
        ...head,
        size: type.size,
        bits_offset: type.bitOffset,
        nr_bits: type.bits,
        encoding: type.encoding === 'none' ? '(none)' : type.encoding.toUpperCase(),
      };
    case 'float':
      return { ...head, size: type.size };
    case 'array':
      return { ...head, type_id: type.elementTypeId, index_type_id: type.indexTypeId, nr_elems: type.length };
    case 'struct':
    case 'union':
      return {
        ...head,
        size: type.size,
        vlen: type.members.length,
        members: type.members.map((member) => ({
          name: anonymous(member.name),
          type_id: member.typeId,
          bits_offset: member.bitOffset,
          ...(member.bitWidth > 0 ? { bitfield_size: member.bitWidth } : {}),
        })),
      };
    case 'enum':
    case 'enum64':
      return {
        ...head,
        encoding: type.signed ? 'SIGNED' : 'UNSIGNED',
        size: type.size,
        vlen: type.enumerators.length,
        values: type.enumerators
          .map(({ name, value }) => ({ name, val: Number(value) }))
          .map((value) => (type.kind === 'enum' ? withoutWideValue(value) : value)),
      };
    case 'fwd':
      return { ...head, fwd_kind: type.of };
    case 'func':
      return { ...head, type_id: type.typeId, linkage: linkage[type.linkage] };
    case 'funcProto':
      return {
        ...head,
        ret_type_id: type.returnTypeId,
        vlen: type.parameters.length,
        params: type.parameters.map(({ name, typeId }) => ({ name: anonymous(name), type_id: typeId })),
      };
    case 'var':
      return { ...head, type_id: type.typeId, linkage: linkage[type.linkage] };
    case 'datasec':
      return {
        ...head,
        size: type.size,
        vlen: type.variables.length,
        vars: type.variables.map(({ typeId, offset, size }) => ({ type_id: typeId, offset, size })),
      };
    case 'declTag':
      return { ...head, type_id: type.typeId, component_idx: type.componentIndex };
    case 'void':
      return head;
    default:
      return { ...head, type_id: type.typeId };
  }
}
