// SPDX-License-Identifier: Apache-2.0
/**
 * What a fleet needs of a store: consistent reads, one transaction, a watch, leases. Two implementations, one contract
 * (test/support/fleet-store-contract.ts): etcd, and one in memory that promises nothing that etcd was not seen to do.
 */

export interface StoredValue {
  key: string;
  value: Uint8Array;
  /** Of the store, at its last change. */
  modRevision: number;
}

/** A key, or every key that begins with a prefix. */
export type Range = { key: string } | { prefix: string };

export interface Reading {
  /** Of the store, at the moment of the reading. */
  revision: number;
  /** For each range, in the order of the keys. */
  values: StoredValue[][];
}

export interface Condition {
  key: string;
  /** 0: it does not exist. */
  modRevision: number;
}

export interface Change {
  /** All have to hold, or nothing is done. */
  conditions?: readonly Condition[];
  puts?: readonly { key: string; value: Uint8Array; lease?: string }[];
  deletes?: readonly Range[];
}

export type WatchEvent = { kind: 'put'; key: string; value: Uint8Array } | { kind: 'delete'; key: string };

export interface WatchObserver {
  /** Changes of one revision are never split. */
  changed(events: readonly WatchEvent[], revision: number): void;
  /** Once; nothing comes after it. Null: it was closed. Some events may be missed: list and watch again. */
  ended(error: Error | null): void;
}

export interface Watch {
  close(): void;
}

/**
 * Every method but close() rejects with `fleet_unreachable` (no answer in time, no quorum), `unauthorized` or
 * `not_permitted` (rights), `failed`. After `fleet_unreachable` of commit() it is not known whether it was done.
 */
export interface FleetStore {
  /** Address, for messages. */
  readonly name: string;
  /** All ranges at one moment, not older than the call. */
  read(ranges: readonly Range[]): Promise<Reading>;
  /** @returns null: a condition did not hold */
  commit(change: Change): Promise<number | null>;
  /** Revision of the last change to a key that is there, and how many there are: not older than the call. */
  newest(prefix: string): Promise<{ modRevision: number; count: number }>;
  /** Resolves when it is established: every change from that revision on is seen. Rejects, as others do. */
  watch(prefix: string, fromRevision: number, observer: WatchObserver): Promise<Watch>;
  grantLease(ttlSeconds: number): Promise<string>;
  /** @returns false: it has ended, and what was put under it is gone */
  keepLease(lease: string): Promise<boolean>;
  /** Does nothing if it has ended. */
  revokeLease(lease: string): Promise<void>;
  /** Ends watches and connections. */
  close(): void;
}
