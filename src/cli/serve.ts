// SPDX-License-Identifier: Apache-2.0
/** vnicctl serve. */
import { type Command, Option } from 'commander';
import { createLog } from '../daemon/log.ts';
import { serve } from '../daemon/serve.ts';
import type { GlobalOptions } from './context.ts';

interface ServeCommandOptions {
  config?: string;
  listen?: string;
  logLevel: string;
}

export function serveCommand(command: Command): void {
  command
    .option('--config <file>', 'devices and settings of the daemon (YAML or JSON); SIGHUP reads it again')
    .option('--listen <address>', 'IP address and port for metrics and API, or off (default: 127.0.0.1:9090)')
    .addOption(
      new Option('--log-level <level>', 'least level that is logged')
        .choices(['debug', 'info', 'warn', 'error'])
        .default('info'),
    )
    .action(async ({ config, listen, logLevel }: ServeCommandOptions) => {
      const { socket } = command.optsWithGlobals<GlobalOptions & { socket?: string }>();
      await serve({
        ...(config === undefined ? {} : { configFile: config }),
        ...(listen === undefined ? {} : { listen }),
        environment: socket === undefined ? process.env : { ...process.env, VNIC_SOCKET: socket },
        log: createLog(logLevel),
      });
    });
}
