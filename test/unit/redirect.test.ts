// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { formerOf, leverChanges, restoreSettings, writeSettings } from '../../src/app/levers.ts';
import { VnicError } from '../../src/errors.ts';
import type { SettingName, SettingsPort } from '../../src/loader/settings/setting.ts';
import { chooseRedirect, judgeObedience, type RedirectFacts, redirectModes } from '../../src/steering/redirect.ts';
import { planRss } from '../../src/steering/rss-plan.ts';
import { parseAddress } from '../../src/steering/rules/prefix.ts';
import { rssHash, toeplitz } from '../../src/steering/toeplitz.ts';

const facts: RedirectFacts = {
  mode: 'native',
  egress: true,
  driver: 'virtio_net',
  queues: 32,
  txQueues: 32,
  rss: 'none',
};

/** Key and values of Microsoft, "Verifying the RSS hash calculation". */
const key = Buffer.from('6d5a56da255b0ec24167253d43a38fb0d0ca2bcbae7b30b477cb2da38030f20c6a42b73bbeac01fa', 'hex');
const vectors = [
  ['66.9.149.187', 2794, '161.142.100.80', 1766, 0x51ccc178, 0x323e8fc2],
  ['199.92.111.2', 14230, '65.69.140.83', 4739, 0xc626b0ea, 0xd718262a],
  ['24.19.198.95', 12898, '12.22.207.184', 38024, 0x5c2b394a, 0xd2d0a5de],
  ['38.27.205.30', 48228, '209.142.163.6', 2217, 0xafc7327f, 0x82989176],
  ['153.39.163.191', 44251, '202.188.127.2', 1303, 0x10e828a2, 0x5d1809c5],
  ['3ffe:2501:200:1fff::7', 2794, '3ffe:2501:200:3::1', 1766, 0x40207d3d, 0x2cc18cd5],
  ['3ffe:501:8::260:97ff:fe40:efab', 14230, 'ff02::1', 4739, 0xdde51bbf, 0x0f0c461c],
] as const;

describe('the hash of RSS', () => {
  for (const [src, sport, dst, dport, withPorts, addresses] of vectors) {
    it(`of ${src} to ${dst} is that of the published values`, () => {
      const flow = { src: parseAddress(src), dst: parseAddress(dst), sport, dport, proto: 6 };
      assert.equal(rssHash(key, flow), withPorts);
      assert.equal(rssHash(key, { ...flow, proto: 1 }), addresses);
      assert.equal(rssHash(key, { ...flow, proto: 17 }, { udpPorts: false }), addresses);
      assert.equal(rssHash(key, { ...flow, proto: 17, sport: 0, dport: 0 }), addresses, 'a fragment');
    });
  }

  it('is linear, as Toeplitz is', () => {
    const input = fc.uint8Array({ minLength: 12, maxLength: 36 });
    fc.assert(
      fc.property(input, fc.infiniteStream(fc.integer({ min: 0, max: 255 })), (a, stream) => {
        const b = Uint8Array.from(a, () => stream.next().value);
        const both = a.map((byte, index) => byte ^ b[index]!);
        assert.equal(toeplitz(key, both), (toeplitz(key, a) ^ toeplitz(key, b)) >>> 0);
      }),
    );
  });
});

