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
