// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { metricNames, requiredParts, withoutVariables } from '../../scripts/dashboards/promql.ts';
import { checkExpressions, type Queries } from '../../scripts/monitoring/check.ts';
import { dashboardExpressions, type Expression } from '../../scripts/monitoring/expressions.ts';

describe('an expression taken apart', () => {
  const cases: readonly (readonly [expression: string, names: string[], required: string[]])[] = [
    ['up', ['up'], ['up']],
    ['sum by (a) (rate(b{c="d"}[1m])) / e', ['b', 'e'], ['sum by (a) (rate(b{c="d"}[1m])) / e']],
    ['a > 3', ['a'], ['a']],
    ['3 < rate(a[5m]) * 2', ['a'], ['rate(a[5m]) * 2']],
    ['a > bool 3', ['a'], ['a > bool 3']],
    ['a > 3 and on (job) (up == 0)', ['a', 'up'], ['a', 'up']],
    ['(a unless b) and c', ['a', 'b', 'c'], ['a', 'c']],
    ['absent(up{job="x"})', ['up'], ['up{job="x"}']],
    ['a or b', ['a', 'b'], ['a or b']],
    ['device:a:rate1m{quantile="0.99"} > 0.1', ['device:a:rate1m'], ['device:a:rate1m{quantile="0.99"}']],
  ];
  for (const [expression, names, required] of cases) {
    it(`${expression} needs ${required.join(' and ')}`, () => {
      assert.deepEqual(metricNames(expression), names);
      assert.deepEqual(requiredParts(expression), required);
    });
  }

  for (const expression of ['rate(a[5m)', 'sum(', 'a b', '', 'a{b=c}']) {
    it(`${JSON.stringify(expression)} is refused`, () => {
      assert.throws(() => metricNames(expression), SyntaxError);
    });
  }

  it('has values for Grafana’s variables, and none for others', () => {
    assert.equal(withoutVariables('rate(a{device=~"$device"}[$__rate_interval])'), 'rate(a{device=~".+"}[10s])');
    assert.equal(
      withoutVariables('label_replace(a, "b", "0$1", "b", "(.)")'),
      'label_replace(a, "b", "0$1", "b", "(.)")',
    );
    assert.throws(() => withoutVariables('a{queue="$queue"}'), /\$queue is no variable/);
  });
});

describe('expressions of a dashboard', () => {
  it('are those of panels, of panels in closed rows, of marks and of variables', () => {
    const panel = (title: string, expr: string) => ({ title, targets: [{ expr }] });
    const text = JSON.stringify({
      panels: [panel('one', 'a'), { title: 'row', panels: [panel('two', 'b{device=~"$device"}')] }],
      annotations: { list: [{ name: 'mark', target: { expr: 'c > 0' } }] },
      templating: { list: [{ name: 'device', query: { query: 'label_values(d, device)' } }] },
    });
    assert.deepEqual(
      dashboardExpressions('x.json', text).map(({ kind, where, promql }) => [kind, where, promql]),
      [
        ['panel', 'x.json: one', 'a'],
        ['panel', 'x.json: two', 'b{device=~".+"}'],
        ['mark', 'x.json: mark', 'c > 0'],
        ['variable', 'x.json: device', 'd'],
      ],
    );
  });
});

describe('the check of expressions', () => {
  const answers: Record<string, number[]> = {
    good: [1],
    silent: [Number.NaN],
    half: [Number.NaN, 1],
    'good > 3': [],
    none: [],
  };
  const prometheus: Queries = {
    names: () => Promise.resolve(new Set(['good', 'silent', 'half', 'none'])),
    values: (promql) =>
      promql in answers ? Promise.resolve(answers[promql]!) : Promise.reject(new Error('cannot evaluate')),
  };
  const check = async (promql: string, conditional: Record<string, string> = {}) => {
    const expression: Expression = { kind: 'panel', where: 'here', promql };
    return await checkExpressions([expression], prometheus, conditional);
  };

  for (const promql of ['good', 'half', 'good > 3']) {
    it(`lets ${promql} be`, async () => {
      assert.deepEqual(await check(promql), { checked: 1, findings: [], empty: [] });
    });
  }

  const failing: readonly (readonly [promql: string, problem: RegExp])[] = [
    ['none', /gives nothing: none/],
    ['silent', /nothing but NaN: silent/],
    ['mistyped', /mistyped: neither exported nor recorded/],
    ['good / mistyped', /mistyped: neither/],
    ['sum(good)', /cannot evaluate: sum\(good\)/],
  ];
  for (const [promql, problem] of failing) {
    it(`finds ${promql}`, async () => {
      const { findings } = await check(promql);
      assert.equal(findings.length, 1);
      assert.match(findings[0]!.problem, problem);
    });
  }

  it('excuses nothing but emptiness for a metric that may be missing', async () => {
    const conditional = { none: 'only after rain', good: 'only in summer' };
    assert.deepEqual(await check('none', conditional), {
      checked: 1,
      findings: [],
      empty: [{ where: 'here', problem: 'only after rain' }],
    });
    assert.equal((await check('sum(good)', conditional)).findings.length, 1);
  });
});
