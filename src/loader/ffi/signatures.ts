// SPDX-License-Identifier: Apache-2.0
/**
 * Every native function the product calls, declared once as data: `[result, parameters, how failure shows]`.
 * Both adapters bind from these tables and `types.ts` derives the TypeScript function types from them.
 * Source: libbpf 1.1 `bpf/libbpf.h` and `bpf/bpf.h`, POSIX and Linux man pages.
 *
 * `open`, `fcntl`, `ioctl` and `syscall` are variadic in C and bound with fixed parameters here: on Linux x86-64 and arm64 both
 * conventions put the first eight (six) integer arguments into the same registers.
 * libbpf's enums are `u32`: none of their values is negative.
 */

/**
 * Types that cross the seam. `ptr` is an opaque native address (0n = NULL), `buf` memory owned by JavaScript and passed
 * by its address, in and out (null = NULL), `cstr` a returned `const char *` (null = NULL), `size` a `size_t`, `ssize`
 * an `ssize_t`.
 */
export type NativeType =
  | 'void'
  | 'bool'
  | 'i32'
  | 'u32'
  | 'i64'
  | 'u64'
  | 'size'
  | 'ssize'
  | 'ptr'
  | 'buf'
  | 'str'
  | 'cstr'
  | 'print_callback';

/**
 * How a function reports failure: `errno` returns it negated (libbpf 1.x); the others return the named value and set
 * `errno`; `never` has no failure to report.
 */
export type Failure = 'errno' | 'minus_one' | 'zero' | 'null' | 'map_failed' | 'never';

export type Signature = readonly [result: NativeType, parameters: readonly NativeType[], failure: Failure];
export type SignatureTable = Readonly<Record<string, Signature>>;

