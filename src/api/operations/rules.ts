// SPDX-License-Identifier: Apache-2.0
/** The rule set of a device. Every change is one transaction. */
import { z } from 'zod';
import { formatRules, parseRuleText } from '../../config/rule-text.ts';
import { VnicError } from '../../errors.ts';
import { formatRule } from '../../steering/rules/format.ts';
import { type Rule, rankRules, specificity } from '../../steering/rules/model.ts';
import { parseRules } from '../../steering/rules/parse.ts';
import { checkInput, decodeText, dryRunQuery, negotiate, parseJson, queryNumber } from '../bodies.ts';
import { deviceParams } from '../device-param.ts';
import { exampleRule } from '../examples.ts';
import { operation } from '../operation.ts';
import { applyPatch, changeRules, type Patch, parseQosLines, setTag, withRates } from '../rule-changes.ts';
import * as schemas from '../schemas.ts';
import { ruleView } from '../views.ts';
import { deviceErrors, ruleErrors } from './error-sets.ts';

const YAML = 'application/yaml';
const NDJSON = 'application/x-ndjson';
/** A YAML parser takes about a second for so much. */
const MAX_YAML_BYTES = 1 << 20;
const DEFAULT_PAGE = 100;
const MAX_PAGE = 1 << 20;

const ruleSet = z.union([
  z.array(schemas.rule),
  z
    .strictObject({ items: z.array(z.union([schemas.rule, schemas.ruleView])), next: z.null().optional() })
    .meta({ description: 'What GET gives of a whole set. Its counters are not looked at.' }),
]);

/**
 * The rules of a body. JSON may be a list, or what GET gives: then the counters are not looked at. Throws `usage`,
 * `invalid_rule`.
 */
function readRuleSet(bytes: Uint8Array, mediaType: string): unknown[] {
  if (mediaType === YAML && bytes.length > MAX_YAML_BYTES) {
    const message = `The YAML is ${bytes.length} bytes, of which at most ${MAX_YAML_BYTES} are read.`;
    throw new VnicError('too_large', message, { remedy: 'Send large rule sets as JSON or NDJSON.' });
  }
  if (mediaType !== 'application/json') return parseRuleText(decodeText(bytes), 'the body');
  const value = parseJson(bytes);
  if (Array.isArray(value)) return value as unknown[];
  const page = z.strictObject({ items: z.array(z.unknown()), next: z.string().nullish() }).safeParse(value);
  if (!page.success) {
    throw new VnicError('usage', 'The body is neither a list of rules nor an object with the list under "items".', {
      remedy: 'Send [{"id":1,…},…].',
    });
  }
  if (page.data.next != null) {
    throw new VnicError('usage', 'The body is a part of a list of rules: more follow after its "next".', {
      remedy: 'Read the whole list, with a larger limit, and send it as a whole.',
    });
  }
  return page.data.items.map(withoutCounters);
}

function withoutCounters(rule: unknown): unknown {
  if (typeof rule !== 'object' || rule === null || !('counters' in rule)) return rule;
  const { counters: _, ...rest } = rule;
  return rest;
}

const rankings = new WeakMap<readonly Rule[], Rule[]>();

/** The rule that wins over all others first. Ranked once for each set. */
function ranked(rules: readonly Rule[]): Rule[] {
  const known = rankings.get(rules);
  if (known !== undefined) return known;
  const ranking = rankRules(rules);
  rankings.set(rules, ranking);
  return ranking;
}

/** A place in the ranking that stays meaningful when rules come and go. */
function cursorOf(rule: Rule): string {
  return Buffer.from(`${rule.priority}.${specificity(rule.match)}.${rule.id}`).toString('base64url');
}

/** Index of the first rule after the cursor. Throws `usage`. */
function afterCursor(rules: readonly Rule[], cursor: string): number {
  const parts = /^(\d{1,10})\.(\d{1,3})\.(\d{1,10})$/.exec(Buffer.from(cursor, 'base64url').toString('latin1'));
  if (parts === null) {
    throw new VnicError('usage', 'The cursor is not one that this list gave out.', {
      remedy: 'Start again without cursor, and use "next" of each answer.',
    });
  }
  const [priority = 0, specific = 0, id = 0] = parts.slice(1).map(Number);
  const index = rules.findIndex((rule) => {
    const difference = priority - rule.priority || specific - specificity(rule.match) || rule.id - id;
    return difference > 0;
  });
  return index === -1 ? rules.length : index;
}

export const listRules = operation({
  id: 'listRules',
  method: 'get',
  path: '/api/v1/devices/{device}/rules',
  tag: 'rules',
  summary: 'Rules with their counters, the one that wins first',
  description:
    'As YAML or NDJSON (by Accept) the whole set without counters, in the form that PUT takes: an export. The ETag is that of the whole set.',
  access: 'read',
  params: deviceParams,
  query: z.strictObject({ limit: queryNumber(1, MAX_PAGE), cursor: z.string().max(64).optional() }),
  body: null,
  result: schemas.page(schemas.ruleView),
  responses: {
    200: {
      description: 'A part of the list; `next` is the cursor of the following part, or null.',
      schema: schemas.page(schemas.ruleView),
      otherTypes: [YAML, NDJSON],
      etag: true,
    },
  },
  errors: deviceErrors,
  run: ({ controller }, { params, query, headers }) =>
    controller.readDevice(params.device, (attached) => {
      const type = negotiate(headers.accept, ['application/json', YAML, NDJSON]);
      const responseHeaders = { etag: setTag(attached) };
      if (type === YAML || type === NDJSON) {
        const text = formatRules(attached.config.rules.map(formatRule), type === YAML ? 'yaml' : 'ndjson');
        return { text: text === '' ? '' : `${text}\n`, contentType: type, headers: responseHeaders };
      }
      const rules = ranked(attached.config.rules);
      const start = query.cursor === undefined ? 0 : afterCursor(rules, query.cursor);
      const part = rules.slice(start, start + (query.limit ?? DEFAULT_PAGE));
      const last = part.at(-1);
      const next = last === undefined || start + part.length >= rules.length ? null : cursorOf(last);
      return { data: { items: part.map((rule) => ruleView(attached, rule)), next }, headers: responseHeaders };
    }),
});

