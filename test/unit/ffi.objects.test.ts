// SPDX-License-Identifier: Apache-2.0
/** What every FFI adapter must do with libbpf's objects and messages. */
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

import { describeEachAdapter, readU64, requireRoot, u32Bytes } from '../support/ffi.ts';
import { skip } from '../support/skip.ts';

const bpfMapTypeArray = 2;

const objectSource = `
typedef unsigned int u32;
#define SEC(name) __attribute__((section(name), used))
struct {
  int (*type)[2];
  u32 *key;
  unsigned long *value;
  int (*max_entries)[4];
} cells SEC(".maps");
int threshold = 42;
SEC("xdp") int good(void *ctx) { return threshold; }
SEC("xdp") __attribute__((naked)) int rejected(void *ctx) { asm volatile("r0 = r9; exit"); }
char LICENSE[] SEC("license") = "GPL";
`;

function isMissingProgram(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'ENOENT';
}

/** Compiles the object with the first clang found; false where there is none. */
function compileObject(path: string): boolean {
  for (const clang of [process.env['CLANG'] ?? 'clang', 'clang-19', 'clang-14']) {
    try {
      execFileSync(clang, ['-target', 'bpf', '-O2', '-g', '-x', 'c', '-c', '-', '-o', path], {
        input: objectSource,
        stdio: ['pipe', 'ignore', 'pipe'],
      });
      return true;
    } catch (error) {
      if (!isMissingProgram(error)) throw error;
    }
  }
  return false;
}

