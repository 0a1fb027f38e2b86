// SPDX-License-Identifier: Apache-2.0
/** One rule by its id. */
import { z } from 'zod';
import { VnicError } from '../../errors.ts';
import { MAX_RULE_ID } from '../../steering/rules/model.ts';
import { parseRule } from '../../steering/rules/parse.ts';
import { dryRunQuery, integerInText, parseJson, withField } from '../bodies.ts';
import { deviceParam } from '../device-param.ts';
import { exampleRule } from '../examples.ts';
import { operation } from '../operation.ts';
import { applyPatch, type Change, changeRules, findRule, ruleTag } from '../rule-changes.ts';
import * as schemas from '../schemas.ts';
import { ruleView } from '../views.ts';
import { deviceErrors, ruleErrors } from './error-sets.ts';

const ruleParams = z.strictObject({
  device: deviceParam,
  id: z
    .string('a rule id')
    .regex(/^[1-9]\d{0,9}$/, `a whole number from 1 to ${MAX_RULE_ID}`)
    .transform(Number)
    .pipe(schemas.ruleId)
    .meta({ override: integerInText(1, MAX_RULE_ID) }),
});

export const getRule = operation({
  id: 'getRule',
  method: 'get',
  path: '/api/v1/devices/{device}/rules/{id}',
  tag: 'rules',
  summary: 'One rule with its counters',
  access: 'read',
  params: ruleParams,
  query: z.strictObject({}),
  body: null,
  result: schemas.ruleView,
  responses: { 200: { description: 'The rule.', schema: schemas.ruleView, etag: true } },
  errors: deviceErrors,
  run: ({ controller }, { params }) =>
    controller.readDevice(params.device, (attached) => {
      const rule = findRule(params.id, attached.config.rules);
      return { data: ruleView(attached, rule), headers: { etag: ruleTag(rule) } };
    }),
});

function tagOfRule(id: number): NonNullable<Change['tagOf']> {
  return (attached) => {
    const rule = attached.config.rules.find((candidate) => candidate.id === id);
    return { tag: rule === undefined ? null : ruleTag(rule), what: `Rule ${id}` };
  };
}

export const putRule = operation({
  id: 'putRule',
  method: 'put',
  path: '/api/v1/devices/{device}/rules/{id}',
  tag: 'rules',
  summary: 'Make one rule, or replace it as a whole',
  description:
    'The id may be left out of the body. With `If-None-Match: *` it only makes, with If-Match only replaces.',
  access: 'write',
  params: ruleParams,
  query: dryRunQuery,
  body: {
    schema: schemas.ruleBody,
    read: (bytes) => parseJson(bytes) as z.output<typeof schemas.ruleBody>,
    example: exampleRule,
  },
  result: schemas.ruleChanges,
  responses: {
    200: { description: 'Replaced, or a dry run.', schema: schemas.ruleChanges, etag: true },
    201: { description: 'Made.', schema: schemas.ruleChanges, etag: true },
  },
  errors: ruleErrors,
  run: (context, { params: { device, id }, query: { dryRun }, body, headers }) => {
    const rule = parseRule(withField(body, 'id', id));
    if (rule.id !== id) {
      throw new VnicError('usage', `The body has the id ${rule.id}, the path ${id}.`, {
        remedy: 'Make them the same.',
      });
    }
    const { report } = changeRules(context, {
      device,
      headers,
      dryRun,
      tagOf: tagOfRule(id),
      next: (rules) => applyPatch(rules, { add: [], replace: [], set: [rule], delete: [] }),
    });
    const made = report.performed && report.added.length > 0;
    return { status: made ? 201 : 200, data: report, headers: { etag: ruleTag(rule) } };
  },
});

export const deleteRule = operation({
  id: 'deleteRule',
  method: 'delete',
  path: '/api/v1/devices/{device}/rules/{id}',
  tag: 'rules',
  summary: 'Delete one rule',
  access: 'write',
  params: ruleParams,
  query: dryRunQuery,
  body: null,
  result: schemas.ruleChanges,
  responses: { 200: { description: 'What was changed.', schema: schemas.ruleChanges } },
  errors: [...deviceErrors, 'precondition_failed'],
  run: (context, { params: { device, id }, query: { dryRun }, headers }) => {
    const { report } = changeRules(context, {
      device,
      headers,
      dryRun,
      tagOf: (attached) => {
        findRule(id, attached.config.rules);
        return tagOfRule(id)(attached);
      },
      next: (rules) => applyPatch(rules, { add: [], replace: [], set: [], delete: [id] }),
    });
    return { data: report };
  },
});

export const ruleOperations = [getRule, putRule, deleteRule] as const;