describe('the plan of an RSS table', () => {
  const azs = [
    { index: 1, name: 'az-a', weight: 1, queues: [0, 1, 2, 3] },
    { index: 2, name: 'az-b', weight: 3, queues: [4, 5, 6, 7] },
  ];
  const queues = (lost: (queue: number) => boolean) =>
    Array.from({ length: 8 }, (_, index) => ({
      index,
      az: index < 4 ? 1 : 2,
      cpu: 0,
      numaNode: -1,
      usable: !lost(index),
    }));
  const base = { azs, size: 128, queueLimit: 8, loads: new Map(), current: [] as number[] };

  it('shares entries by weight where nothing is known of flows', () => {
    const table = planRss({ ...base, queues: queues(() => false) });
    const counts = Array.from({ length: 8 }, (_, queue) => table.filter((entry) => entry === queue).length);
    assert.deepEqual(counts, [8, 8, 8, 8, 24, 24, 24, 24]);
  });

  it('names no queue that is out of use or beyond the limit, moves nothing else, and takes back what it lent', () => {
    fc.assert(
      fc.property(
        fc.uniqueArray(fc.integer({ min: 0, max: 7 }), { maxLength: 6 }),
        fc.integer({ min: 2, max: 8 }),
        (lost, queueLimit) => {
          const home = planRss({ ...base, queueLimit, queues: queues(() => false) });
          const table = planRss({
            ...base,
            queueLimit,
            queues: queues((queue) => lost.includes(queue)),
            current: home,
          });
          const usable = (queue: number): boolean => queue < queueLimit && !lost.includes(queue);
          if (!Array.from({ length: 8 }, (_, queue) => queue).some(usable)) {
            assert.deepEqual(table, []);
            return;
          }
          assert.equal(table.length, 128);
          assert.ok(table.every(usable));
          table.forEach((queue, entry) => {
            if (usable(home[entry]!)) assert.equal(queue, home[entry]);
          });
        },
      ),
    );
  });

  it('sends an entry where most of its load belongs, and leaves it alone for little', () => {
    const loads = new Map([
      [
        3,
        new Map([
          [0, 10],
          [5, 90],
        ]),
      ],
      [
        4,
        new Map([
          [1, 45],
          [6, 55],
        ]),
      ],
      [5, new Map([[7, 100]])],
    ]);
    const current = Array<number>(128).fill(1);
    const table = planRss({ ...base, queues: queues((queue) => queue === 7), loads, current });
    assert.equal(table[3], 5);
    assert.equal(table[4], 1, '10 of 100 are not worth it');
    assert.notEqual(table[5], 7, 'its queue is lost');
  });
});

describe('the choice of a redirect mode', () => {
  const choose = (asked: Parameters<typeof chooseRedirect>[0], some: Partial<RedirectFacts> = {}) =>
    chooseRedirect(asked, { ...facts, ...some });

  it('tries RSS before following, and nothing where neither can be', () => {
    const cases: [Partial<RedirectFacts>, string | null, RegExp][] = [
      [
        {},
        'follow',
        /^the device has no RSS table, and back ends of virtio_net may follow what is sent; follow begins when/,
      ],
      [{ rss: 'toeplitz' }, 'rss', /^the device has an RSS table; rss begins when/],
      [{ rss: 'other' }, 'follow', /^the device hashes by a function other than Toeplitz, and back ends of virtio_net/],
      [{ driver: 'mlx5_core' }, null, /back ends of mlx5_core are not known to follow what is sent$/],
      [{ egress: false }, null, /and the egress program, which chooses transmit queues, is off$/],
      [{ txQueues: 16 }, null, /and the device has 16 transmit queues for 32 queues$/],
      [{ mode: 'generic', rss: 'toeplitz' }, null, /^generic XDP runs after the receive queue was chosen and left$/],
    ];
    for (const [some, trial, reason] of cases) {
      const choice = choose('auto', some);
      assert.deepEqual([choice.mode, choice.trial], ['cpumap', trial], JSON.stringify(some));
      assert.match(choice.reason, reason);
    }
  });

  it('does what is asked for, or refuses with the reason and what to do', () => {
    assert.deepEqual(choose('cpumap'), { mode: 'cpumap', trial: null, reason: 'the default, or asked for' });
    assert.equal(choose('follow', { driver: 'mlx5_core' }).mode, 'follow');
    assert.equal(choose('rss', { rss: 'toeplitz' }).mode, 'rss');
    for (const some of [{ rss: 'none' }, { rss: 'other' }, { rss: 'toeplitz', mode: 'generic' }] as const) {
      assert.throws(
        () => choose('rss', some),
        (error) =>
          error instanceof VnicError && error.code === 'preflight_refused' && /rss=on/.test(error.remedy ?? ''),
      );
    }
  });

  it('never passes packets where they arrive before the device was seen to obey', () => {
    fc.assert(
      fc.property(
        fc.record({
          mode: fc.constantFrom('native' as const, 'generic' as const),
          egress: fc.boolean(),
          driver: fc.constantFrom('virtio_net', 'veth', 'ena', null),
          queues: fc.integer({ min: 1, max: 64 }),
          txQueues: fc.integer({ min: 1, max: 64 }),
          rss: fc.constantFrom('none' as const, 'toeplitz' as const, 'other' as const),
        }),
        (some) => {
          assert.equal(chooseRedirect('auto', some).mode, 'cpumap');
        },
      ),
    );
    assert.deepEqual(redirectModes, ['cpumap', 'rss', 'follow']);
  });
});