describeEachAdapter('libbpf objects and messages', (fixture) => {
  const { adapter } = fixture;
  let objectPath: string | undefined;

  function compiledObject(context: Mocha.Context): string {
    if (objectPath === undefined) {
      const path = join(fixture.folder, 'contract.o');
      if (!compileObject(path)) skip(context, 'clang is not installed');
      objectPath = path;
    }
    return objectPath;
  }

  function openObject(context: Mocha.Context): bigint {
    const path = compiledObject(context);
    const { native } = fixture;
    return native.check(native.libbpf.bpf_object__open_file(path, null), 'bpf_object__open_file', path);
  }

  it('returns u32 above 2^31 as a positive number', function () {
    const { native } = fixture;
    const object = openObject(this);
    try {
      const program = native.check(
        native.libbpf.bpf_object__find_program_by_name(object, 'good'),
        'bpf_object__find_program_by_name',
      );
      assert.equal(native.libbpf.bpf_program__set_flags(program, 0xffff_fff0), 0);
      assert.equal(native.libbpf.bpf_program__flags(program), 0xffff_fff0);
    } finally {
      native.libbpf.bpf_object__close(object);
    }
  });

  it('opens an object from a file and from memory and walks its maps and programs', function () {
    const { native } = fixture;
    const image = readFileSync(compiledObject(this));
    const fromFile = openObject(this);
    const fromMemory = native.check(
      native.libbpf.bpf_object__open_mem(image, image.length, null),
      'bpf_object__open_mem',
    );
    const { libbpf } = native;
    try {
      for (const object of [fromFile, fromMemory]) {
        const programs: (string | null)[] = [];
        for (
          let program = libbpf.bpf_object__next_program(object, 0n);
          program !== 0n;
          program = libbpf.bpf_object__next_program(object, program)
        ) {
          programs.push(libbpf.bpf_program__name(program));
        }
        assert.deepEqual(programs, ['good', 'rejected']);
        const maps: (string | null)[] = [];
        for (
          let map = libbpf.bpf_object__next_map(object, 0n);
          map !== 0n;
          map = libbpf.bpf_object__next_map(object, map)
        ) {
          maps.push(libbpf.bpf_map__name(map));
        }
        assert.equal(maps.length, 2);
        assert.ok(maps.includes('cells'));
        const cells = libbpf.bpf_object__find_map_by_name(object, 'cells');
        assert.deepEqual(
          [libbpf.bpf_map__type(cells), libbpf.bpf_map__key_size(cells), libbpf.bpf_map__value_size(cells)],
          [bpfMapTypeArray, 4, 8],
        );
        assert.equal(libbpf.bpf_object__find_map_by_name(object, 'nothing'), 0n);
        assert.notEqual(libbpf.bpf_object__btf(object), 0n);
      }
    } finally {
      libbpf.bpf_object__close(fromFile);
      libbpf.bpf_object__close(fromMemory);
    }
  });

  it('reads and sets the initial value of global data', function () {
    const { native } = fixture;
    const object = openObject(this);
    const { libbpf } = native;
    try {
      const data = native.check(libbpf.bpf_object__find_map_by_name(object, '.data'), 'bpf_object__find_map_by_name');
      const size = native.memory.alloc(8);
      const read = (): number => {
        const address = native.check(libbpf.bpf_map__initial_value(data, size), 'bpf_map__initial_value');
        return new Int32Array(native.memory.view(address, 4))[0]!;
      };
      assert.equal(read(), 42);
      assert.equal(readU64(size), 4n);
      assert.equal(libbpf.bpf_map__set_initial_value(data, u32Bytes(7), 4), 0);
      assert.equal(read(), 7);
    } finally {
      libbpf.bpf_object__close(object);
    }
  });

  it('loads what is not switched off, and hands over the log of what the verifier rejects', function () {
    const { native } = fixture;
    requireRoot(this);
    const { libbpf } = native;
    const texts: string[] = [];
    native.setPrint((_level, text) => texts.push(text));
    const rejected = openObject(this);
    try {
      assert.equal(libbpf.bpf_object__load(rejected), -13);
      assert.match(texts.join(''), /R9 !read_ok/);
    } finally {
      libbpf.bpf_object__close(rejected);
    }

    const object = openObject(this);
    try {
      const program = libbpf.bpf_object__find_program_by_name(object, 'rejected');
      assert.equal(libbpf.bpf_program__set_autoload(program, false), 0);
      native.check(libbpf.bpf_object__load(object), 'bpf_object__load');
      const good = libbpf.bpf_object__find_program_by_name(object, 'good');
      assert.ok(native.check(libbpf.bpf_program__fd(good), 'bpf_program__fd') >= 0);
      assert.ok(libbpf.bpf_program__fd(program) < 0);
    } finally {
      libbpf.bpf_object__close(object);
    }
  });

  it('hands on libbpf messages with all their arguments', function () {
    const { native } = fixture;
    const messages: { level: number; text: string }[] = [];
    native.setPrint((level, text) => messages.push({ level, text }));
    assert.equal(native.libbpf.bpf_object__open_file('/nonexistent.o', null), 0n);
    assert.ok(
      messages.some(
        ({ level, text }) =>
          level === 0 && text === 'libbpf: elf: failed to open /nonexistent.o: No such file or directory\n',
      ),
      JSON.stringify(messages),
    );

    // More arguments than fit into registers: the rest comes from the stack.
    native.libbpf.bpf_object__close(openObject(this));
    const section = messages.find(({ text }) => / \.maps, size/.test(text));
    assert.match(section?.text ?? '', /^libbpf: elf: section\(\d+\) \.maps, size 32, link 0, flags 3, type=1\n$/);
  });

  it('hands on a message longer than its buffer', () => {
    const { native } = fixture;
    const path = `/${'long-'.repeat(1500)}`;
    const texts: string[] = [];
    native.setPrint((_level, text) => texts.push(text));
    native.libbpf.bpf_object__open_file(path, null);
    assert.ok(texts.includes(`libbpf: loading object from ${path}\n`));
  });

  it('stops printing when the handler is taken away', () => {
    const { native } = fixture;
    const texts: string[] = [];
    native.setPrint((_level, text) => texts.push(text));
    native.libbpf.bpf_object__open_file('/nonexistent.o', null);
    const before = texts.length;
    assert.ok(before > 0);
    native.setPrint(null);
    native.libbpf.bpf_object__open_file('/nonexistent.o', null);
    assert.equal(texts.length, before);
  });

  it('neither keeps the process alive nor dies of an error in the print handler', function () {
    this.timeout(60_000);
    const module = new URL('../../src/loader/ffi/index.ts', import.meta.url).href;
    const script = `
      import { loadNative } from '${module}';
      const native = loadNative({ adapter: '${adapter}' });
      native.setPrint(() => { throw new Error('handler trouble'); });
      native.libbpf.bpf_object__open_file('/nonexistent.o', null);
      console.log('last line');`;
    const child = spawnSync(process.execPath, ['--input-type=module-typescript', '-e', script], {
      encoding: 'utf8',
      timeout: 50_000,
    });
    assert.deepEqual([child.status, child.signal, child.stdout], [0, null, 'last line\n'], child.stderr);
    assert.match(child.stderr, /handler trouble/);
  });
});
