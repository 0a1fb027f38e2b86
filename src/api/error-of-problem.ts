// SPDX-License-Identifier: Apache-2.0
/** The client's side of problem objects. Apart from the other side, so that a client has little to load. */
import { type ErrorCode, errorTable, VnicError } from '../errors.ts';
import type { ApiResponse } from './operation.ts';

/** Within one process an error's whole story is at hand: its stack, its cause. */
const thrown = new WeakMap<ApiResponse, unknown>();

export function rememberThrown(response: ApiResponse, error: unknown): void {
  thrown.set(response, error);
}

/** What a response was made from, if that was in this process. */
export function thrownFor(response: ApiResponse): unknown {
  return thrown.get(response);
}

/** The error that a problem object was made from. */
export function errorOfProblem(problem: Record<string, unknown>, cause?: unknown): VnicError {
  const { type: _, title: __, status: ___, detail, code, remedy, ...details } = problem;
  const known = typeof code === 'string' && code in errorTable ? (code as ErrorCode) : 'failed';
  return new VnicError(known, String(detail), {
    ...(typeof remedy === 'string' ? { remedy } : {}),
    details,
    cause,
  });
}
