// SPDX-License-Identifier: Apache-2.0
/** The pure parts of the API: preconditions, negotiation, bodies, devices in paths, problems, the OpenAPI document. */
import assert from 'node:assert/strict';
import { createConfig, lintFromString } from '@redocly/openapi-core';
import fc from 'fast-check';
import { z } from 'zod';
import { encodeJson, negotiate, readBody } from '../../src/api/bodies.ts';
import { parseDeviceId } from '../../src/api/device-param.ts';
import { errorOfProblem } from '../../src/api/error-of-problem.ts';
import { openApiDocument } from '../../src/api/openapi.ts';
import { operations } from '../../src/api/operations/index.ts';
import { checkPreconditions } from '../../src/api/preconditions.ts';
import { problemResponse } from '../../src/api/problem.ts';
import { errorTable, VnicError } from '../../src/errors.ts';
import { deviceText } from '../../src/loader/pins.ts';

const text = (bytes: Uint8Array | null): string => new TextDecoder().decode(bytes ?? new Uint8Array());

describe('If-Match and If-None-Match', () => {
  const cases: [string | undefined, string | undefined, string | null, boolean][] = [
    [undefined, undefined, '"a"', true],
    ['"a"', undefined, '"a"', true],
    ['"b", "a"', undefined, '"a"', true],
    ['"b"', undefined, '"a"', false],
    ['W/"a"', undefined, '"a"', false],
    ['*', undefined, '"a"', true],
    ['*', undefined, null, false],
    ['"a"', undefined, null, false],
    [undefined, '*', null, true],
    [undefined, '*', '"a"', false],
    [undefined, '"b"', '"a"', true],
    [undefined, '"a"', '"a"', false],
  ];
  for (const [match, noneMatch, tag, passes] of cases) {
    it(`If-Match ${match ?? '-'}, If-None-Match ${noneMatch ?? '-'}, tag ${tag}: ${passes ? 'goes on' : '412'}`, () => {
      const headers = {
        ...(match === undefined ? {} : { 'if-match': match }),
        ...(noneMatch === undefined ? {} : { 'if-none-match': noneMatch }),
      };
      const check = (): void => checkPreconditions(headers, tag, 'The rule set');
      if (passes) check();
      else assert.throws(check, { code: 'precondition_failed' });
    });
  }
});

describe('content negotiation', () => {
  const offered = ['application/json', 'application/yaml', 'application/x-ndjson'];
  const cases: [string | undefined, string | null][] = [
    [undefined, 'application/json'],
    ['*/*', 'application/json'],
    ['application/yaml', 'application/yaml'],
    ['application/*;q=0.5, application/yaml', 'application/yaml'],
    ['application/json;q=0.2, application/x-ndjson;q=0.9', 'application/x-ndjson'],
    ['application/json;q=0, */*', 'application/yaml'],
    ['text/html', null],
    ['application/json;q=0', null],
  ];
  for (const [accept, expected] of cases) {
    it(`${accept ?? 'no wish'} gives ${expected ?? 'nothing'}`, () => {
      assert.equal(negotiate(accept, offered), expected);
    });
  }
});

describe('bodies', () => {
  const spec = { schema: z.strictObject({ a: z.int('a whole number') }) };
  const read = (body: string | Uint8Array, type = 'application/json'): unknown =>
    readBody(spec, typeof body === 'string' ? new TextEncoder().encode(body) : body, type);

  it('reads JSON, whatever the parameters of its type', () => {
    assert.deepEqual(read('{"a":1}', 'Application/JSON; charset=utf-8'), { a: 1 });
  });
  it('refuses what is no JSON, no UTF-8, of another type, empty, or not as the schema says', () => {
    assert.throws(() => read('{"a":'), { code: 'usage' });
    assert.throws(() => read(Uint8Array.of(0x22, 0xff, 0x22)), { code: 'usage', message: /UTF-8/ });
    assert.throws(() => read('{"a":1}', 'text/plain'), { code: 'unsupported_media_type' });
    assert.throws(() => read(''), { code: 'usage' });
    assert.throws(() => read('{"a":"x"}'), { code: 'usage', message: /a: "x" is not a whole number/ });
    assert.throws(() => read('{"a":1,"__proto__":{"b":2}}'), { code: 'usage' });
  });
  it('refuses depth that no reader stands, as the fault of the request', () => {
    const depth = 200_000;
    const deep = `${'{"a":'.repeat(depth)}1${'}'.repeat(depth)}`;
    let thrown: unknown;
    try {
      read(deep);
    } catch (error) {
      thrown = error;
    }
    assert.equal(problemResponse(thrown).status, 400);
  });
  it('writes 64-bit counters with all their digits', () => {
    const json = text(encodeJson({ bytes: 2n ** 64n - 1n, small: 3n, list: [1n], nothing: null }));
    assert.equal(json, '{"bytes":18446744073709551615,"small":3,"list":[1],"nothing":null}');
  });
});

