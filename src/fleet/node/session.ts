// SPDX-License-Identifier: Apache-2.0
/**
 * One connection of a node to one member of the store: lists, watches, keeps the lease, and looks whether the watch still
 * tells everything. Any trouble ends it; the next one lists again, so nothing depends on having seen every change.
 */
import { VnicError } from '../../errors.ts';
import type { FleetStore, Watch, WatchEvent } from '../store.ts';

export const LEASE_SECONDS = 15;
/** Between two looks at lease and watch. */
const CHECK_MS = 2000;

export interface SessionOptions {
  store: FleetStore;
  prefix: string;
  /** Of the session before; null: none. */
  lease: string | null;
  signal: AbortSignal;
  checkMs?: number;
  /** Everything below the prefix, after a list and after each change. */
  changed: (values: ReadonlyMap<string, Uint8Array>) => void;
  /** The list is taken and the watch stands. @param isNew what was put under an earlier lease is gone */
  established: (lease: string, isNew: boolean) => Promise<void>;
  /** The store was heard of. */
  heard: () => void;
}

/** Runs until the signal aborts. Throws what ended it otherwise. */
export async function runSession(options: SessionOptions): Promise<void> {
  const { store, prefix, signal, checkMs = CHECK_MS } = options;
  const ended = Promise.withResolvers<Error | null>();
  const values = new Map<string, Uint8Array>();
  let seen = 0;
  const apply = (event: WatchEvent): void => {
    if (event.kind === 'put') values.set(event.key, event.value);
    else values.delete(event.key);
  };
  let watch: Watch | null = null;
  try {
    const { lease, isNew } = await takeLease(store, options.lease);
    const {
      revision,
      values: [listed = []],
    } = await store.read([{ prefix }]);
    for (const { key, value } of listed) values.set(key, value);
    seen = revision;
    options.heard();
    options.changed(values);
    watch = await store.watch(prefix, revision + 1, {
      changed: (events, at) => {
        events.forEach(apply);
        seen = Math.max(seen, at);
        options.heard();
        options.changed(values);
      },
      ended: (error) => ended.resolve(error),
    });
    await options.established(lease, isNew);
    let isBehind = false;
    while (!signal.aborted) {
      const end = await raced(ended.promise, checkMs, signal);
      if (end !== undefined) throw end ?? new VnicError('fleet_unreachable', `The watch at ${store.name} ended.`);
      if (signal.aborted) return;
      const [isKept, newest] = await Promise.all([store.keepLease(lease), store.newest(prefix)]);
      if (!isKept) throw new VnicError('fleet_unreachable', `The lease of this node has ended at ${store.name}.`);
      options.heard();
      // A change may be on its way; one that is still missing at the next look was lost.
      const wasBehind = isBehind;
      isBehind = newest.modRevision > seen || newest.count !== values.size;
      if (isBehind && wasBehind) throw new VnicError('fleet_unreachable', `The watch at ${store.name} stalled.`);
    }
  } finally {
    watch?.close();
  }
}

async function takeLease(store: FleetStore, known: string | null): Promise<{ lease: string; isNew: boolean }> {
  if (known !== null && (await store.keepLease(known))) return { lease: known, isNew: false };
  return { lease: await store.grantLease(LEASE_SECONDS), isNew: true };
}

/** The end; undefined: the time is over, or the signal aborted. */
async function raced(end: Promise<Error | null>, ms: number, signal: AbortSignal): Promise<Error | null | undefined> {
  const later = Promise.withResolvers<undefined>();
  const timer = setTimeout(() => later.resolve(undefined), ms);
  const abort = (): void => later.resolve(undefined);
  signal.addEventListener('abort', abort);
  try {
    return await Promise.race([end, later.promise]);
  } finally {
    clearTimeout(timer);
    signal.removeEventListener('abort', abort);
  }
}
