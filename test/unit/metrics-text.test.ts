// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { formatFloat } from '../../src/telemetry/metrics/labels.ts';
import { negotiate } from '../../src/telemetry/metrics/negotiate.ts';
import { PassedCount } from '../../src/telemetry/metrics/rule-reader.ts';

const PROMETHEUS_2 =
  'application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1';
const PROMETHEUS_3 =
  'application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1';

describe('the format that a scraper gets', () => {
  const cases: readonly (readonly [accept: string | undefined, format: 'prometheus' | 'openmetrics'])[] = [
    [undefined, 'prometheus'],
    ['', 'prometheus'],
    ['*/*', 'prometheus'],
    ['text/*', 'prometheus'],
    ['application/*', 'openmetrics'],
    ['text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8', 'prometheus'],
    ['application/openmetrics-text', 'openmetrics'],
    ['Application/OpenMetrics-Text; Version="1.0.0"', 'openmetrics'],
    ['application/openmetrics-text;version=0.0.1', 'prometheus'],
    ['application/openmetrics-text;version=2.0.0,text/plain;q=0.1', 'prometheus'],
    ['application/openmetrics-text,text/plain', 'prometheus'],
    ['application/openmetrics-text;q=0.4,text/plain;q=0.3', 'openmetrics'],
    ['application/openmetrics-text;q=0.3,text/plain;q=0.4', 'prometheus'],
    ['application/openmetrics-text;q=0,*/*', 'prometheus'],
    ['text/plain;q=0,*/*;q=0.1', 'openmetrics'],
    ['application/openmetrics-text;q=much', 'prometheus'],
    ['image/png', 'prometheus'],
    [PROMETHEUS_2, 'openmetrics'],
    [PROMETHEUS_3, 'openmetrics'],
  ];
  for (const [accept, format] of cases) {
    it(`is ${format} for ${accept === undefined ? 'no Accept header' : JSON.stringify(accept.slice(0, 80))}`, () => {
      assert.equal(negotiate(accept), format);
    });
  }
});

describe('numbers in text', () => {
  it('are read back as they were, whatever they are', () => {
    fc.assert(
      fc.property(fc.double(), (value) => {
        const text = formatFloat(value);
        const read = Number(text.replace('Inf', 'Infinity'));
        assert.ok(Object.is(read, value) || read === value, `${value} became ${text}`);
      }),
    );
  });

  it('have the form in which Go prints them', () => {
    const forms: readonly (readonly [number, string])[] = [
      [2.55e-7, '2.55e-07'],
      [0.0001, '0.0001'],
      [0.000099, '9.9e-05'],
      [1, '1'],
      [1e21, '1e+21'],
      [123456789, '123456789'],
      [Number.NaN, 'NaN'],
      [Number.POSITIVE_INFINITY, '+Inf'],
      [Number.NEGATIVE_INFINITY, '-Inf'],
    ];
    for (const [value, text] of forms) assert.equal(formatFloat(value), text);
  });
});

describe('passed packets of a rule', () => {
  it('never fall, although a drop is counted a moment after its packet', () => {
    const passed = new PassedCount();
    assert.equal(passed.next(10n, 5n), 5n);
    assert.equal(passed.next(10n, 6n), 5n, 'the tenth was on its way to be dropped');
    assert.equal(passed.next(12n, 6n), 6n);
    assert.equal(passed.next(3n, 4n), 0n, 'a new rule in the same slot');
    assert.equal(passed.next(5n, 4n), 1n);
  });
});
