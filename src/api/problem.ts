// SPDX-License-Identifier: Apache-2.0
/** Errors as RFC 9457 problem objects. */
import { type ErrorCode, errorTable, permissionError, VnicError } from '../errors.ts';
import { encodeJson } from './bodies.ts';
import { rememberThrown } from './error-of-problem.ts';
import type { ApiResponse } from './operation.ts';

export const PROBLEM_TYPE = 'application/problem+json';

/** Long, and of use only to somebody who asks with --verbose. */
const MAX_PROBLEMS = 100;

/** Whatever was thrown, as an error with a code. */
export function asVnicError(error: unknown): VnicError {
  if (error instanceof VnicError) return error;
  if (error instanceof RangeError) {
    return new VnicError('usage', `The request is too deep or too large to be read: ${error.message}.`, {
      remedy: 'Send data as the OpenAPI document describes it.',
      cause: error,
    });
  }
  const refused = permissionError(error);
  if (refused !== null) return refused;
  const text = error instanceof Error ? error.message : String(error);
  return new VnicError('failed', `Unexpected: ${text.split('\n')[0]}`, {
    remedy: 'Run it again with --verbose, or look into the log of the daemon, and report what it says.',
    cause: error,
  });
}

export function problemResponse(thrown: unknown): ApiResponse {
  const error = asVnicError(thrown);
  const problem = error.toProblem();
  const { problems } = problem;
  if (Array.isArray(problems) && problems.length > MAX_PROBLEMS) {
    problem['problems'] = problems.slice(0, MAX_PROBLEMS);
    problem['problemCount'] = problems.length;
  }
  const response: ApiResponse = {
    status: errorTable[error.code].httpStatus,
    headers: { 'content-type': PROBLEM_TYPE, ...retryAfter(error.code) },
    body: encodeJson(problem),
  };
  rememberThrown(response, error);
  return response;
}

function retryAfter(code: ErrorCode): Record<string, string> {
  return code === 'too_many_requests' || code === 'not_ready' ? { 'retry-after': '1' } : {};
}
