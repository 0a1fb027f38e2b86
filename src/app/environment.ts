// SPDX-License-Identifier: Apache-2.0
/** From a process's environment to the controller: native code, rights, folders. */
import { existsSync, readFileSync } from 'node:fs';
import { VnicError } from '../errors.ts';
import { loadNative } from '../loader/ffi/index.ts';
import { parseCapabilities } from '../loader/preflight/gather/host.ts';
import { Controller, type ControllerOptions } from './controller.ts';
import { objectPath } from './dataplane.ts';
import { countProgramRuns } from './machine-telemetry.ts';

const STATE_FOLDER = '/var/lib/vnic';

/** What a process that lives long asks for besides. */
type LongLived = Pick<ControllerOptions, 'keepOpen' | 'onDamage'>;

/** What loading, pinning and reading the dataplane takes (capabilities(7)). */
const needed = { bpf: 'CAP_BPF', netAdmin: 'CAP_NET_ADMIN', perfmon: 'CAP_PERFMON' } as const;

/** Throws `not_permitted` that names every capability that is missing. */
export function requireCapabilities(processStatus = readFileSync('/proc/self/status', 'utf8')): void {
  const held = parseCapabilities(processStatus);
  const missing = Object.entries(needed).flatMap(([name, text]) => (held[name as keyof typeof needed] ? [] : [text]));
  if (missing.length === 0) return;
  throw new VnicError('not_permitted', `This needs ${missing.join(', ')}, which this process does not have.`, {
    remedy: 'Run it as root (sudo), or give it these capabilities and CAP_SYS_ADMIN.',
    details: { missing },
  });
}

/** Throws `failed` when the BPF programs were not compiled. */
export function requireObject(file = objectPath): void {
  if (existsSync(file)) return;
  throw new VnicError('failed', `The BPF programs are not built: there is no ${file}.`, { remedy: 'Run: make build' });
}

/** The controller over this machine. Throws `not_permitted`, `failed` (not built), and what loadNative throws. */
export function openController(environment: NodeJS.ProcessEnv = process.env, options: LongLived = {}): Controller {
  requireCapabilities();
  requireObject();
  return looseController(environment, options);
}

/** Has the kernel count runs of BPF programs until it is closed. Throws `not_permitted`, `kernel_refused`. */
export function countProgramRunsHere(): { close(): void } {
  return countProgramRuns(loadNative());
}

/** Where records and the daemon's lock live. */
export function stateFolderOf({ VNIC_STATE_DIR }: NodeJS.ProcessEnv): string {
  return VNIC_STATE_DIR || STATE_FOLDER;
}

/** For asking what is missing: without the rights that the other operations need. */
export function looseController(environment: NodeJS.ProcessEnv = process.env, options: LongLived = {}): Controller {
  const native = loadNative();
  // What libbpf has to say is in the errors; on stderr it would stand without a context.
  native.setPrint(null);
  return new Controller({ native, stateFolder: stateFolderOf(environment), ...options });
}