export const replaceRules = operation({
  id: 'replaceRules',
  method: 'put',
  path: '/api/v1/devices/{device}/rules',
  tag: 'rules',
  summary: 'Replace the whole set, all or nothing',
  description:
    'The set is validated, compiled and loaded beside the live one; then one store makes it live. No packet meets a part of it. Rules that keep their id keep their counters.',
  access: 'write',
  params: deviceParams,
  query: dryRunQuery,
  body: {
    schema: ruleSet,
    otherTypes: [YAML, NDJSON],
    read: (bytes, mediaType) => readRuleSet(bytes, mediaType) as z.output<typeof ruleSet>,
    example: [exampleRule],
  },
  result: schemas.ruleChanges,
  responses: {
    200: { description: 'What was changed; for a dry run what would be.', schema: schemas.ruleChanges, etag: true },
  },
  errors: ruleErrors,
  run: (context, { params: { device }, query: { dryRun }, body, headers }) => {
    const rules = parseRules(body);
    const { report, etag } = changeRules(context, { device, headers, dryRun, next: () => rules });
    return { data: report, headers: { etag } };
  },
});

const patch = z
  .strictObject({
    add: z.array(schemas.rule).optional().meta({ description: 'rules whose ids are not in use' }),
    replace: z.array(schemas.rule).optional().meta({ description: 'rules whose ids are in use' }),
    set: z.array(schemas.rule).optional().meta({ description: 'rules, whether or not their ids are in use' }),
    delete: z.array(schemas.ruleId).optional(),
  })
  .meta({ id: 'RulePatch' });

/** Rules are read one by one later, so that every problem is found. */
const patchOutline = z.strictObject({
  add: z.array(z.unknown(), 'a list of rules').optional(),
  replace: z.array(z.unknown(), 'a list of rules').optional(),
  set: z.array(z.unknown(), 'a list of rules').optional(),
  delete: z.array(schemas.ruleId, 'a list of rule ids').optional(),
});

export const patchRules = operation({
  id: 'patchRules',
  method: 'patch',
  path: '/api/v1/devices/{device}/rules',
  tag: 'rules',
  summary: 'Add, replace and delete several rules, all or nothing',
  access: 'write',
  params: deviceParams,
  query: dryRunQuery,
  body: {
    schema: patch,
    read: (bytes) => checkInput(patchOutline, parseJson(bytes), 'The body is not valid') as z.output<typeof patch>,
    example: { set: [exampleRule], delete: [8, 9] },
  },
  result: schemas.ruleChanges,
  responses: {
    200: { description: 'What was changed; for a dry run what would be.', schema: schemas.ruleChanges, etag: true },
  },
  errors: ['conflict', ...ruleErrors],
  run: (context, { params: { device }, query: { dryRun }, body, headers }) => {
    const change: Patch = {
      add: parseRules(body.add ?? []),
      replace: parseRules(body.replace ?? []),
      set: parseRules(body.set ?? []),
      delete: body.delete ?? [],
    };
    const { report, etag } = changeRules(context, {
      device,
      headers,
      dryRun,
      next: (rules) => applyPatch(rules, change),
    });
    return { data: report, headers: { etag } };
  },
});

const qosLine = z.strictObject({ flow_id: schemas.ruleId, rate: z.number() }).meta({
  id: 'QosLine',
  description: 'A rule’s id and its rate in kbit/s: one JSON object a line.',
});

export const applyQos = operation({
  id: 'applyQos',
  method: 'post',
  path: '/api/v1/devices/{device}/qos',
  tag: 'rules',
  summary: 'Set the rates of rules by a QoS agent’s lines, all or nothing',
  access: 'write',
  params: deviceParams,
  query: dryRunQuery,
  body: {
    schema: qosLine,
    otherTypes: [NDJSON],
    // The lines are text until they are read one by one, so that an error can name its line.
    read: (bytes) => decodeText(bytes) as unknown as z.output<typeof qosLine>,
    example: { flow_id: 7, rate: 10_000 },
  },
  result: schemas.ruleChanges,
  responses: { 200: { description: 'What was changed.', schema: schemas.ruleChanges, etag: true } },
  errors: [
    'not_found',
    'invalid_rule',
    'capacity_exceeded',
    'precondition_failed',
    'unsupported_media_type',
    'too_large',
    'abi_mismatch',
    'state_damaged',
  ],
  run: (context, { params: { device }, query: { dryRun }, body, headers }) => {
    const rates = parseQosLines(body as unknown as string);
    const { report, etag } = changeRules(context, {
      device,
      headers,
      dryRun,
      next: (rules) => withRates(rules, rates),
    });
    return { data: report, headers: { etag } };
  },
});

export const ruleSetOperations = [listRules, replaceRules, patchRules, applyQos] as const;
