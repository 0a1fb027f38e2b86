// SPDX-License-Identifier: Apache-2.0
/** vnicctl completion: a script for each shell, which asks `vnicctl completion words` for what may stand next. */
import type { Command } from 'commander';
import { completionScripts } from './completion-scripts.ts';
import { completionsOf } from './completion-words.ts';

export function completionCommand(command: Command): void {
  for (const [shell, { script, use }] of Object.entries(completionScripts)) {
    command
      .command(shell)
      .description(`the script for ${shell}: ${use}`)
      .action(() => void process.stdout.write(script));
  }
  command
    .command('words', { hidden: true })
    .description('what may stand next; the last word is the one being typed')
    .argument('[words...]')
    .action(async (words: string[]) => {
      for (const line of await completionsOf(words)) process.stdout.write(`${line}\n`);
    });
}
