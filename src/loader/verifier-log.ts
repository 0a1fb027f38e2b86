// SPDX-License-Identifier: Apache-2.0
/** A failed load as an error: the verifier's last meaningful lines in the message, its whole log in the details. */
import { VnicError } from '../errors.ts';
import type { Native } from './ffi/index.ts';
import { errnoName } from './ffi/index.ts';

const SUMMARY_LINES = 3;
/** Lines that close every log and say nothing about the cause. */
const NOISE = /^(processed \d+ insns|verification time|stack depth|max_states|total_states|-- (BEGIN|END) )/;

/** The lines of a verifier log that say what is wrong. Instructions are left out but for the last one. */
export function summarizeVerifierLog(log: string): string {
  const lines = log
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '' && !NOISE.test(line));
  return lines.slice(-SUMMARY_LINES).join(' | ');
}

/**
 * @param result bpf_object__load's result, a negative errno
 * @param logBuffer the buffer given to the kernel, NUL-terminated
 * @param messages libbpf's own warnings
 */
export function verifierError(
  native: Native,
  result: number,
  logBuffer: Uint8Array,
  messages: readonly string[],
): VnicError {
  const end = logBuffer.indexOf(0);
  const log = Buffer.from(logBuffer.subarray(0, end < 0 ? logBuffer.length : end)).toString('utf8');
  const errno = errnoName(-result);
  if (log.trim() !== '' && errno !== 'EPERM') {
    return new VnicError(
      'verifier_rejected',
      `The kernel refused a BPF program (${errno}): ${summarizeVerifierLog(log)}`,
      {
        remedy: 'See the whole log with --verbose; the kernel may be too old: vnicctl doctor DEV',
        details: { errno, log },
      },
    );
  }
  try {
    native.check(result, 'bpf_object__load');
  } catch (error) {
    if (!(error instanceof VnicError)) throw error;
    const reason = messages.at(-1);
    return new VnicError(error.code, reason === undefined ? error.message : `${error.message} (${reason})`, {
      ...(error.remedy === undefined ? {} : { remedy: error.remedy }),
      details: { ...error.details, messages },
      cause: error,
    });
  }
  return new VnicError('failed', `bpf_object__load returned ${result}.`);
}
