// SPDX-License-Identifier: Apache-2.0
/** By what a device hashes, found from where flows arrived. */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import type { FlowHashKey } from '../../src/steering/hash.ts';
import { type ArrivedFlow, findHashing, rssEntry, rssHashings } from '../../src/steering/rss-hashing.ts';
import { parseAddress } from '../../src/steering/rules/prefix.ts';

const UDP = 17;
const table = Array.from({ length: 128 }, (_, entry) => entry % 8);

function flowOf(from: string, sport: number): FlowHashKey {
  const to = from.includes(':') ? 'fd00:100::2' : '10.100.0.2';
  return { src: parseAddress(from), dst: parseAddress(to), sport, dport: 8100, proto: UDP };
}

/** Recorded on virtio_net of Linux 6.12.95 with QEMU 7.2: RX queues of flows from the ports 20000 to 20004 of an address. */
const shownKey = Buffer.from('7006885dcea0497c95d6068552fa1ed8587eba343fe4e56de36203ca42fff6b16ae1c6077c43f9d0', 'hex');
const arrivedOn: Readonly<Record<string, readonly number[]>> = {
  '10.1.0.1': [5, 4, 1, 0, 7],
  'fd00:a::1': [7, 1, 0, 6, 0],
  '10.2.0.1': [1, 0, 5, 4, 3],
  'fd00:b::1': [3, 5, 4, 2, 4],
  '10.3.0.1': [6, 7, 2, 3, 4],
  'fd00:c::1': [4, 2, 3, 5, 3],
};

describe('what a device hashes by', () => {
  it('is its key one byte further on, where virtio_net of Linux 6.12.95 shows another', () => {
    const flows = Object.entries(arrivedOn).flatMap(([from, queues]) =>
      queues.map((arrived, index): ArrivedFlow => ({ key: flowOf(from, 20_000 + index), arrived })),
    );
    const rss = { table, key: shownKey };
    const hashing = findHashing(flows, rss);
    assert.equal(hashing.udpPorts, true);
    assert.deepEqual(hashing.key.subarray(1), new Uint8Array(shownKey.subarray(0, -1)));
    assert.deepEqual(
      flows.map(({ key }) => table[rssEntry(hashing, rss, key)]),
      flows.map(({ arrived }) => arrived),
    );
  });

  it('is found from where flows arrived, whichever it is', () => {
    const keys = fc.uint8Array({ minLength: 40, maxLength: 40 });
    fc.assert(
      fc.property(keys, fc.integer({ min: 0, max: 3 }), (key, which) => {
        const rss = { table, key };
        const used = rssHashings(rss)[which]!;
        const flows = Array.from({ length: 40 }, (_, index): ArrivedFlow => {
          const flow = flowOf(`10.0.${index}.1`, 1000 + 7 * index);
          return { key: flow, arrived: table[rssEntry(used, rss, flow)]! };
        });
        const found = findHashing(flows, rss);
        for (const { key: flow, arrived } of flows) assert.equal(table[rssEntry(found, rss, flow)], arrived);
      }),
    );
  });

  it('is as it is shown, with ports, while no flow says anything', () => {
    assert.deepEqual(findHashing([], { table, key: shownKey }), { key: shownKey, udpPorts: true });
  });
});
