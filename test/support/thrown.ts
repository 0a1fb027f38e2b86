// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { VnicError } from '../../src/errors.ts';

/** The VnicError that `action` throws; anything else fails the test. */
export function thrownBy(action: () => unknown): VnicError {
  try {
    action();
  } catch (error) {
    assert.ok(error instanceof VnicError, String(error));
    return error;
  }
  return assert.fail('nothing was thrown');
}

/** The code of the VnicError that it rejects with; anything else fails the test. */
export async function codeOf(promise: Promise<unknown>): Promise<string> {
  const error: unknown = await promise.then(
    () => assert.fail('it did not reject'),
    (reason: unknown) => reason,
  );
  assert.ok(error instanceof VnicError, String(error));
  return error.code;
}
