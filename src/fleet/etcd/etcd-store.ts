// SPDX-License-Identifier: Apache-2.0
/** The store on one member of etcd (3.4 or newer), over its JSON gateway. */
import { VnicError } from '../../errors.ts';
import type { Change, FleetStore, Range, Reading, StoredValue, Watch, WatchEvent, WatchObserver } from '../store.ts';
import { type Credentials, DEADLINE_MS, Gateway } from './gateway.ts';

interface EtcdValue {
  key: string;
  value?: string;
  mod_revision: string;
}

interface Header {
  header: { revision: string };
}

interface RangeAnswer extends Header {
  kvs?: EtcdValue[];
  count?: string;
}

interface WatchAnswer {
  error?: Record<string, unknown>;
  result?: Header & {
    created?: boolean;
    canceled?: boolean;
    cancel_reason?: string;
    compact_revision?: string;
    events?: { type?: 'DELETE'; kv: EtcdValue }[];
  };
}

const encode = (text: string): string => Buffer.from(text).toString('base64');
const decode = (text: string): string => Buffer.from(text, 'base64').toString();

/** The first key that does not begin with the prefix, as etcd wants it. */
function endOf(prefix: string): string {
  const bytes = Buffer.from(prefix);
  bytes[bytes.length - 1]! += 1;
  return bytes.toString('base64');
}

function rangeOf(range: Range): object {
  return 'key' in range ? { key: encode(range.key) } : { key: encode(range.prefix), range_end: endOf(range.prefix) };
}

function storedValue({ key, value = '', mod_revision }: EtcdValue): StoredValue {
  return { key: decode(key), value: Buffer.from(value, 'base64'), modRevision: Number(mod_revision) };
}

export class EtcdStore implements FleetStore {
  readonly #gateway: Gateway;

  constructor(endpoint: string, credentials: Credentials) {
    this.#gateway = new Gateway(endpoint, credentials);
  }

  get name(): string {
    return this.#gateway.endpoint;
  }

  async read(ranges: readonly Range[]): Promise<Reading> {
    const success = ranges.map((range) => ({ request_range: rangeOf(range) }));
    const answer = await this.#gateway.call<Header & { responses?: { response_range?: RangeAnswer }[] }>('/v3/kv/txn', {
      success,
    });
    return {
      revision: Number(answer.header.revision),
      values: ranges.map((_, index) => (answer.responses?.[index]?.response_range?.kvs ?? []).map(storedValue)),
    };
  }

  async commit({ conditions = [], puts = [], deletes = [] }: Change): Promise<number | null> {
    const answer = await this.#gateway.call<Header & { succeeded?: boolean }>('/v3/kv/txn', {
      compare: conditions.map(({ key, modRevision }) => ({
        key: encode(key),
        target: 'MOD',
        result: 'EQUAL',
        mod_revision: String(modRevision),
      })),
      success: [
        ...deletes.map((range) => ({ request_delete_range: rangeOf(range) })),
        ...puts.map(({ key, value, lease }) => ({
          request_put: {
            key: encode(key),
            value: Buffer.from(value).toString('base64'),
            ...(lease === undefined ? {} : { lease }),
          },
        })),
      ],
    });
    return answer.succeeded === true ? Number(answer.header.revision) : null;
  }

  async newest(prefix: string): Promise<{ modRevision: number; count: number }> {
    const { kvs = [], count = '0' } = await this.#gateway.call<RangeAnswer>('/v3/kv/range', {
      ...rangeOf({ prefix }),
      limit: '1',
      keys_only: true,
      sort_order: 'DESCEND',
      sort_target: 'MOD',
    });
    return { modRevision: Number(kvs[0]?.mod_revision ?? 0), count: Number(count) };
  }

  async watch(prefix: string, fromRevision: number, observer: WatchObserver): Promise<Watch> {
    const created = Promise.withResolvers<void>();
    // A stream that is refused before it began rejects only what waits for that.
    created.promise.catch(() => undefined);
    let isClosed = false;
    const request = {
      create_request: { ...rangeOf({ prefix }), start_revision: String(fromRevision), fragment: false },
    };
    const stream = await this.#gateway.stream('/v3/watch', request, (line) => {
      const { result, error } = line as WatchAnswer;
      if (error !== undefined) throw this.#gateway.errorOf(error);
      if (result === undefined) return;
      if (result.canceled === true) throw this.#canceled(result);
      if (result.created === true) created.resolve();
      const events = (result.events ?? []).map(watchEvent);
      if (events.length > 0 && !isClosed) observer.changed(events, Number(result.header.revision));
    });
    const timer = setTimeout(() => stream.close(), DEADLINE_MS);
    let isEstablished = false;
    void stream.ended.then((error) => {
      created.reject(error);
      if (isEstablished) observer.ended(isClosed ? null : error);
    });
    try {
      await created.promise;
      isEstablished = true;
    } finally {
      clearTimeout(timer);
    }
    return {
      close: () => {
        isClosed = true;
        stream.close();
      },
    };
  }

  #canceled({ cancel_reason, compact_revision }: NonNullable<WatchAnswer['result']>): VnicError {
    if (compact_revision !== undefined && compact_revision !== '0') {
      return new VnicError('failed', `etcd at ${this.name} has compacted what was to be watched.`);
    }
    return this.#gateway.errorOf({ error: cancel_reason ?? 'the watch was cancelled' });
  }

  async grantLease(ttlSeconds: number): Promise<string> {
    const { ID } = await this.#gateway.call<{ ID: string }>('/v3/lease/grant', { TTL: String(ttlSeconds) });
    return ID;
  }

  async keepLease(lease: string): Promise<boolean> {
    const { result } = await this.#gateway.call<{ result?: { TTL?: string } }>('/v3/lease/keepalive', { ID: lease });
    return Number(result?.TTL ?? 0) > 0;
  }

  async revokeLease(lease: string): Promise<void> {
    try {
      await this.#gateway.call('/v3/lease/revoke', { ID: lease });
    } catch (error) {
      if (!(error instanceof VnicError) || !String(error.details['etcd']).includes('lease not found')) throw error;
    }
  }

  close(): void {
    this.#gateway.close();
  }
}

function watchEvent({ type, kv }: { type?: 'DELETE'; kv: EtcdValue }): WatchEvent {
  const { key, value } = storedValue(kv);
  return type === 'DELETE' ? { kind: 'delete', key } : { kind: 'put', key, value };
}
