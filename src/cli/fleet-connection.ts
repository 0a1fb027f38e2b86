// SPDX-License-Identifier: Apache-2.0
/** How vnicctl fleet finds etcd: the section `fleet` of a configuration, and options over it. */
import { existsSync } from 'node:fs';
import { hostname, userInfo } from 'node:os';
import type { Command } from 'commander';
import { readConfigFile } from '../config/file.ts';
import type { FleetConfig } from '../config/fleet.ts';
import { VnicError } from '../errors.ts';
import { storesOf, withStore } from '../fleet/connect.ts';
import { FleetOperator } from '../fleet/operator.ts';
import { gather } from './numbers.ts';

export interface FleetOptions {
  config?: string;
  endpoints?: string[];
  prefix?: string;
  ca?: string;
  cert?: string;
  key?: string;
  user?: string;
  passwordFile?: string;
}

const DEFAULT_CONFIG = '/etc/vnic/vnic.yaml';

export function fleetOptions(command: Command): Command {
  return command
    .option('--config <file>', `its section fleet says where etcd is (default: ${DEFAULT_CONFIG})`)
    .option('--endpoints <addresses>', 'members of etcd, such as https://10.0.0.1:2379; with commas', gather)
    .option('--prefix <prefix>', 'where the fleet is in etcd (default: /vnic)')
    .option('--ca <file>', 'certificate of who signed those of etcd (PEM)')
    .option('--cert <file>', 'own certificate (PEM)')
    .option('--key <file>', 'its key (PEM)')
    .option('--user <name>', 'user of etcd')
    .option('--password-file <file>', 'file with its password');
}

type Connection = Pick<FleetConfig, 'endpoints' | 'tls' | 'auth'> & { prefix: string };

/** Throws `usage`, and what reading the configuration throws. */
async function connectionOf(options: FleetOptions): Promise<Connection> {
  const file = options.config ?? (existsSync(DEFAULT_CONFIG) ? DEFAULT_CONFIG : undefined);
  const known = file === undefined ? null : (await readConfigFile(file)).fleet;
  const endpoints = options.endpoints ?? known?.endpoints ?? [];
  if (endpoints.length === 0) {
    throw new VnicError('usage', 'It is not known where etcd is.', {
      remedy: 'Give --endpoints, or --config with a file that has a section fleet.',
    });
  }
  const ca = options.ca ?? known?.tls?.ca ?? null;
  const cert = options.cert ?? known?.tls?.cert ?? null;
  const key = options.key ?? known?.tls?.key ?? null;
  const user = options.user ?? known?.auth?.user;
  const passwordFile = options.passwordFile ?? known?.auth?.passwordFile;
  if (user !== undefined && passwordFile === undefined) {
    throw new VnicError('usage', `The password of ${user} is missing.`, { remedy: 'Give --password-file.' });
  }
  return {
    endpoints,
    prefix: options.prefix ?? known?.prefix ?? '/vnic',
    tls: ca === null && cert === null && key === null ? null : { ca, cert, key },
    auth: user === undefined || passwordFile === undefined ? null : { user, passwordFile },
  };
}

/** Lets `use` work with the fleet, over the first member of etcd that answers. */
export async function withFleet<T>(options: FleetOptions, use: (operator: FleetOperator) => Promise<T>): Promise<T> {
  const connection = await connectionOf(options);
  const who = `${userInfo().username}@${hostname()}`;
  return await withStore(storesOf(connection), (store) => use(new FleetOperator(store, connection.prefix, who)));
}
