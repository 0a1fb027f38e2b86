// SPDX-License-Identifier: Apache-2.0
/**
 * The rule as users write it in JSON or YAML. Structure only: what text fields mean is read in parse.ts, so that this
 * schema can be published as it is. Error texts are noun phrases (see ProblemList).
 */
import { z } from 'zod';
import { VnicLimits } from '../../maps/generated/abi.ts';
import { MAX_PRIORITY, MAX_RULE_ID } from './model.ts';
import { strictObject, wholeNumber } from './problems.ts';

const prefix = z.string('a prefix such as 10.1.0.0/16 or fd00:a::/32');
const ports = z.union([z.string(), z.number()], 'a port or a range such as "1024-65535"');

function oneOf<const Values extends readonly [string, ...string[]]>(values: Values) {
  return z.enum(values, `one of ${values.join(', ')}`);
}

export const limitSchema = strictObject({
  rate: z.union([z.string(), z.number()], 'a rate such as 10mbit or 20kpps'),
  burst: z.union([z.string(), z.number()], 'a size such as 64kb, or packets such as "20 pkts"').optional(),
  scope: oneOf(['rule', 'flow']).optional(),
  mode: oneOf(['police', 'shape']).optional(),
});

export const ruleSchema = strictObject({
  id: wholeNumber(1, MAX_RULE_ID),
  priority: wholeNumber(0, MAX_PRIORITY).optional(),
  direction: oneOf(['ingress', 'egress']).optional(),
  match: strictObject({
    src: prefix.optional(),
    dst: prefix.optional(),
    proto: z.union([z.string(), z.number()], 'a protocol name or number').optional(),
    srcPort: ports.optional(),
    dstPort: ports.optional(),
  }).optional(),
  action: oneOf(['pass', 'drop']),
  limit: limitSchema.optional(),
  queues: z.array(wholeNumber(0, VnicLimits.maxQueues - 1), 'a list of queue numbers').optional(),
  shadow: z.boolean('true or false').optional(),
});

/** The user form of a rule. */
export type RuleInput = z.input<typeof ruleSchema>;
export type LimitInput = z.input<typeof limitSchema>;
