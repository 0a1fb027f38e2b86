// SPDX-License-Identifier: Apache-2.0
/** The steering table as a whole: what a failure would do to it, and how it is balanced. */
import { z } from 'zod';
import { rebalancedEvent } from '../../app/rebalancing.ts';
import { rebalanceFields } from '../../config/schema.ts';
import { deviceText } from '../../loader/pins.ts';
import { dryRunQuery } from '../bodies.ts';
import { deviceParams } from '../device-param.ts';
import { operation } from '../operation.ts';
import * as schemas from '../schemas.ts';
import { movesByQueue, planView } from '../views.ts';
import { bodyErrors, deviceErrors } from './error-sets.ts';

const planRequest = z
  .strictObject({
    az: z.string('the name of an AZ').min(1).max(63),
    recover: z.boolean('true or false').optional().meta({ description: 'its recovery, not its failure' }),
    force: z.boolean('true or false').optional().meta({ description: 'also when few queues would be left' }),
  })
  .meta({ id: 'PlanRequest' });

export const planFailure = operation({
  id: 'planFailure',
  method: 'post',
  path: '/api/v1/devices/{device}/plan',
  tag: 'azs',
  summary: 'What the failure or the recovery of an AZ would do to buckets, flows and queues',
  access: 'read',
  params: deviceParams,
  query: z.strictObject({}),
  body: { schema: planRequest, example: { az: 'az-a' } },
  result: schemas.azPlan,
  responses: { 200: { description: 'The plan. Nothing is changed.', schema: schemas.azPlan } },
  errors: [...deviceErrors, 'policy_refused', 'conflict', ...bodyErrors],
  run: ({ controller }, { params: { device }, body: { az, recover = false, force } }) =>
    controller.readDevice(device, (attached) => {
      const preview = attached.preview(az, { recover, force });
      return { data: { device: deviceText(device), az, ...planView(attached, preview, recover) } };
    }),
});

const { threshold, max_over_mean: maxOverMean, min_gain: minGain } = rebalanceFields;

const rebalanceRequest = z
  .strictObject({
    threshold: threshold.meta({
      description: 'nothing is moved while no queue has more than so much of its fair load',
    }),
    maxOverMean: maxOverMean.meta({ description: 'what is aimed at' }),
    minGain: minGain.meta({ description: 'by which the largest ratio must fall' }),
    force: z.boolean('true or false').optional().meta({ description: 'also while the last one is not long ago' }),
  })
  .refine(({ threshold: limit, maxOverMean: aim }) => limit === undefined || aim === undefined || aim <= limit, {
    path: ['maxOverMean'],
    error: 'at most the threshold',
  })
  .meta({ id: 'RebalanceRequest', description: 'What is left out is as configured for the device.' });

export const rebalanceDevice = operation({
  id: 'rebalanceDevice',
  method: 'post',
  path: '/api/v1/devices/{device}/rebalance',
  tag: 'azs',
  summary: 'Move buckets between queues by their measured load',
  access: 'write',
  params: deviceParams,
  query: dryRunQuery,
  body: { schema: rebalanceRequest, optional: true, example: { threshold: 1.15, maxOverMean: 1.05 } },
  result: schemas.rebalanceResult,
  responses: { 200: { description: 'What moved, or would move.', schema: schemas.rebalanceResult } },
  errors: [...deviceErrors, 'conflict', ...bodyErrors],
  run: ({ controller, publish }, { params: { device }, query: { dryRun = false }, body }) =>
    controller.withDevice(device, (attached) => {
      const change = attached.rebalance({ ...body, dryRun });
      if (change.performed) publish(rebalancedEvent(device, change, 'manual'));
      const { moves, ...rest } = change;
      return {
        data: { device: deviceText(device), ...rest, moved: moves.length, moves: movesByQueue(moves) },
      };
    }),
});

export const steeringOperations = [planFailure, rebalanceDevice] as const;
