// SPDX-License-Identifier: Apache-2.0
/** Load of each bucket, as measured from the flow table. */

/** By row (AZ of the flow's verdict, 0: none known), then by bucket. */
export interface BucketLoads {
  packetsPerSecond: Float64Array[];
  bytesPerSecond: Float64Array[];
  /** Flows that were seen lately. */
  flows: Uint32Array[];
  /** Between the two looks; null: one look, so each flow counts with its mean since it was first seen. */
  windowMs: number | null;
}
