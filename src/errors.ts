// SPDX-License-Identifier: Apache-2.0
/**
 * One error type and one table. A code is stable: scripts match on it, documentation explains it.
 */

export const errorTable = {
  failed: { exitCode: 1, httpStatus: 500, meaning: 'The operation failed; the cause says why.' },
  kernel_refused: { exitCode: 1, httpStatus: 500, meaning: 'A system call failed; errno and the call are named.' },
  verifier_rejected: {
    exitCode: 1,
    httpStatus: 500,
    meaning: 'The kernel refused to load a BPF program; its log is attached.',
  },
  state_damaged: {
    exitCode: 1,
    httpStatus: 500,
    meaning: 'A state file cannot be read; it was set aside, never deleted.',
  },
  usage: { exitCode: 2, httpStatus: 400, meaning: 'The command line or the request is wrong.' },
  invalid_rule: { exitCode: 2, httpStatus: 422, meaning: 'A rule is not valid; the field is named.' },
  invalid_config: { exitCode: 2, httpStatus: 422, meaning: 'The configuration is not valid; the path in it is named.' },
  invalid_capture: {
    exitCode: 1,
    httpStatus: 422,
    meaning: 'A capture file is damaged or of a kind that cannot be read.',
  },
  preflight_refused: { exitCode: 3, httpStatus: 409, meaning: 'Preflight found something that would block attaching.' },
  policy_refused: { exitCode: 3, httpStatus: 409, meaning: 'A safety policy refuses the operation; it can be forced.' },
  too_many_shapes: {
    exitCode: 3,
    httpStatus: 422,
    meaning: 'The rule set needs more rule shapes than the dataplane has.',
  },
  capacity_exceeded: { exitCode: 3, httpStatus: 422, meaning: 'More than a table of the dataplane holds.' },
  abi_mismatch: { exitCode: 3, httpStatus: 409, meaning: 'Pinned state has another layout than this version writes.' },
  not_found: { exitCode: 4, httpStatus: 404, meaning: 'The named device, rule or AZ does not exist.' },
  not_permitted: { exitCode: 5, httpStatus: 403, meaning: 'A capability is missing; it is named.' },
  conflict: { exitCode: 6, httpStatus: 409, meaning: 'Something else holds or already is what was asked for.' },
} as const;

export type ErrorCode = keyof typeof errorTable;

export interface VnicErrorOptions {
  /** One line that says what the user can do about it. */
  remedy?: string;
  cause?: unknown;
  /** Machine-readable facts about the error, e.g. the ids of the rules concerned. */
  details?: Record<string, unknown>;
}

export class VnicError extends Error {
  readonly code: ErrorCode;
  readonly remedy: string | undefined;
  readonly details: Record<string, unknown>;

  constructor(code: ErrorCode, message: string, options: VnicErrorOptions = {}) {
    super(message, { cause: options.cause });
    this.name = 'VnicError';
    this.code = code;
    this.remedy = options.remedy;
    this.details = options.details ?? {};
  }

  get exitCode(): number {
    return errorTable[this.code].exitCode;
  }

  /** RFC 9457 problem object. */
  toProblem(): Record<string, unknown> {
    return {
      type: `urn:vnic:error:${this.code}`,
      title: errorTable[this.code].meaning,
      status: errorTable[this.code].httpStatus,
      detail: this.message,
      code: this.code,
      ...(this.remedy === undefined ? {} : { remedy: this.remedy }),
      ...this.details,
    };
  }
}
