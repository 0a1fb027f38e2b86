// SPDX-License-Identifier: Apache-2.0
/** Errors that several operations can give for the same reason. */

/** Of anything that opens a device. */
export const deviceErrors = ['not_found', 'abi_mismatch', 'state_damaged'] as const;

/** Of a body that is read. */
export const bodyErrors = ['unsupported_media_type', 'too_large'] as const;

/** Of a change that names rules in its body. */
export const ruleErrors = [
  ...deviceErrors,
  'invalid_rule',
  'too_many_shapes',
  'capacity_exceeded',
  'precondition_failed',
  ...bodyErrors,
] as const;
