// SPDX-License-Identifier: Apache-2.0
/** Everything that programs can have written: a digest of each of their maps, global data and rings included. */
import { createHash } from 'node:crypto';
import type { Fd } from '../../src/loader/fd.ts';
import type { Native } from '../../src/loader/ffi/index.ts';
import { objectInfo } from '../../src/loader/program.ts';
import { readBatches } from '../../src/maps/batch.ts';
import { BpfMapType, BpfProgInfo, MapFlag } from '../../src/maps/generated/host.ts';
import { BpfMap, MapOfMaps } from '../../src/maps/index.ts';
import { Mapping, pageSize } from '../../src/maps/mapping.ts';

const ENOENT = -2;

/** Ids of the maps that a program refers to. */
function mapIdsOf(native: Native, program: Fd): number[] {
  const count = BpfProgInfo.decode(objectInfo(native, program)).nrMapIds;
  const ids = native.memory.alloc(4 * count);
  const info = BpfProgInfo.encode({ nrMapIds: count, mapIds: native.memory.addressOf(ids) });
  const size = new Uint8Array(Uint32Array.of(info.length).buffer);
  native.check(native.libbpf.bpf_obj_get_info_by_fd(program.value, info, size), 'bpf_obj_get_info_by_fd');
  return [...new Uint32Array(ids.buffer)];
}

/** Digest of each map by its name. Nobody may write meanwhile. */
export function mapDigests(
  native: Native,
  programs: Iterable<Fd>,
  except: readonly string[] = [],
): Map<string, string> {
  const ids = new Set([...programs].flatMap((program) => mapIdsOf(native, program)));
  const digests = new Map<string, string>();
  for (const id of ids) {
    using map = BpfMap.fromId(native, id);
    if (!except.includes(map.name)) digests.set(map.name, digestOf(native, map));
  }
  return digests;
}

function digestOf(native: Native, map: BpfMap): string {
  const hash = createHash('sha1');
  switch (map.type) {
    case BpfMapType.array:
      if ((map.flags & MapFlag.mmapable) === 0) return digestByIndex(native, map);
      hash.update(mapped(native, map, 0, Math.ceil(map.valueSize / 8) * 8 * map.maxEntries));
      break;
    case BpfMapType.hash:
    case BpfMapType.lpmTrie:
      hash.update(entriesOf(native, map).join('\n'));
      break;
    case BpfMapType.arrayOfMaps: {
      const outer = new MapOfMaps(native, map);
      for (let index = 0; index < map.maxEntries; index++) {
        const id = outer.innerId(index);
        if (id === undefined) continue;
        using inner = BpfMap.fromId(native, id);
        hash.update(`${index} ${id} ${digestOf(native, inner)}`);
      }
      break;
    }
    case BpfMapType.ringbuf:
      // The producer's position grows with each record, also with those that were read.
      hash.update(mapped(native, map, pageSize(), 8));
      break;
    default:
      return digestByIndex(native, map);
  }
  return hash.digest('hex');
}

function mapped(native: Native, map: BpfMap, offsetBytes: number, lengthBytes: number): Uint8Array {
  using mapping = new Mapping(native, map.fd.value, { offsetBytes, lengthBytes, writable: false }, map.name);
  return new Uint8Array(mapping.buffer).slice();
}

function entriesOf(native: Native, map: BpfMap): string[] {
  const entries: string[] = [];
  for (const { keys, values, count } of readBatches(native, map)) {
    for (let index = 0; index < count; index++) {
      const key = Buffer.from(keys.subarray(index * map.keySize, (index + 1) * map.keySize));
      const value = Buffer.from(values.subarray(index * map.valueSize, (index + 1) * map.valueSize));
      entries.push(`${key.toString('hex')} ${value.toString('hex')}`);
    }
  }
  return entries.sort();
}

function digestByIndex(native: Native, map: BpfMap): string {
  const hash = createHash('sha1');
  const value = native.memory.alloc(map.valueSize);
  for (let index = 0; index < map.maxEntries; index++) {
    const key = new Uint8Array(Uint32Array.of(index).buffer);
    const result = native.libbpf.bpf_map_lookup_elem(map.fd.value, key, value);
    if (result === ENOENT) continue;
    native.check(result, 'bpf_map_lookup_elem', map.name);
    hash.update(`${index} ${Buffer.from(value).toString('hex')}`);
  }
  return hash.digest('hex');
}
