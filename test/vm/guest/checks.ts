// SPDX-License-Identifier: Apache-2.0
/**
 * What a suite of the guest is. The host imports suites for their titles and never runs a check, so importing one must
 * have no effect. The checks of a suite run in their order and may build on each other.
 */
import type { Native } from '../../../src/loader/ffi/index.ts';
import type { MachineName, MachineOptions } from '../harness/machines.ts';
import type { PeerReply, PeerRequest } from '../harness/protocol.ts';

export interface Guest {
  readonly native: Native;
  /** What it was booted as. */
  readonly machine: MachineOptions;
  /** Asks the peer at the other end of the cable. */
  readonly ask: (request: PeerRequest) => Promise<PeerReply>;
}

export interface Check {
  /** What a user would see. */
  readonly title: string;
  readonly run: (guest: Guest) => void | Promise<void>;
}

export interface Suite {
  readonly title: string;
  /** Where it runs. Suites that stand next to each other in suites.ts may build on each other. */
  readonly machines: readonly MachineName[];
  /** Of those, where it runs also in the short run, which is part of `make test` and has few minutes. */
  readonly short: readonly MachineName[];
  readonly checks: readonly Check[];
}

export class Skipped extends Error {}

/** Ends a check that this guest cannot make. */
export function skipCheck(reason: string): never {
  throw new Skipped(reason);
}
