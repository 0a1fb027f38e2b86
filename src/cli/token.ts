// SPDX-License-Identifier: Apache-2.0
/** vnicctl token: a bearer token for the REST API over TCP. Only its hash is ever stored, and by the user. */
import { createHash, randomBytes } from 'node:crypto';
import { type Command, Option } from 'commander';
import { readDaemon, type TokenConfig } from '../config/daemon.ts';
import { ProblemList } from '../steering/rules/problems.ts';
import { contextOf } from './context.ts';

const TOKEN_BYTES = 32;

export function tokenCommand(command: Command): void {
  command
    .requiredOption('--name <name>', 'who will use it; stands in the log of the daemon')
    .addOption(new Option('--scope <scope>', 'what it may do').choices(['read', 'write']).default('read'))
    .action(async ({ name, scope }: Pick<TokenConfig, 'name' | 'scope'>) => {
      const context = contextOf(command);
      const token = `vnic_${randomBytes(TOKEN_BYTES).toString('base64url')}`;
      const config: TokenConfig = { name, sha256: createHash('sha256').update(token).digest('hex'), scope };
      requireValid(config);
      if (context.options.output === 'table') {
        context.note('The token is shown this once. Add the lines below it to the configuration of the daemon.');
      }
      await context.print({ token, ...config }, () => `${token}\n\n${tokenLines(config)}`);
    });
}

/** As the daemon will read it. Throws `usage`. */
function requireValid(config: TokenConfig): void {
  const problems = new ProblemList();
  readDaemon({ tokens: [config] }, [], problems);
  problems.throwIfAny('usage', 'The token is not valid');
}

/** The lines for the configuration. In quotes: some names and hashes are numbers of YAML. */
export function tokenLines({ name, sha256, scope }: TokenConfig): string {
  return ['daemon:', '  tokens:', `    - name: "${name}"`, `      sha256: "${sha256}"`, `      scope: ${scope}`].join(
    '\n',
  );
}
