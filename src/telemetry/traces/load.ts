// SPDX-License-Identifier: Apache-2.0
/** Programs of type tracing: loaded and attached as far as this kernel takes them, with the reason where it does not. */
import { VnicError } from '../../errors.ts';
import type { Fd } from '../../loader/fd.ts';
import { attachTracing, type TracingHook } from '../../loader/link.ts';
import { BpfObject, type MapSettings, type ObjectSettings } from '../../loader/object.ts';
import { BpfMap } from '../../maps/index.ts';

type Native = Parameters<typeof attachTracing>[0];

export interface TracingProgram {
  /** In the object. */
  program: string;
  hook: TracingHook;
}

export interface TracingObject {
  programs: readonly TracingProgram[];
  /** All maps that the programs share, by name. */
  maps: Readonly<Record<string, MapSettings>>;
  constants: NonNullable<ObjectSettings['constants']>;
}

export interface LoadedProgram {
  hook: TracingHook;
  /** Null with a reason. */
  program: Fd | null;
  reason: string | null;
}

/**
 * All programs at once; where that fails, one by one, to find out which of them this kernel does not take. Maps and
 * programs are in the order in which they were asked for. Throws `not_found` (not built), `kernel_refused`.
 */
export function loadTracing(
  native: Native,
  objectFile: string,
  { programs, maps, constants }: TracingObject,
): { maps: BpfMap[]; programs: LoadedProgram[] } {
  const names = Object.keys(maps);
  const load = (wanted: readonly TracingProgram[], settings: TracingObject['maps']): BpfObject =>
    BpfObject.load(native, objectFile, { maps: settings, constants, programs: wanted.map(({ program }) => program) });
  const mapsOf = (object: BpfObject): BpfMap[] => names.map((name) => BpfMap.fromFd(native, object.mapFd(name)));
  const loadedFrom = (object: BpfObject, { program, hook }: TracingProgram): LoadedProgram => ({
    hook,
    program: object.programFd(program),
    reason: null,
  });
  try {
    using object = load(programs, maps);
    return { maps: mapsOf(object), programs: programs.map((program) => loadedFrom(object, program)) };
  } catch (error) {
    if (error instanceof VnicError && error.code === 'not_found') throw error;
  }
  using empty = load([], maps);
  const made = mapsOf(empty);
  const reused = Object.fromEntries(names.map((name, index) => [name, { ...maps[name], reuse: made[index]!.fd }]));
  return {
    maps: made,
    programs: programs.map((wanted) => {
      try {
        using object = load([wanted], reused);
        return loadedFrom(object, wanted);
      } catch (error) {
        return { hook: wanted.hook, program: null, reason: tracingReason(wanted.hook, messageOf(error)) };
      }
    }),
  };
}

/** Attaches the program, puts its link into `links` and closes it. @returns why it is not attached; null: it is */
export function attachLoaded(native: Native, { hook, program, reason }: LoadedProgram, links: Fd[]): string | null {
  if (program === null) return reason;
  try {
    links.push(attachTracing(native, program, hook));
    return null;
  } catch (error) {
    return tracingReason(hook, messageOf(error));
  } finally {
    program.close();
  }
}

/** Attaches the first of the programs that the kernel takes and closes all. @returns why it takes none; null: it took one */
export function attachFirst(native: Native, programs: readonly LoadedProgram[], links: Fd[]): string | null {
  const reasons: string[] = [];
  for (const [index, program] of programs.entries()) {
    const reason = attachLoaded(native, program, links);
    if (reason === null) {
      for (const { program: other } of programs.slice(index + 1)) other?.close();
      return null;
    }
    reasons.push(reason);
  }
  return reasons.join('; ');
}

/** Why a program could not be loaded or attached, in words. @param message of libbpf or the kernel */
export function tracingReason({ kind, name }: TracingHook, message: string): string {
  if (/ESRCH|failed to find kernel BTF type/.test(message)) {
    return `this kernel has no ${kind} ${name}, or no BTF (/sys/kernel/btf/vmlinux) that describes it`;
  }
  return `the kernel refuses the program at ${name}: ${message}`;
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
