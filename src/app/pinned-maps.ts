// SPDX-License-Identifier: Apache-2.0
/** The maps that a device has pinned, opened for an object file that must mean the same by them. */
import { VnicError } from '../errors.ts';
import type { Native } from '../loader/ffi/index.ts';
import type { BpfObject } from '../loader/object.ts';
import { deviceText, type PinFolder } from '../loader/pins.ts';
import { type Btf, layoutOf } from '../maps/btf/index.ts';
import { VnicAbi, VnicControl, VnicLimits } from '../maps/generated/abi.ts';
import { BpfMap, checkLayout, declaredLayouts, MapOfMaps, MappedArray } from '../maps/index.ts';
import { mapIdsOf } from './program-identity.ts';

/** All maps, in the order in which they are pinned and opened. */
export const mapNames = [
  'vnic_control',
  'vnic_progs',
  'vnic_table',
  'vnic_flows',
  'vnic_flow_sets',
  'vnic_rules',
  'vnic_shapes',
  'vnic_shape_counts',
  'vnic_rule_actions',
  'vnic_rule_states',
  'vnic_rule_cells',
  'vnic_az_prefixes',
  'vnic_cpus',
  'vnic_queue_stats',
  'vnic_cpu_stats',
  'vnic_latency',
  'vnic_bfd',
  'vnic_watch',
  'vnic_watch_timer',
  'vnic_events',
  'vnic_explanation',
  'vnic_replay_frame',
  'vnic_rtt',
  'vnic_rtts',
  'vnic_capture',
  'vnic_captured',
  'vnic_capture_copy',
] as const;
export type MapName = (typeof mapNames)[number];

export type PinnedMaps = ReadonlyMap<MapName, BpfMap>;

/**
 * Opens every pinned map, each held against the layout that an object declares.
 * Throws `not_found` (not pinned), `abi_mismatch`.
 */
export function openMaps(native: Native, pins: PinFolder, btf: Btf): PinnedMaps {
  const maps = new Map<MapName, BpfMap>();
  // All maps of a build have the same BTF, and reading it takes longer than everything else here.
  const known = new Map<number, Btf>();
  try {
    for (const name of mapNames) {
      const map = BpfMap.fromPin(native, pins.pathOf(name));
      maps.set(name, map);
      checkLayout(map, declaredLayouts(btf, name), known);
      // Before the others: a version that has more maps must not be told that one is not pinned.
      if (name === 'vnic_control') checkAbiVersion(readControl(native, maps).abiVersion, btf, pins);
    }
  } catch (error) {
    for (const map of maps.values()) map.close();
    throw error;
  }
  return maps;
}

/** The map of the programs' global variables. It has no pin: the programs that use it hold it. */
export const GLOBALS = 'vnic.bss';

/** The one that pinned programs use; null where none does. The caller closes it. */
export function openGlobals(native: Native, pins: PinFolder, programs: readonly string[]): BpfMap | null {
  for (const name of programs) {
    using program = pins.open(name);
    for (const id of mapIdsOf(native, program)) {
      const map = BpfMap.fromId(native, id);
      if (map.name === GLOBALS) return map;
      map.close();
    }
  }
  return null;
}

export function pinned(maps: PinnedMaps, name: MapName): BpfMap {
  const map = maps.get(name);
  if (map === undefined) throw new VnicError('failed', `The dataplane has no map ${name}.`);
  return map;
}

export function readControl(native: Native, maps: PinnedMaps): VnicControl {
  using control = new MappedArray(native, pinned(maps, 'vnic_control'), VnicControl);
  return control.read(0);
}

/** What a layout does not show: the meaning of fields, and of what no map's BTF describes. */
function checkAbiVersion(actual: number, btf: Btf, pins: PinFolder): void {
  const versions = { 'the BPF object': objectAbiVersion(btf) ?? VnicAbi.version, 'this program': VnicAbi.version };
  for (const [whose, expected] of Object.entries(versions)) {
    if (actual === expected) continue;
    throw new VnicError(
      'abi_mismatch',
      `${deviceText(pins.device)} has a dataplane of ABI version ${actual}; ${whose} has version ${expected}.`,
      {
        remedy: 'Detach with the version that attached it, then attach with this one.',
        details: { expected, actual },
      },
    );
  }
}

/** Undefined where the object's BTF does not carry it. */
function objectAbiVersion(btf: Btf): number | undefined {
  const id = btf.find('vnic_abi', 'enum');
  const layout = id === undefined ? undefined : layoutOf(btf, id);
  return layout?.kind === 'enum' ? Number(layout.enumerators[0]?.value) : undefined;
}

/** The kernel keeps no BTF of a map of maps, and verifies programs against the inner maps' sizes alone. */
export function checkRuleMaps(native: Native, maps: PinnedMaps, object: BpfObject): void {
  const outer = new MapOfMaps(native, pinned(maps, 'vnic_rules'));
  const expected = object.innerShape('vnic_rules');
  for (let set = 0; set < VnicLimits.ruleSets; set++) {
    const id = outer.innerId(set);
    if (id === undefined) continue;
    using inner = BpfMap.fromId(native, id);
    if (inner.keySize === expected.keySize && inner.valueSize === expected.valueSize) continue;
    const actual = { keySize: inner.keySize, valueSize: inner.valueSize };
    throw new VnicError(
      'abi_mismatch',
      `The rules of set ${set} have keys of ${actual.keySize} and values of ${actual.valueSize} bytes; ` +
        `${expected.keySize} and ${expected.valueSize} are expected.`,
      {
        remedy: 'Detach with the version that attached it, then attach with this one.',
        details: { map: 'vnic_rules', expected, actual },
      },
    );
  }
}
