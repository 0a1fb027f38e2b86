// SPDX-License-Identifier: Apache-2.0
/** Every operation that works on devices. */
import type { Operation } from '../operation.ts';
import { azOperations } from './azs.ts';
import { dataplaneOperations } from './dataplane.ts';
import { deviceOperations } from './devices.ts';
import { lookOperations } from './look.ts';
import { ruleOperations } from './rule.ts';
import { ruleSetOperations } from './rules.ts';
import { specOperations } from './spec.ts';
import { steeringOperations } from './steering.ts';
import { tuneOperations } from './tune.ts';

export const operationTable = [
  ...deviceOperations,
  ...specOperations,
  ...ruleSetOperations,
  ...ruleOperations,
  ...azOperations,
  ...steeringOperations,
  ...dataplaneOperations,
  ...lookOperations,
  ...tuneOperations,
] as const;

type AnyOperation = (typeof operationTable)[number];
export type OperationId = AnyOperation['id'];

/** Operations as the dispatcher sees them: what each takes is checked when it is called. */
export const operations = operationTable as unknown as readonly Operation[];

export const operationsById: ReadonlyMap<string, Operation> = new Map(
  operations.map((operation) => [operation.id, operation]),
);
