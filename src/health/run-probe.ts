// SPDX-License-Identifier: Apache-2.0
/** One probe with its deadline, on an event loop that may be kept busy by something else. */

export type ProbeResult =
  | { kind: 'answer' }
  | { kind: 'failure'; error: string }
  /** Says nothing of the target. `error` null: the event loop was busy; else what kept the probe from being made. */
  | { kind: 'unknown'; error: string | null };

/** How an attempt tells what became of it. Only the first call counts. */
export interface Settle {
  answered(): void;
  failed(error: string): void;
  /** The probe could not be made, for a reason of this machine. */
  impossible(error: string): void;
}

export interface Attempt {
  /** Lets go of everything. Never throws. */
  close(): void;
  /** Looks for an answer that has come but was not told of; for what is not woken by the event loop. */
  look?(): void;
}

export interface ProbeRun {
  timeoutMs: number;
  /** Monotonic. */
  now: () => number;
  /** Aborted: the result is unknown. */
  signal: AbortSignal;
}

/** Timers are rarely more exact than this. */
const ON_TIME_MS = 2;

/**
 * Never rejects. An answer after the timeout does not count. Where the event loop was kept busy across the end of the
 * timeout, what waits in sockets is looked at once more; where that was for longer than half the timeout, nothing can be
 * said: answers and later steps of the probe waited, too.
 */
export function runProbe(
  start: (settle: Settle) => Attempt,
  { timeoutMs, now, signal }: ProbeRun,
): Promise<ProbeResult> {
  const { promise, resolve } = Promise.withResolvers<ProbeResult>();
  const deadlineMs = now() + timeoutMs;
  let attempt: Attempt | null = null;
  let isDone = false;
  let timer: NodeJS.Timeout | undefined;
  let lastLook: NodeJS.Immediate | undefined;

  const finish = (result: ProbeResult): void => {
    if (isDone) return;
    isDone = true;
    clearTimeout(timer);
    clearImmediate(lastLook);
    signal.removeEventListener('abort', abort);
    attempt?.close();
    resolve(result);
  };
  const conclude = (result: ProbeResult): void => {
    const latenessMs = now() - deadlineMs;
    finish(latenessMs > timeoutMs / 2 ? { kind: 'unknown', error: null } : result);
  };
  const abort = (): void => finish({ kind: 'unknown', error: null });
  const timedOut: ProbeResult = { kind: 'failure', error: `no answer in ${timeoutMs} ms` };
  const expire = (): void => {
    const latenessMs = now() - deadlineMs;
    if (latenessMs < 0) {
      timer = setTimeout(expire, -latenessMs);
      return;
    }
    attempt?.look?.();
    if (latenessMs <= ON_TIME_MS) {
      finish(timedOut);
      return;
    }
    // Sockets are read before immediates run.
    lastLook = setImmediate(() => {
      attempt?.look?.();
      conclude(timedOut);
    });
  };

  signal.addEventListener('abort', abort);
  if (signal.aborted) abort();
  else timer = setTimeout(expire, timeoutMs);
  try {
    if (!isDone) {
      attempt = start({
        answered: () => conclude({ kind: 'answer' }),
        failed: (error) => conclude({ kind: 'failure', error }),
        impossible: (error) => finish({ kind: 'unknown', error }),
      });
    }
    // It may have settled before there was anything to close.
    if (isDone) attempt?.close();
  } catch (error) {
    finish({ kind: 'unknown', error: error instanceof Error ? error.message : String(error) });
  }
  return promise;
}
