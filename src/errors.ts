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
  not_ready: {
    exitCode: 1,
    httpStatus: 503,
    meaning: 'The daemon is starting or stopping; try again in a moment.',
  },
  daemon_unreachable: {
    exitCode: 1,
    httpStatus: 502,
    meaning: 'The daemon does not answer on its socket, or ended during the request.',
  },
  fleet_unreachable: {
    exitCode: 1,
    httpStatus: 502,
    meaning: 'No member of etcd answers, or it has no majority; nodes go on with what they know.',
  },
  fleet_content: {
    exitCode: 1,
    httpStatus: 502,
    meaning: 'What is in etcd below the prefix of the fleet cannot be read by this version; nothing of it is applied.',
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
  no_route: { exitCode: 2, httpStatus: 404, meaning: 'The API has no such path.' },
  method_not_allowed: { exitCode: 2, httpStatus: 405, meaning: 'The path exists, but not with this method.' },
  not_acceptable: { exitCode: 2, httpStatus: 406, meaning: 'None of the media types asked for can be given.' },
  request_timeout: { exitCode: 1, httpStatus: 408, meaning: 'The request did not arrive in time.' },
  too_large: { exitCode: 2, httpStatus: 413, meaning: 'The request is larger than the daemon accepts.' },
  unsupported_media_type: { exitCode: 2, httpStatus: 415, meaning: 'The body is of a media type that is not read.' },
  too_many_requests: { exitCode: 1, httpStatus: 429, meaning: 'A limit of rate or of open requests is reached.' },
  unauthorized: { exitCode: 5, httpStatus: 401, meaning: 'A bearer token is needed, or the one given is not known.' },
  not_permitted: { exitCode: 5, httpStatus: 403, meaning: 'A capability or a right is missing; it is named.' },
  precondition_failed: {
    exitCode: 6,
    httpStatus: 412,
    meaning: 'What was to be changed is no longer as If-Match or If-None-Match says.',
  },
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

/** A system call on a file that this user may not make, as an error that says so; null for any other error. */
export function permissionError(error: unknown): VnicError | null {
  const { code, path, syscall } = error as NodeJS.ErrnoException;
  if ((code !== 'EACCES' && code !== 'EPERM') || path === undefined) return null;
  return new VnicError('not_permitted', `${path} may not be used by this user (${syscall ?? 'access'}: ${code}).`, {
    remedy: 'Run it as root (sudo), or with CAP_DAC_OVERRIDE.',
    cause: error,
  });
}
