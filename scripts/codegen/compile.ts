// SPDX-License-Identifier: Apache-2.0
/** Compiles the two sources of BTF with whatever clang is there, and selects from it what gets a codec. */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import {
  type Btf,
  type EnumLayout,
  type Layout,
  layoutOf,
  parseObjectBtf,
  type StructLayout,
} from '../../src/maps/btf/index.ts';
import type { Selection } from './emit.ts';

export const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..');

const architectures: Partial<Record<NodeJS.Architecture, { multiarch: string; define: string }>> = {
  x64: { multiarch: 'x86_64-linux-gnu', define: '__x86_64__' },
  arm64: { multiarch: 'aarch64-linux-gnu', define: '__aarch64__' },
};

/** The compilers of that list that this machine has. */
export function clangs(): string[] {
  return ['clang-19', 'clang-14', 'clang'].filter((name) => spawnSync(name, ['--version']).status === 0);
}

/** BTF of a C source text. The libc headers ask for the host's word size, hence its define. */
export function compileBtf(clang: string, source: string): Btf {
  return parseObjectBtf(compileObject(clang, source));
}

/** The BPF object of a C source text; bpfel and bpfeb force a byte order. */
export function compileObject(clang: string, source: string, target: 'bpf' | 'bpfel' | 'bpfeb' = 'bpf'): Uint8Array {
  const architecture = architectures[process.arch];
  if (architecture === undefined) {
    throw new Error(`The architecture ${process.arch} is not supported.`);
  }
  const folder = mkdtempSync(join(tmpdir(), 'vnic-codecs-'));
  try {
    const input = join(folder, 'types.c');
    const output = join(folder, 'types.o');
    writeFileSync(input, source);
    const include = ['-I', join(root, 'bpf'), '-idirafter', `/usr/include/${architecture.multiarch}`];
    const flags = ['-target', target, '-g', '-O2', '-Wall', '-Werror', `-D${architecture.define}`];
    execFileSync(clang, [...flags, ...include, '-c', input, '-o', output], { stdio: ['ignore', 'inherit', 'inherit'] });
    return readFileSync(output);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Every struct and enum of bpf/vnic_abi.h and its parts, in their order. */
export function abiSelection(clang: string): Selection {
  const read = (name: string): string => readFileSync(join(root, 'bpf', name), 'utf8');
  const header = read('vnic_abi.h').replaceAll(/^#include "(vnic_abi_\w+\.h)"$/gm, (_, name: string) => read(name));
  const definitions = [...header.matchAll(/^(struct|enum) (vnic_\w+) \{$/gm)];
  const variables = definitions.map(([, kind, name]) => `${kind} ${name} show_${kind}_${name};`);
  const btf = compileBtf(clang, ['#include <linux/types.h>', '#include "vnic_abi.h"', ...variables, ''].join('\n'));
  return { ...select(btf, (name) => name.startsWith('vnic_')), picks: {} };
}

/** Of unions of many types, what this product uses. */
const hostPicks: Selection['picks'] = {
  bpf_link_create_opts: { sz: 'sz', flags: 'flags' },
  bpf_link_info: { type: 'type', id: 'id', prog_id: 'progId', 'xdp.ifindex': 'xdpIfindex' },
  ethtool_gstrings: { cmd: 'cmd', string_set: 'stringSet', len: 'len' },
  ethtool_rxfh: {
    cmd: 'cmd',
    rss_context: 'rssContext',
    indir_size: 'indirSize',
    key_size: 'keySize',
    hfunc: 'hfunc',
  },
  ethtool_sset_info: { cmd: 'cmd', sset_mask: 'ssetMask' },
  ethtool_stats: { cmd: 'cmd', n_stats: 'nStats' },
  perf_event_attr: { type: 'type', size: 'size', config: 'config', read_format: 'readFormat' },
  sched_attr: { size: 'size', sched_policy: 'policy', sched_nice: 'nice', sched_runtime: 'runtimeNs' },
  ifreq: {
    'ifr_ifrn.ifrn_name': 'name',
    'ifr_ifru.ifru_flags': 'flags',
    'ifr_ifru.ifru_mtu': 'mtu',
    'ifr_ifru.ifru_data': 'data',
  },
};

/** What bpf/host_types.c shows of the kernel's and libbpf's headers. */
export function hostSelection(clang: string): Selection {
  const source = readFileSync(join(root, 'bpf', 'host_types.c'), 'utf8');
  const shown = new Set([...source.matchAll(/^SHOW_(?:STRUCT|ENUM)\((\w+)\);$/gm)].map((match) => match[1]!));
  const btf = compileBtf(clang, source);
  return { ...select(btf, (name) => shown.has(name)), picks: hostPicks, enumPrefix: 'host_' };
}

function select(btf: Btf, wanted: (name: string) => boolean): { structs: StructLayout[]; enums: EnumLayout[] } {
  const layouts: Layout[] = [];
  btf.types.forEach((type, id) => {
    const hasLayout = type.kind === 'struct' || type.kind === 'enum' || type.kind === 'enum64';
    if (hasLayout && wanted(type.name)) {
      layouts.push(layoutOf(btf, id));
    }
  });
  return {
    structs: layouts.filter((layout): layout is StructLayout => layout.kind === 'struct'),
    enums: layouts.filter((layout): layout is EnumLayout => layout.kind === 'enum'),
  };
}
