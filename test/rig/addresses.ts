// SPDX-License-Identifier: Apache-2.0
/** Who has which address in the rig. Pure. */
import { VnicError } from '../../src/errors.ts';

/** The rig's device under test, always in a namespace of its own. */
export const deviceName = 'vnic0';
export const mostAzs = 8;

export interface RigAz {
  /** `az-a`, `az-b`, … */
  readonly name: string;
  /** 1 for the first. */
  readonly index: number;
  readonly netns: string;
  /** The AZ's own end of its link. */
  readonly device: string;
  /** The other end, in the fabric. */
  readonly fabricDevice: string;
  readonly mac: string;
  /** Source of the generator's frames, by which the fabric knows them. */
  readonly generatorMac: string;
  readonly ipv4: string;
  readonly ipv6: string;
  readonly ipv4Prefix: string;
  readonly ipv6Prefix: string;
}

export interface RigHost {
  readonly netns: string;
  readonly mac: string;
  readonly ipv4: string;
  readonly ipv6: string;
}

export const hostAddresses = { mac: '02:76:6e:69:63:02', ipv4: '10.100.0.2', ipv6: 'fd00:100::2' } as const;

/** Namespaces are named after the process that owns them, so that those of a dead one can be told. */
export function namespaceName(ownerPid: number, id: string, part: string): string {
  return `vnic-${ownerPid}-${id === '' ? '' : `${id}-`}${part}`;
}

/** The process that a rig's namespace belongs to, or null if the name is not one of a rig's. */
export function ownerPid(namespace: string): number | null {
  const match = /^vnic-(\d+)-[a-z][a-z-]*$/.exec(namespace);
  return match === null ? null : Number(match[1]);
}

/** @param index 1 to `mostAzs` */
export function azOf(index: number, pid: number, id: string): RigAz {
  if (!Number.isInteger(index) || index < 1 || index > mostAzs) {
    throw new VnicError('usage', `A rig has 1 to ${mostAzs} AZs, not ${index}.`);
  }
  const letter = String.fromCharCode('a'.charCodeAt(0) + index - 1);
  const name = `az-${letter}`;
  return {
    name,
    index,
    netns: namespaceName(pid, id, name),
    device: 'az0',
    fabricDevice: name,
    mac: `02:76:6e:69:63:1${index}`,
    generatorMac: `02:72:69:67:00:0${index}`,
    ipv4: `10.${index}.0.1`,
    ipv6: `fd00:${letter}::1`,
    ipv4Prefix: `10.${index}.0.0/16`,
    ipv6Prefix: `fd00:${letter}::/32`,
  };
}
