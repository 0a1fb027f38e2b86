// SPDX-License-Identifier: Apache-2.0
import type { Native } from '../../ffi/index.ts';
import type { DeviceFacts } from '../facts.ts';
import { hostPorts } from '../host-ports.ts';
import type { PreflightPorts } from '../ports.ts';
import { gatherHost } from './host.ts';
import { gatherLink } from './link.ts';
import { gatherAttached } from './xdp.ts';

export interface GatherOptions {
  /** Where this product pins what belongs to the device: tells its own attachment from others'. */
  readonly pinFolder: string;
  /** Default: this machine. */
  readonly ports?: PreflightPorts;
}

/**
 * Reads all that `diagnose` judges, in the network namespace of the calling thread. Changes nothing.
 * Throws VnicError `failed` when the `ip` command is missing.
 */
export function gatherFacts(native: Native, device: string, options: GatherOptions): DeviceFacts {
  const ports = options.ports ?? hostPorts(native);
  const found = gatherLink(ports, device);
  return {
    device,
    link: found?.link ?? null,
    virtioFeatures: found?.virtioFeatures ?? null,
    attached: found === null ? [] : gatherAttached(ports, found.link.ifindex, options.pinFolder),
    host: gatherHost(ports),
  };
}
