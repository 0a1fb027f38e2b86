// SPDX-License-Identifier: Apache-2.0
/** What a daemon runs with: the configuration file, and the environment over it. */
import { type Config, loadConfig } from '../config/config.ts';
import { type DaemonConfig, parseListen } from '../config/daemon.ts';
import { readConfigFile } from '../config/file.ts';
import type { FleetConfig } from '../config/fleet.ts';
import { VnicError } from '../errors.ts';

export interface DaemonSettings {
  /** Null: no configuration file was given. */
  config: Config | null;
  daemon: DaemonConfig;
  fleet: FleetConfig | null;
  /** A scrape within it gets the answer of the one before. */
  metricsCacheMs: number;
}

/**
 * EXPORTER_PORT (0: no TCP listener), VNIC_SOCKET and METRICS_CACHE_TTL (seconds) override the file.
 * @param listen of the command line, over all of them
 * Throws `invalid_config`, `not_found`, `not_permitted`, `usage`.
 */
export async function readSettings(
  configFile: string | undefined,
  listen: string | undefined,
  environment: NodeJS.ProcessEnv,
): Promise<DaemonSettings> {
  const config = configFile === undefined ? null : await readConfigFile(configFile);
  const { daemon, fleet } = config ?? loadConfig('{}', 'defaults.json');
  const { EXPORTER_PORT, VNIC_SOCKET, METRICS_CACHE_TTL } = environment;
  const port = readNumber('EXPORTER_PORT', EXPORTER_PORT, 65_535);
  const address = listen === undefined ? daemon.listen : parseListen(listen);
  return {
    config,
    fleet,
    daemon: {
      ...daemon,
      listen:
        listen !== undefined || port === null
          ? address
          : port === 0
            ? null
            : { host: daemon.listen?.host ?? '127.0.0.1', port },
      socket: VNIC_SOCKET ? { ...daemon.socket, path: VNIC_SOCKET } : daemon.socket,
    },
    metricsCacheMs: 1000 * (readNumber('METRICS_CACHE_TTL', METRICS_CACHE_TTL, 3600) ?? 0),
  };
}

function readNumber(name: string, text: string | undefined, max: number): number | null {
  if (text === undefined || text === '') return null;
  const value = Number(text);
  if (/^\d+(\.\d+)?$/.test(text) && value <= max) return value;
  throw new VnicError('usage', `${name} is ${JSON.stringify(text)}, which is not a number from 0 to ${max}.`, {
    remedy: `Correct it, or leave ${name} out.`,
  });
}
