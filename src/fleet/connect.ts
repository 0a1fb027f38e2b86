// SPDX-License-Identifier: Apache-2.0
/** From the configuration to the members of etcd: reads certificates and the password. */
import { readFileSync } from 'node:fs';
import type { FleetConfig } from '../config/fleet.ts';
import { VnicError } from '../errors.ts';
import { EtcdStore } from './etcd/etcd-store.ts';
import type { Credentials } from './etcd/gateway.ts';
import type { FleetStore } from './store.ts';

/** One for each member; files are read anew with each connection, so that certificates can be renewed. */
export function storesOf(config: Pick<FleetConfig, 'endpoints' | 'tls' | 'auth'>): (() => FleetStore)[] {
  return config.endpoints.map((endpoint) => () => new EtcdStore(endpoint, readCredentials(config)));
}

/** Throws `invalid_config`. */
export function readCredentials({ tls, auth }: Pick<FleetConfig, 'tls' | 'auth'>): Credentials {
  const read = (file: string | null): Buffer | null => (file === null ? null : readPart(file));
  return {
    tls: tls === null ? null : { ca: read(tls.ca), cert: read(tls.cert), key: read(tls.key) },
    auth: auth === null ? null : { user: auth.user, password: readPart(auth.passwordFile).toString().trimEnd() },
  };
}

function readPart(file: string): Buffer {
  try {
    return readFileSync(file);
  } catch (cause) {
    throw new VnicError(
      'invalid_config',
      `${file}, which the section fleet names, cannot be read: ${(cause as Error).message}.`,
      {
        remedy: 'Correct the path, or who may read the file.',
        cause,
      },
    );
  }
}

/**
 * The first member that answers with a majority behind it. Throws what the last one said.
 * @param use is given it; it is closed after that
 */
export async function withStore<T>(
  stores: readonly (() => FleetStore)[],
  use: (store: FleetStore) => Promise<T>,
): Promise<T> {
  let failure: unknown;
  for (const open of stores) {
    const store = open();
    try {
      try {
        await store.newest('/');
      } catch (error) {
        // A user may be allowed to read the fleet's prefix only.
        if (!(error instanceof VnicError) || error.code !== 'not_permitted') throw error;
      }
      return await use(store);
    } catch (error) {
      failure = error;
      if (!(error instanceof VnicError) || error.code !== 'fleet_unreachable') throw error;
    } finally {
      store.close();
    }
  }
  throw failure;
}
