// SPDX-License-Identifier: Apache-2.0
/**
 * Replaces the programs of an attached device by those of another build, under traffic. Maps stay, so flows, rules,
 * limiters and counters go on. Every place that holds a program is looked at and changed on its own, at once; old and new
 * programs understand each other, because they share maps of one ABI. So an upgrade that is killed leaves a dataplane
 * that forwards, and the next one replaces what is left.
 */
import { renameSync } from 'node:fs';
import { VnicError } from '../errors.ts';
import { clsactEgressProgram, replaceClsactEgress } from '../loader/clsact.ts';
import { raiseCpumapThreads } from '../loader/cpumap-threads.ts';
import type { Fd } from '../loader/fd.ts';
import type { Native } from '../loader/ffi/index.ts';
import { linkInfo, updateLink } from '../loader/link.ts';
import { inNetns } from '../loader/netns.ts';
import { BpfObject } from '../loader/object.ts';
import { deviceText, type PinFolder } from '../loader/pins.ts';
import { driverOf } from '../loader/preflight/gather/ethtool.ts';
import { programById, programInfo } from '../loader/program.ts';
import { VnicProgSlot } from '../maps/generated/abi.ts';
import { LINK_EGRESS, LINK_XDP } from './attach.ts';
import { isWatching, startWatch } from './az-watch.ts';
import { Dataplane, objectPath, type ProgramName, programNames } from './dataplane.ts';
import { programIdentity } from './program-identity.ts';
import type { DataplaneSettings } from './record.ts';

export type ProgramChange = 'replaced' | 'unchanged';

export interface UpgradeReport {
  programs: Record<ProgramName, ProgramChange>;
  /** CPUs whose CPUMAP entry was replaced: packets of theirs may have overtaken others in that moment. */
  replacedCpus: number[];
  /** The root program was replaced on a driver that stops its receive queues for that; what arrived meanwhile waited. */
  pausesQueues: boolean;
  /** Of the object file that the programs are of now. */
  objectSha256: string;
}

export interface UpgradePorts {
  native: Native;
  pins: PinFolder;
  /** From the device's record. */
  settings: Pick<DataplaneSettings, 'mode' | 'egress' | 'deliverMetadata'>;
  objectFile?: string;
}

/** Something that holds a program and can be given another. */
interface Place {
  program: ProgramName;
  /** For messages. */
  name: string;
  /** The caller closes it; null: there is none. */
  current(): Fd | null;
  put(program: Fd): void;
}

interface Work {
  native: Native;
  pins: PinFolder;
  settings: UpgradePorts['settings'];
  /** The pinned maps with the new programs. */
  next: Dataplane;
  ifindex: number;
}

/** SHA-256 of an object file, hex: whether an upgrade is due can be told without loading it. Throws `not_found`. */
export function objectSha256(objectFile = objectPath): string {
  return BpfObject.sha256(objectFile);
}

/**
 * Brings an attached device to the programs of an object file. The caller holds the lock, and opens the dataplane again
 * afterwards: an open one keeps the old programs. Throws `abi_mismatch` (other layouts), `verifier_rejected`, `not_found`
 * (not attached) before anything is changed; when a step fails, what was done is undone, and the old programs go on.
 */
export function upgradeDataplane(ports: UpgradePorts): UpgradeReport {
  const { native, pins, settings } = ports;
  const ifindex = attachedIfindex(native, pins);
  const { dataplane, objectSha256 } = Dataplane.reload(native, pins, settings, ports.objectFile);
  using next = dataplane;
  const work = { native, pins, settings, next, ifindex };
  const isSame = sameProgram(work);
  const cpus = cpuPlaces(work);
  const root = rootPlace(work);
  const due = [
    slotPlace(work),
    ...egressPlace(work),
    ...cpus.values(),
    root,
    ...programNames.map(pinPlace(work)),
  ].filter((place) => !isSame(place));
  const pausesQueues = due.includes(root) && stopsQueues(work);
  replaceAll(work, due);
  // Also when nothing was due: an upgrade that was killed may have left threads behind that are not raised yet.
  raiseCpumapThreads(next.cpus.map.id);
  const changed = new Set(due.map(({ program }) => program));
  // Its timer holds the old program until it is told of the new one.
  if (changed.has('vnic_watch_start') && isWatching(next)) startWatch(next);
  return {
    programs: Object.fromEntries(
      programNames.map((name) => [name, changed.has(name) ? 'replaced' : 'unchanged']),
    ) as Record<ProgramName, ProgramChange>,
    replacedCpus: [...cpus].filter(([, place]) => due.includes(place)).map(([cpu]) => cpu),
    pausesQueues,
    objectSha256,
  };
}

function attachedIfindex(native: Native, pins: PinFolder): number {
  using link = pins.open(LINK_XDP);
  const { ifindex } = linkInfo(native, link);
  if (ifindex !== 0) return ifindex;
  throw new VnicError('not_found', `${deviceText(pins.device)} is gone, and its attachment with it.`, {
    remedy: 'Attach it again when it is back.',
  });
}

/** Whether a place already holds what the new program does. */
function sameProgram({ native, next }: Work): (place: Place) => boolean {
  const identities = new Map(programNames.map((name) => [name, programIdentity(native, next.program(name))]));
  return (place) => {
    using current = place.current();
    const identity = identities.get(place.program);
    return current !== null && identity !== null && programIdentity(native, current) === identity;
  };
}

