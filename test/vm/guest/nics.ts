// SPDX-License-Identifier: Apache-2.0
/** The guest's NICs by the names that their machine gives them. */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import type { MachineOptions, NicOptions } from '../harness/machines.ts';
import { type Cable, cableOf } from '../harness/protocol.ts';

const FOLDER = '/sys/class/net';

export interface Nic {
  readonly options: NicOptions;
  readonly cable: Cable;
  /** The kernel's name. */
  readonly device: string;
  readonly ifindex: number;
}

export function readLinkFile(device: string, name: string): string {
  return readFileSync(`${FOLDER}/${device}/${name}`, 'utf8').trim();
}

function nicAt(options: NicOptions, position: number): Nic {
  const cable = cableOf(position);
  const device = readdirSync(FOLDER).find((name) => readLinkFile(name, 'address') === cable.guestMac);
  assert.ok(device !== undefined, `the guest has no device ${options.name} (${cable.guestMac})`);
  return { options, cable, device, ifindex: Number(readLinkFile(device, 'ifindex')) };
}

/** In the order of the machine's NICs. */
export function nicsOf({ nics }: MachineOptions): Nic[] {
  return nics.map(nicAt);
}

export function nicNamed(machine: MachineOptions, name: string): Nic {
  const position = machine.nics.findIndex((nic) => nic.name === name);
  assert.ok(position >= 0, `the machine has no NIC ${name}`);
  return nicAt(machine.nics[position]!, position);
}