export const libbpfSignatures = {
  libbpf_set_print: ['ptr', ['print_callback'], 'never'],
  libbpf_version_string: ['cstr', [], 'never'],
  libbpf_num_possible_cpus: ['i32', [], 'errno'],
  libbpf_probe_bpf_prog_type: ['i32', ['u32', 'buf'], 'errno'],
  libbpf_probe_bpf_map_type: ['i32', ['u32', 'buf'], 'errno'],
  libbpf_probe_bpf_helper: ['i32', ['u32', 'u32', 'buf'], 'errno'],

  bpf_object__open_file: ['ptr', ['str', 'buf'], 'null'],
  bpf_object__open_mem: ['ptr', ['buf', 'size', 'buf'], 'null'],
  bpf_object__load: ['i32', ['ptr'], 'errno'],
  bpf_object__close: ['void', ['ptr'], 'never'],
  bpf_object__find_map_by_name: ['ptr', ['ptr', 'str'], 'null'],
  bpf_object__find_program_by_name: ['ptr', ['ptr', 'str'], 'null'],
  /** 0n both starts and ends the iteration, so 0n is no failure. */
  bpf_object__next_map: ['ptr', ['ptr', 'ptr'], 'never'],
  /** 0n both starts and ends the iteration, so 0n is no failure. */
  bpf_object__next_program: ['ptr', ['ptr', 'ptr'], 'never'],
  /** `struct btf *`, owned by the object; 0n when the object has no BTF. */
  bpf_object__btf: ['ptr', ['ptr'], 'never'],

  bpf_map__name: ['cstr', ['ptr'], 'null'],
  bpf_map__fd: ['i32', ['ptr'], 'errno'],
  bpf_map__type: ['u32', ['ptr'], 'never'],
  bpf_map__set_type: ['i32', ['ptr', 'u32'], 'errno'],
  bpf_map__max_entries: ['u32', ['ptr'], 'never'],
  bpf_map__set_max_entries: ['i32', ['ptr', 'u32'], 'errno'],
  bpf_map__key_size: ['u32', ['ptr'], 'never'],
  bpf_map__value_size: ['u32', ['ptr'], 'never'],
  bpf_map__map_flags: ['u32', ['ptr'], 'never'],
  bpf_map__set_map_flags: ['i32', ['ptr', 'u32'], 'errno'],
  bpf_map__reuse_fd: ['i32', ['ptr', 'i32'], 'errno'],
  /** The second parameter receives the size in bytes (a u64). */
  bpf_map__initial_value: ['ptr', ['ptr', 'buf'], 'null'],
  bpf_map__set_initial_value: ['i32', ['ptr', 'buf', 'size'], 'errno'],
  bpf_map__set_autocreate: ['i32', ['ptr', 'bool'], 'errno'],
  bpf_map__inner_map: ['ptr', ['ptr'], 'null'],

  bpf_program__name: ['cstr', ['ptr'], 'null'],
  bpf_program__fd: ['i32', ['ptr'], 'errno'],
  bpf_program__set_autoload: ['i32', ['ptr', 'bool'], 'errno'],
  bpf_program__type: ['u32', ['ptr'], 'never'],
  bpf_program__set_type: ['i32', ['ptr', 'u32'], 'errno'],
  bpf_program__set_expected_attach_type: ['i32', ['ptr', 'u32'], 'errno'],
  bpf_program__flags: ['u32', ['ptr'], 'never'],
  bpf_program__set_flags: ['i32', ['ptr', 'u32'], 'errno'],

  bpf_map_create: ['i32', ['u32', 'str', 'u32', 'u32', 'u32', 'buf'], 'errno'],
  bpf_map_lookup_elem: ['i32', ['i32', 'buf', 'buf'], 'errno'],
  bpf_map_update_elem: ['i32', ['i32', 'buf', 'buf', 'u64'], 'errno'],
  bpf_map_delete_elem: ['i32', ['i32', 'buf'], 'errno'],
  bpf_map_get_next_key: ['i32', ['i32', 'buf', 'buf'], 'errno'],
  bpf_map_lookup_batch: ['i32', ['i32', 'buf', 'buf', 'buf', 'buf', 'buf', 'buf'], 'errno'],
  bpf_map_lookup_and_delete_batch: ['i32', ['i32', 'buf', 'buf', 'buf', 'buf', 'buf', 'buf'], 'errno'],
  bpf_map_update_batch: ['i32', ['i32', 'buf', 'buf', 'buf', 'buf'], 'errno'],
  bpf_map_delete_batch: ['i32', ['i32', 'buf', 'buf', 'buf'], 'errno'],

  bpf_obj_pin: ['i32', ['i32', 'str'], 'errno'],
  bpf_obj_get: ['i32', ['str'], 'errno'],
  bpf_prog_get_fd_by_id: ['i32', ['u32'], 'errno'],
  bpf_prog_get_next_id: ['i32', ['u32', 'buf'], 'errno'],
  bpf_map_get_fd_by_id: ['i32', ['u32'], 'errno'],
  bpf_link_get_fd_by_id: ['i32', ['u32'], 'errno'],
  bpf_link_get_next_id: ['i32', ['u32', 'buf'], 'errno'],
  bpf_btf_get_fd_by_id: ['i32', ['u32'], 'errno'],
  /** The third parameter is the size of the second in bytes (a u32), in and out. */
  bpf_obj_get_info_by_fd: ['i32', ['i32', 'buf', 'buf'], 'errno'],

  bpf_link_create: ['i32', ['i32', 'i32', 'u32', 'buf'], 'errno'],
  bpf_link_update: ['i32', ['i32', 'i32', 'buf'], 'errno'],
  bpf_link_detach: ['i32', ['i32'], 'errno'],
  bpf_prog_test_run_opts: ['i32', ['i32', 'buf'], 'errno'],
  bpf_enable_stats: ['i32', ['i32'], 'errno'],

  bpf_xdp_attach: ['i32', ['i32', 'i32', 'u32', 'buf'], 'errno'],
  bpf_xdp_detach: ['i32', ['i32', 'u32', 'buf'], 'errno'],
  bpf_xdp_query: ['i32', ['i32', 'i32', 'buf'], 'errno'],
  bpf_xdp_query_id: ['i32', ['i32', 'i32', 'buf'], 'errno'],
  bpf_tc_hook_create: ['i32', ['buf'], 'errno'],
  bpf_tc_hook_destroy: ['i32', ['buf'], 'errno'],
  bpf_tc_attach: ['i32', ['buf', 'buf'], 'errno'],
  bpf_tc_detach: ['i32', ['buf', 'buf'], 'errno'],
  bpf_tc_query: ['i32', ['buf', 'buf'], 'errno'],
} as const satisfies SignatureTable;

