// SPDX-License-Identifier: Apache-2.0
/** AZs and rules of a device as one: what was asked for, replaced in one transaction. */
import { z } from 'zod';
import { replaceSpec as replace, specTag } from '../../app/spec-parts.ts';
import { formatAz, parseAzs } from '../../config/azs.ts';
import { deviceText } from '../../loader/pins.ts';
import { formatRule } from '../../steering/rules/format.ts';
import { parseRules } from '../../steering/rules/parse.ts';
import { checkInput, dryRunQuery, parseJson } from '../bodies.ts';
import { deviceParams } from '../device-param.ts';
import { exampleRule } from '../examples.ts';
import { operation } from '../operation.ts';
import { checkPreconditions } from '../preconditions.ts';
import * as schemas from '../schemas.ts';
import { deviceErrors, ruleErrors } from './error-sets.ts';

const spec = z
  .strictObject({ azs: z.array(schemas.az).optional(), rules: z.array(schemas.rule).optional() })
  .meta({ id: 'Spec', description: 'AZs and rules of a device. What is not given stays as it is.' });

/** AZs and rules are read one by one later, so that every problem is found. */
const outline = z.strictObject({
  azs: z.array(z.unknown(), 'a list of AZs').optional(),
  rules: z.array(z.unknown(), 'a list of rules').optional(),
});

const specChange = z
  .object({ device: z.string(), performed: z.boolean(), azs: z.number(), rules: z.number() })
  .meta({ id: 'SpecChange', description: 'How many AZs and rules the device has now.' });

export const getSpec = operation({
  id: 'getSpec',
  method: 'get',
  path: '/api/v1/devices/{device}/spec',
  tag: 'devices',
  summary: 'AZs and rules as they were asked for, without counters and states',
  access: 'read',
  params: deviceParams,
  query: z.strictObject({}),
  body: null,
  result: spec,
  responses: { 200: { description: 'In the form that PUT takes.', schema: spec, etag: true } },
  errors: deviceErrors,
  run: ({ controller }, { params }) =>
    controller.readDevice(params.device, (attached) => ({
      data: { azs: attached.config.azs.map(formatAz), rules: attached.config.rules.map(formatRule) },
      headers: { etag: `"${specTag(attached)}"` },
    })),
});

export const replaceSpec = operation({
  id: 'replaceSpec',
  method: 'put',
  path: '/api/v1/devices/{device}/spec',
  tag: 'devices',
  summary: 'Replace AZs and rules together, all or nothing',
  description:
    'One transaction: no packet meets the new rules with the old AZs. AZs that keep their name keep their state, rules that keep their id keep their counters.',
  access: 'write',
  params: deviceParams,
  query: dryRunQuery,
  body: {
    schema: spec,
    read: (bytes) => checkInput(outline, parseJson(bytes), 'The body is not valid') as z.output<typeof spec>,
    example: { azs: [{ name: 'az-a', queues: '0-10', prefixes: ['10.1.0.0/16'] }], rules: [exampleRule] },
  },
  result: specChange,
  responses: {
    200: { description: 'What is there now; for a dry run what would be.', schema: specChange, etag: true },
  },
  errors: [...ruleErrors, 'invalid_config'],
  run: ({ controller, publish }, { params: { device }, query: { dryRun = false }, body, headers }) => {
    const azs = body.azs === undefined ? undefined : parseAzs(body.azs);
    const rules = body.rules === undefined ? undefined : parseRules(body.rules);
    return controller.withDevice(device, (attached) => {
      const before = specTag(attached);
      checkPreconditions(headers, `"${before}"`, 'The spec');
      replace(attached, { azs, rules }, { dryRun });
      const { config } = attached;
      const data = {
        device: deviceText(device),
        performed: !dryRun,
        azs: (dryRun ? azs : undefined)?.length ?? config.azs.length,
        rules: (dryRun ? rules : undefined)?.length ?? config.rules.length,
      };
      const after = specTag(attached);
      if (after !== before) {
        const { azs: azCount, rules: ruleCount } = data;
        publish({ type: 'spec.changed', device: data.device, data: { azs: azCount, rules: ruleCount } });
      }
      return { data, headers: { etag: `"${after}"` } };
    });
  },
});

export const specOperations = [getSpec, replaceSpec] as const;
