// SPDX-License-Identifier: Apache-2.0
/** Pieces that shapes of the API are made of. */
import { z } from 'zod';

/** A counter of the kernel: 64 bits. Clients whose numbers are doubles lose exactness above 2^53. */
export const counter = z
  .custom<number | bigint>()
  .meta({ id: 'Counter', description: '64 bits, counts up', override: { type: 'integer', minimum: 0 } });

export const count = z.int().min(0);
export const nullableInt = z.int().nullable();

/** A list that code here does not change. Published as any list: `readOnly` is about what clients may send. */
export function listOf<Item extends z.ZodType>(item: Item) {
  return z
    .array(item)
    .readonly()
    .meta({
      override: ({ jsonSchema }) => {
        delete jsonSchema['readOnly'];
      },
    });
}

const nullableNs = z.number().nullable();

const quantiles = {
  count: counter,
  meanNs: nullableNs,
  p50Ns: nullableNs,
  p90Ns: nullableNs,
  p99Ns: nullableNs,
  p999Ns: nullableNs,
};

export const latency = z
  .object(quantiles)
  .meta({ id: 'Latency', description: 'Times of a sample since attach. Quantiles are at most 1/16 too high.' });

export const latencyHistogram = z
  .object({
    ...quantiles,
    buckets: z.array(
      z.object({ upToNs: z.number(), count: counter }).meta({
        id: 'LatencyBucket',
        description: 'From the edge of the bucket before it; those without any are left out.',
      }),
    ),
  })
  .meta({
    id: 'LatencyHistogram',
    description: 'Counts since attach: the difference of two looks is what came since.',
  });

export const unavailableReason = z.string().nullable().meta({ description: 'why it is not available; null: it is' });