export const libcSignatures = {
  open: ['i32', ['str', 'i32', 'u32'], 'minus_one'],
  close: ['i32', ['i32'], 'minus_one'],
  fcntl: ['i32', ['i32', 'i32', 'i32'], 'minus_one'],
  ioctl: ['i32', ['i32', 'u64', 'buf'], 'minus_one'],
  flock: ['i32', ['i32', 'i32'], 'minus_one'],
  socket: ['i32', ['i32', 'i32', 'i32'], 'minus_one'],
  /** The last parameter is the size of the one before it in bytes (a u32), in and out. */
  getsockopt: ['i32', ['i32', 'i32', 'i32', 'buf', 'buf'], 'minus_one'],
  sendto: ['ssize', ['i32', 'buf', 'size', 'i32', 'buf', 'u32'], 'minus_one'],
  recv: ['ssize', ['i32', 'buf', 'size', 'i32'], 'minus_one'],
  mmap: ['ptr', ['ptr', 'size', 'i32', 'i32', 'i32', 'i64'], 'map_failed'],
  munmap: ['i32', ['ptr', 'size'], 'minus_one'],
  madvise: ['i32', ['ptr', 'size', 'i32'], 'minus_one'],
  /** Whether anything was given back. */
  malloc_trim: ['i32', ['size'], 'never'],
  setns: ['i32', ['i32', 'i32'], 'minus_one'],
  mount: ['i32', ['str', 'str', 'str', 'u64', 'buf'], 'minus_one'],
  /** The new mount interface of Linux 5.2, in glibc since 2.36: file system type, flags. */
  fsopen: ['i32', ['str', 'u32'], 'minus_one'],
  /** Descriptor of fsopen, command, key, value, number. */
  fsconfig: ['i32', ['i32', 'u32', 'buf', 'buf', 'i32'], 'minus_one'],
  /** Descriptor of fsopen, flags, attributes; the result is the root of a mount that is in no place. */
  fsmount: ['i32', ['i32', 'u32', 'u32'], 'minus_one'],
  if_nametoindex: ['u32', ['str'], 'zero'],
  /** The second parameter needs IF_NAMESIZE (16) bytes. */
  if_indextoname: ['cstr', ['u32', 'buf'], 'null'],
  sched_setaffinity: ['i32', ['i32', 'size', 'buf'], 'minus_one'],
  sched_getcpu: ['i32', [], 'minus_one'],
  /**
   * Bound for two that libc has no function for. perf_event_open: number, `struct perf_event_attr`, pid, CPU, group's
   * descriptor, flags. sched_setattr: number, null for the calling thread, address of a `struct sched_attr`, 0, 0, 0. The
   * result is a `long` in C; a descriptor and -1 fit an int.
   */
  syscall: ['i32', ['i64', 'buf', 'i64', 'i32', 'i32', 'u64'], 'minus_one'],
  clock_gettime: ['i32', ['i32', 'buf'], 'minus_one'],
  clock_getres: ['i32', ['i32', 'buf'], 'minus_one'],
  getpid: ['i32', [], 'never'],
  memmove: ['ptr', ['buf', 'buf', 'size'], 'never'],
  /** Format and `va_list` as addresses; see `setPrint`. */
  vsnprintf: ['i32', ['buf', 'size', 'ptr', 'ptr'], 'never'],
} as const satisfies SignatureTable;

/** Tricks of this folder; not part of the port. */
export const internalSignatures = {
  __errno_location: ['ptr', [], 'never'],
  /** Called with the needle '' it returns its first argument: a string at an address. */
  strstr: ['cstr', ['ptr', 'str'], 'never'],
  /** Copies from a native address into memory of JavaScript. */
  memcpy: ['ptr', ['buf', 'ptr', 'size'], 'never'],
} as const satisfies SignatureTable;
