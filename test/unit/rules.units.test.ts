// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import type { Rate } from '../../src/steering/rules/model.ts';
import { defaultBurst, formatBurst, formatRate, parseBurst, parseRate } from '../../src/steering/rules/units.ts';
import { thrownBy } from '../support/thrown.ts';

describe('rates and bursts', () => {
  it('are read in the units of tc(8)', () => {
    const rates: [string | number, number][] = [
      [64_000, 64_000],
      ['64000', 64_000],
      ['64000bit', 64_000],
      ['10kbit', 10_000],
      ['1.5mbit', 1_500_000],
      ['1.1gbit', 1_100_000_000],
      ['0.1tbit', 100_000_000_000],
      ['10 Mbit', 10_000_000],
      ['1e6bit', 1_000_000],
      ['1kibit', 1024],
      ['1mibit', 1_048_576],
      ['1gibit', 1_073_741_824],
      ['1000bps', 8000],
      ['1kbps', 8000],
      ['10mbps', 80_000_000],
      ['1gbps', 8_000_000_000],
      ['1kibps', 8192],
      ['400gbit', 400_000_000_000],
    ];
    for (const [text, bitsPerSecond] of rates) assert.deepEqual(parseRate(text), { bitsPerSecond }, String(text));
    const packetRates: [string, number][] = [
      ['1pps', 1],
      ['20kpps', 20_000],
      ['0.5kpps', 500],
      ['400mpps', 400_000_000],
    ];
    for (const [text, packetsPerSecond] of packetRates) assert.deepEqual(parseRate(text), { packetsPerSecond });
  });

  it('out of bounds or in unknown units are refused', () => {
    for (const text of ['999bit', 999, '401gbit', '1tbit', '0mbit', '0.4pps', '401mpps', 0]) {
      assert.match(thrownBy(() => parseRate(text)).message, /is outside/, String(text));
    }
    for (const text of ['10mb', '10mbits', '1gpps', '10 m bit']) {
      assert.equal(thrownBy(() => parseRate(text)).code, 'invalid_rule', text);
    }
    for (const text of ['', 'mbit', '-1mbit', '1,5mbit', Number.NaN, Number.POSITIVE_INFINITY]) {
      assert.match(thrownBy(() => parseRate(text)).message, /is not a number and a unit/);
    }
    assert.match(thrownBy(() => parseRate('50%')).message, /percentage/);
  });

  it('have sizes in tc’s binary units, and packets for a rate in packets', () => {
    const bits: Rate = { bitsPerSecond: 1e6 };
    const packets: Rate = { packetsPerSecond: 1e3 };
    const sizes: [string | number, number][] = [
      [1500, 1500],
      ['1500', 1500],
      ['1500b', 1500],
      ['64kb', 65_536],
      ['64k', 65_536],
      ['1mb', 1_048_576],
      ['1.5k', 1536],
      ['1g', 1_073_741_824],
      ['8kbit', 1024],
      ['8mbit', 1_048_576],
    ];
    for (const [text, bytes] of sizes) assert.deepEqual(parseBurst(text, bits), { bytes }, String(text));
    for (const text of [20, '20', '20 pkts', '20pkts', '20 packets']) {
      assert.deepEqual(parseBurst(text, packets), { packets: 20 });
    }
    assert.match(thrownBy(() => parseBurst('64kb', packets)).message, /not in packets/);
    assert.match(thrownBy(() => parseBurst('20 pkts', bits)).message, /in packets, but the rate is in bits/);
    for (const text of ['0', '4gb', '1tb', 'x'])
      assert.equal(thrownBy(() => parseBurst(text, bits)).code, 'invalid_rule');
    for (const text of ['0', '1.5', '16777217']) {
      assert.equal(thrownBy(() => parseBurst(text, packets)).code, 'invalid_rule');
    }
  });

  it('default to a burst of 10 ms, at least 16 KiB or 10 packets', () => {
    assert.deepEqual(defaultBurst({ bitsPerSecond: 1e6 }), { bytes: 16_384 });
    assert.deepEqual(defaultBurst({ bitsPerSecond: 10e9 }), { bytes: 12_500_000 });
    assert.deepEqual(defaultBurst({ packetsPerSecond: 1 }), { packets: 10 });
    assert.deepEqual(defaultBurst({ packetsPerSecond: 400e6 }), { packets: 4_000_000 });
  });

  it('are written in the largest unit that is exact', () => {
    assert.equal(formatRate({ bitsPerSecond: 10_000_000 }), '10mbit');
    assert.equal(formatRate({ bitsPerSecond: 1_500_000 }), '1500kbit');
    assert.equal(formatRate({ bitsPerSecond: 1_234_567 }), '1234567bit');
    assert.equal(formatRate({ packetsPerSecond: 20_000 }), '20kpps');
    assert.equal(formatBurst({ bytes: 65_536 }), '64kb');
    assert.equal(formatBurst({ bytes: 1500 }), '1500b');
    assert.equal(formatBurst({ packets: 20 }), '20 pkts');
  });
});