describe('devices in paths', () => {
  it('reads what deviceText writes', () => {
    const name = fc.stringMatching(/^[a-z][a-z0-9._-]{0,14}$/);
    const netns = fc.option(fc.stringMatching(/^[a-z][a-z0-9._-]{0,30}$/));
    fc.assert(
      fc.property(name, netns, (deviceName, namespace) => {
        const device = { name: deviceName, netns: namespace };
        assert.deepEqual(parseDeviceId(deviceText(device)), device);
      }),
    );
  });
  for (const bad of [
    '',
    '.',
    '..',
    'a/b',
    'eth0@',
    'eth0@..',
    'eth0@a/b',
    'a@b@c',
    'sixteen-byte-name',
    'a b',
    'x:y',
  ]) {
    it(`refuses ${JSON.stringify(bad)}`, () => assert.equal(parseDeviceId(bad), null));
  }
});

describe('problem objects', () => {
  it('carry every error there and back', () => {
    for (const code of Object.keys(errorTable) as (keyof typeof errorTable)[]) {
      const error = new VnicError(code, 'It went wrong.', { remedy: 'Do this.', details: { rule: 7 } });
      const response = problemResponse(error);
      assert.equal(response.status, errorTable[code].httpStatus);
      const back = errorOfProblem(JSON.parse(text(response.body)) as Record<string, unknown>);
      assert.deepEqual(
        [back.code, back.message, back.remedy, back.details],
        [error.code, error.message, error.remedy, error.details],
      );
    }
  });
  it('name a hundred problems of a request that has more, and how many it has', () => {
    const problems = Array.from({ length: 1000 }, (_, index) => ({ path: `rules[${index}]`, message: 'is missing' }));
    const { body } = problemResponse(new VnicError('invalid_rule', 'rules are not valid', { details: { problems } }));
    const problem = JSON.parse(text(body)) as { problems: unknown[]; problemCount: number };
    assert.equal(problem.problems.length, 100);
    assert.equal(problem.problemCount, 1000);
  });
  it('do not show what went wrong inside', () => {
    const response = problemResponse(new TypeError("Cannot read properties of undefined (reading 'x')\n at secret.ts"));
    assert.equal(response.status, 500);
    assert.doesNotMatch(text(response.body), /secret/);
  });
});

describe('the OpenAPI document', () => {
  const document = openApiDocument('0.0.0');

  it('has every operation under its path and method', () => {
    for (const { id, path, method } of operations) {
      const described = document.paths?.[path]?.[method as 'get'];
      assert.equal(described?.operationId, id);
    }
  });
  it('has nothing in it that only makes it', () => {
    assert.doesNotMatch(JSON.stringify(document), /"override":/);
  });
  it('says for each operation which statuses it can give, and describes each body', () => {
    for (const { path, method, errors, id } of operations) {
      const responses = document.paths?.[path]?.[method as 'get']?.responses ?? {};
      for (const code of errors) {
        const { httpStatus } = errorTable[code];
        assert.ok(responses[httpStatus === 500 ? 'default' : httpStatus], `${id} does not document ${code}`);
      }
      assert.ok(Object.keys(responses).some((status) => status.startsWith('2')));
    }
  });
  it('shows of each body an example that its schema takes', () => {
    for (const { body, id } of operations) {
      if (body === null) continue;
      assert.notEqual(body.example, undefined, `${id} has no example`);
      const { error } = body.schema.safeParse(body.example);
      assert.equal(error, undefined, `${id}: ${error?.message}`);
    }
  });
  it('is a valid OpenAPI 3.1 document by the rules of an independent linter', async function () {
    this.timeout(30_000);
    const config = await createConfig({ extends: ['spec', 'minimal'] });
    const problems = await lintFromString({ source: JSON.stringify(document), config });
    const errors = problems.filter(({ severity }) => severity === 'error');
    assert.deepEqual(
      errors.map(({ ruleId, message, location }) => `${ruleId}: ${message} at ${location[0]?.pointer}`),
      [],
    );
  });
});