describe('whether a device obeys', () => {
  const arrivals = (right: number, wrong: number, queues = 8) => [
    ...Array.from({ length: right }, (_, index) => ({ expected: index % queues, arrived: index % queues })),
    ...Array.from({ length: wrong }, (_, index) => ({ expected: index % queues, arrived: (index % queues) + 1 })),
  ];

  it('is judged by enough flows of several queues', () => {
    const cases = [
      [arrivals(0, 0), 'unknown'],
      [arrivals(15, 0), 'unknown'],
      [arrivals(16, 0), 'obeys'],
      [arrivals(16, 0, 1), 'unknown'],
      [arrivals(95, 5), 'obeys'],
      [arrivals(94, 6), 'unknown'],
      [arrivals(50, 50), 'unknown'],
      [arrivals(49, 51), 'disobeys'],
      [arrivals(1, 31), 'disobeys'],
    ] as const;
    for (const [list, verdict] of cases) assert.equal(judgeObedience(list).verdict, verdict, `${list.length}`);
  });
});

/** Settings in memory, by name; a name that is not there is a setting that the device has not. */
class MadeSettings implements SettingsPort {
  readonly values: Map<string, string>;
  readonly writes: string[] = [];
  constructor(values: Record<string, string>) {
    this.values = new Map(Object.entries(values));
  }
  read(name: SettingName): string | null {
    return this.values.get(name) ?? null;
  }
  write(name: SettingName, value: string): void {
    this.writes.push(`${name}=${value}`);
    this.values.set(name, value);
  }
}

describe('settings that are taken over', () => {
  const xps = {
    'tx-0/xps_cpus': '0',
    'tx-0/xps_rxqs': '',
    'tx-1/xps_cpus': '',
    'tx-2/xps_cpus': '2-3',
    'tx-2/xps_rxqs': '1',
  };

  it('are XPS of every transmit queue that has it, and what they were comes back', () => {
    const port = new MadeSettings(xps);
    const changes = leverChanges(port, 'follow', []);
    assert.deepEqual([...changes.keys()], ['tx-0/xps_cpus', 'tx-2/xps_cpus', 'tx-2/xps_rxqs']);
    const former = formerOf(port, changes);
    writeSettings(port, changes);
    assert.deepEqual([...leverChanges(port, 'follow', []).keys()], []);
    assert.deepEqual(formerOf(port, changes, former), former, 'what is known from before stays');
    port.values.delete('tx-2/xps_rxqs');
    restoreSettings(port, former, 'attached');
    restoreSettings(port, former, 'detached');
    const { 'tx-2/xps_rxqs': _, ...left } = xps;
    assert.deepEqual(Object.fromEntries(port.values), left, 'a setting that is gone is not written');
  });

  it('are the RSS table, which is set again after detaching only where somebody had set it', () => {
    for (const [table, afterwards] of [
      ['0,1,2,3,0,1,2,3', 0],
      ['3,3,2,2,1,1,0,0', 1],
    ] as const) {
      const port = new MadeSettings({ 'rss/table': table });
      const changes = leverChanges(port, 'rss', [0, 0, 0, 0, 1, 1, 1, 1]);
      const former = formerOf(port, changes);
      writeSettings(port, changes);
      restoreSettings(port, former, 'attached');
      assert.equal(port.read('rss/table'), table);
      const before = port.writes.length;
      restoreSettings(port, former, 'detached');
      assert.equal(port.writes.length - before, afterwards);
      assert.equal(port.read('rss/table'), table);
    }
  });

  it('are none on a device with one transmit queue, or where no queue is left for the table', () => {
    assert.equal(leverChanges(new MadeSettings({}), 'follow', []).size, 0);
    assert.equal(leverChanges(new MadeSettings({ 'rss/table': '0,0' }), 'rss', []).size, 0);
  });
});
