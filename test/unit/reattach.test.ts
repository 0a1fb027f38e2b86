// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { type KnownDevice, matchDevices } from '../../src/app/reattach.ts';

const record = (name: string, mac: string): KnownDevice => ({ device: { name, netns: null }, mac });
const links = (list: Record<string, string>) =>
  new Map(Object.entries(list).map(([name, mac], index) => [name, { ifindex: index + 2, mac }]));

interface Case {
  what: string;
  records: KnownDevice[];
  links: Record<string, string>;
  taken?: string[];
  expected: Record<string, string>;
}

const cases: Case[] = [
  { what: 'the same device', records: [record('eth0', 'm1')], links: { eth0: 'm1' }, expected: { eth0: 'eth0' } },
  { what: 'no device', records: [record('eth0', 'm1')], links: { lo: 'm0' }, expected: {} },
  {
    what: 'a new card under the name',
    records: [record('eth0', 'm1')],
    links: { eth0: 'm9' },
    expected: { eth0: 'eth0' },
  },
  {
    what: 'the card under a new name',
    records: [record('eth0', 'm1')],
    links: { ens5: 'm1' },
    expected: { eth0: 'ens5' },
  },
  {
    what: 'the card under a new name, another one under the old',
    records: [record('eth0', 'm1')],
    links: { eth0: 'm9', ens5: 'm1' },
    expected: { eth0: 'ens5' },
  },
  {
    what: 'two cards that changed names',
    records: [record('eth0', 'm1'), record('eth1', 'm2')],
    links: { eth0: 'm2', eth1: 'm1' },
    expected: { eth0: 'eth1', eth1: 'eth0' },
  },
  {
    what: 'a VLAN that shares the address of its device',
    records: [record('eth0', 'm1')],
    links: { eth0: 'm1', 'eth0.7': 'm1' },
    expected: { eth0: 'eth0' },
  },
  {
    what: 'an address that several links share, none of them of the name',
    records: [record('eth0', 'm1')],
    links: { bond0: 'm1', ens5: 'm1' },
    expected: {},
  },
  {
    what: 'the card under the name of a device that is attached',
    records: [record('eth0', 'm1')],
    links: { ens5: 'm1' },
    taken: ['ens5'],
    expected: {},
  },
  {
    what: "a card whose name another record's card has now",
    records: [record('eth0', 'm1'), record('eth1', 'm2')],
    links: { eth1: 'm1' },
    expected: { eth0: 'eth1' },
  },
];

describe('a device that comes back', () => {
  for (const { what, records, links: list, taken = [], expected } of cases) {
    it(`is known again: ${what}`, () => {
      const matches = matchDevices(records, links(list), new Set(taken));
      assert.deepEqual(Object.fromEntries(matches.map((match) => [match.record.device.name, match.name])), expected);
    });
  }
});
