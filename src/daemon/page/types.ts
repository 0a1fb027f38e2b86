// SPDX-License-Identifier: Apache-2.0
/** What the page reads, as JSON.parse() gives it. Types only: browsers are not served this file. */
import type { z } from 'zod';
// Its additions to zod are in what the schemas say.
import type {} from 'zod-openapi';
import type * as look from '../../api/look-schemas.ts';
import type * as schemas from '../../api/schemas.ts';

/** Counters of 64 bits arrive as numbers: exact to 2^53, and above that good enough to look at. */
type Wire<T> = T extends bigint ? number : T extends object ? { [Field in keyof T]: Wire<T[Field]> } : T;

type Shape<Schema extends z.ZodType> = Wire<z.output<Schema>>;

export type DeviceSummary = Shape<typeof schemas.deviceSummary>;
export type DeviceStatus = Shape<typeof schemas.deviceStatus>;
export type LatencyReport = Shape<typeof look.latencyReport>;
export type QueueStatus = Shape<typeof schemas.queueStatus>;
export type AzStatus = Shape<typeof schemas.azStatus>;
export type BfdSession = NonNullable<AzStatus['health']>['bfd'][number];
export type AzPlan = Shape<typeof schemas.azPlan>;
export type AzChange = Shape<typeof schemas.azChange>;
export type Flow = Shape<typeof schemas.flow>;
export type Rule = Shape<typeof schemas.ruleView>;
export type Problem = Shape<typeof schemas.problem>;
export type Event = Shape<typeof schemas.event>;

export interface Page<Item> {
  items: Item[];
  next: string | null;
}
