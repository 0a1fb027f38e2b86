// SPDX-License-Identifier: Apache-2.0
/** A store in memory, for tests: of etcd's behaviour it has what the contract suite shows of both, and no more. */
import { VnicError } from '../errors.ts';
import type { Change, FleetStore, Range, Reading, StoredValue, Watch, WatchEvent, WatchObserver } from './store.ts';

interface Kept extends StoredValue {
  lease: string | null;
}

interface Watcher {
  prefix: string;
  observer: WatchObserver;
}

/** What members of one cluster share. Each client has a MemoryStore of its own on it. */
export class MemoryCluster {
  readonly #kept = new Map<string, Kept>();
  readonly #leases = new Map<string, { ttlMs: number; timer: NodeJS.Timeout }>();
  readonly #watchers = new Set<Watcher>();
  readonly #log: { revision: number; events: WatchEvent[] }[] = [];
  #revision = 1;
  #compacted = 0;
  #leaseCount = 0;
  /** While it is false every call fails as if nobody answered; watches have ended. */
  #isReachable = true;

  get isReachable(): boolean {
    return this.#isReachable;
  }

  get revision(): number {
    return this.#revision;
  }

  setReachable(isReachable: boolean): void {
    this.#isReachable = isReachable;
    if (!isReachable) for (const watcher of this.#watchers) this.endWatch(watcher, unreachable('memory'));
  }

  /** Forgets changes before the revision: they cannot be watched any more. */
  compact(revision: number): void {
    this.#compacted = revision;
    while (this.#log[0] !== undefined && this.#log[0].revision < revision) this.#log.shift();
  }

  select(range: Range): Kept[] {
    const isMeant = 'key' in range ? (key: string) => key === range.key : (key: string) => key.startsWith(range.prefix);
    return [...this.#kept.values()].filter(({ key }) => isMeant(key)).sort((a, b) => (a.key < b.key ? -1 : 1));
  }

  commit({ conditions = [], puts = [], deletes = [] }: Change): number | null {
    const holds = conditions.every(({ key, modRevision }) => (this.#kept.get(key)?.modRevision ?? 0) === modRevision);
    if (!holds) return null;
    for (const { lease } of puts) {
      if (lease !== undefined && !this.#leases.has(lease)) throw new VnicError('failed', 'requested lease not found');
    }
    const events: WatchEvent[] = [];
    const revision = this.#revision + 1;
    for (const range of deletes) {
      for (const { key } of this.select(range)) {
        this.#kept.delete(key);
        events.push({ kind: 'delete', key });
      }
    }
    for (const { key, value, lease = null } of puts) {
      this.#kept.set(key, { key, value, modRevision: revision, lease });
      events.push({ kind: 'put', key, value });
    }
    if (events.length === 0) return this.#revision;
    this.#revision = revision;
    this.#log.push({ revision, events });
    for (const watcher of this.#watchers) queueMicrotask(() => this.#tell(watcher, events, revision));
    return revision;
  }

  #tell({ prefix, observer }: Watcher, events: readonly WatchEvent[], revision: number): void {
    const meant = events.filter(({ key }) => key.startsWith(prefix));
    if (meant.length > 0) observer.changed(meant, revision);
  }

  addWatch(prefix: string, fromRevision: number, observer: WatchObserver): Watcher {
    if (fromRevision <= this.#compacted) throw new VnicError('failed', 'required revision has been compacted');
    const watcher = { prefix, observer };
    const missed = this.#log.filter(({ revision }) => revision >= fromRevision);
    this.#watchers.add(watcher);
    for (const { events, revision } of missed) queueMicrotask(() => this.#tell(watcher, events, revision));
    return watcher;
  }

  endWatch(watcher: Watcher, error: Error | null): void {
    if (this.#watchers.delete(watcher)) queueMicrotask(() => watcher.observer.ended(error));
  }

  grantLease(ttlSeconds: number): string {
    const lease = String(++this.#leaseCount);
    const ttlMs = ttlSeconds * 1000;
    this.#leases.set(lease, { ttlMs, timer: setTimeout(() => this.endLease(lease), ttlMs).unref() });
    return lease;
  }

  keepLease(lease: string): boolean {
    const known = this.#leases.get(lease);
    known?.timer.refresh();
    return known !== undefined;
  }

  endLease(lease: string): void {
    const known = this.#leases.get(lease);
    if (known === undefined) return;
    clearTimeout(known.timer);
    this.#leases.delete(lease);
    const owned = [...this.#kept.values()].filter((kept) => kept.lease === lease);
    this.commit({ deletes: owned.map(({ key }) => ({ key })) });
  }
}

function unreachable(name: string): VnicError {
  return new VnicError('fleet_unreachable', `The store at ${name} does not answer.`);
}

export class MemoryStore implements FleetStore {
  readonly name = 'memory';
  readonly #cluster: MemoryCluster;
  readonly #watchers = new Set<Watcher>();

  constructor(cluster = new MemoryCluster()) {
    this.#cluster = cluster;
  }

  async read(ranges: readonly Range[]): Promise<Reading> {
    await this.#travel();
    return { revision: this.#cluster.revision, values: ranges.map((range) => this.#cluster.select(range)) };
  }

  async commit(change: Change): Promise<number | null> {
    await this.#travel();
    return this.#cluster.commit(change);
  }

  async newest(prefix: string): Promise<{ modRevision: number; count: number }> {
    await this.#travel();
    const values = this.#cluster.select({ prefix });
    return { modRevision: Math.max(0, ...values.map(({ modRevision }) => modRevision)), count: values.length };
  }

  async watch(prefix: string, fromRevision: number, observer: WatchObserver): Promise<Watch> {
    await this.#travel();
    const watcher = this.#cluster.addWatch(prefix, fromRevision, observer);
    this.#watchers.add(watcher);
    return {
      close: () => {
        this.#watchers.delete(watcher);
        this.#cluster.endWatch(watcher, null);
      },
    };
  }

  async grantLease(ttlSeconds: number): Promise<string> {
    await this.#travel();
    return this.#cluster.grantLease(ttlSeconds);
  }

  async keepLease(lease: string): Promise<boolean> {
    await this.#travel();
    return this.#cluster.keepLease(lease);
  }

  async revokeLease(lease: string): Promise<void> {
    await this.#travel();
    this.#cluster.endLease(lease);
  }

  /** As over a network: later than the call. */
  async #travel(): Promise<void> {
    await new Promise((resolve) => setImmediate(resolve));
    if (!this.#cluster.isReachable) throw unreachable(this.name);
  }

  close(): void {
    for (const watcher of this.#watchers) this.#cluster.endWatch(watcher, null);
    this.#watchers.clear();
  }
}