/** virtio_net disables NAPI on every receive queue while it takes another program (virtnet_xdp_set). */
function stopsQueues({ native, pins, settings }: Work): boolean {
  if (settings.mode === 'generic') return false;
  return inNetns(native, pins.device.netns, () => driverOf(native, pins.device.name))?.driver === 'virtio_net';
}

function byId(native: Native, id: number | null | undefined): Fd | null {
  return id === null || id === undefined || id === 0 ? null : programById(native, id);
}

/** The kernel patches the jump to a program array's target in place: each packet goes to the one or the other. */
function slotPlace({ native, next }: Work): Place {
  const slot = VnicProgSlot.slotIngress;
  return {
    program: 'vnic_ingress',
    name: 'the slot behind the root program',
    current: () => byId(native, next.progs.get(slot)),
    put: (program) => next.progs.set(slot, program),
  };
}

/** Nothing where the hook is off or somebody took the program away: an upgrade attaches nothing. */
function egressPlace({ native, pins, settings, ifindex }: Work): Place[] {
  const program = 'vnic_egress';
  if (settings.egress === 'tcx' && pins.exists(LINK_EGRESS)) return [linkPlace(native, pins, LINK_EGRESS, program)];
  const inside = <T>(action: () => T): T => inNetns(native, pins.device.netns, action);
  const filterProgram = (): number | null => inside(() => clsactEgressProgram(native, ifindex));
  if (settings.egress !== 'clsact' || filterProgram() === null) return [];
  return [
    {
      program,
      name: 'the clsact filter',
      current: () => byId(native, filterProgram()),
      put: (next) => inside(() => replaceClsactEgress(native, next, ifindex)),
    },
  ];
}

function rootPlace({ native, pins }: Work): Place {
  return linkPlace(native, pins, LINK_XDP, 'vnic_root');
}

function linkPlace(native: Native, pins: PinFolder, pin: string, program: ProgramName): Place {
  return {
    program,
    name: pin,
    current() {
      using link = pins.open(pin);
      return byId(native, linkInfo(native, link).programId);
    },
    put(next) {
      using link = pins.open(pin);
      updateLink(native, link, next);
    },
  };
}

/**
 * By CPU. An entry's program cannot be changed, so the entry is replaced, its ring and thread with it. The old thread
 * ends when its ring is empty (kernel/bpf/cpumap.c, __cpu_map_entry_free), so no packet is lost; until then both threads
 * work, and a packet in the new ring may overtake one in the old.
 */
function cpuPlaces({ native, next: { cpus } }: Work): Map<number, Place> {
  const places = new Map<number, Place>();
  for (let cpu = 0; cpu < cpus.map.maxEntries; cpu++) {
    const entry = cpus.get(cpu);
    if (entry === undefined) continue;
    places.set(cpu, {
      program: 'vnic_cpu',
      name: `the CPUMAP entry of CPU ${cpu}`,
      current: () => byId(native, cpus.get(cpu)?.progId),
      put(program) {
        cpus.set(cpu, { qsize: entry.qsize, progFd: program });
        // Now and not at the end: an ordinary thread can be kept from its CPU for longer than its ring holds.
        raiseCpumapThreads(cpus.map.id);
      },
    });
  }
  return places;
}

/** Of a pin that is about to take the place of another: bpffs renames over it at once (kernel/bpf/inode.c). */
const nextPin = (name: ProgramName): string => `${name}_next`;

function pinPlace({ pins }: Work): (name: ProgramName) => Place {
  return (name) => ({
    program: name,
    name: `the pin ${name}`,
    current: () => pins.open(name),
    put(program) {
      pins.unpin(nextPin(name));
      pins.pin(program, nextPin(name));
      renameSync(pins.pathOf(nextPin(name)), pins.pathOf(name));
    },
  });
}

/** One place after the other; a failure takes back those before it. */
function replaceAll({ native, pins, next }: Work, due: readonly Place[]): void {
  const old = due.map((place) => place.current());
  let done = 0;
  try {
    for (const place of due) {
      place.put(next.program(place.program));
      done++;
    }
  } catch (error) {
    // The one that failed may have been changed before it did.
    const touched = due.slice(0, done + 1).map((place, index) => ({ place, program: old[index] ?? null }));
    putBack(native, touched.reverse(), error);
    throw error;
  } finally {
    for (const program of old) program?.close();
    // What this upgrade or a killed one could not rename.
    for (const name of programNames) pins.unpin(nextPin(name));
  }
}

/** A place that cannot be put back does not keep the others from it. */
function putBack(native: Native, places: readonly { place: Place; program: Fd | null }[], cause: unknown): void {
  const failures = places.flatMap(({ place, program }) => {
    try {
      using current = place.current();
      if (program !== null && !isOne(native, program, current)) place.put(program);
      return [];
    } catch (error) {
      return [`${place.name}: ${String(error)}`];
    }
  });
  if (failures.length === 0) return;
  throw new VnicError(
    'failed',
    `The upgrade failed (${String(cause)}), and the old programs could not be put back everywhere: ${failures.join('; ')}`,
    { remedy: 'Old and new programs work side by side; upgrade again.', details: { failures }, cause },
  );
}

function isOne(native: Native, program: Fd, other: Fd | null): boolean {
  return other !== null && programInfo(native, program).id === programInfo(native, other).id;
}
