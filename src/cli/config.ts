// SPDX-License-Identifier: Apache-2.0
/** vnicctl config. */
import type { Command } from 'commander';
import { azWarnings } from '../config/az-warnings.ts';
import { readConfigFile } from '../config/file.ts';
import { VnicError } from '../errors.ts';
import type { Problem } from '../steering/rules/problems.ts';
import { validateRules } from '../steering/rules/validate.ts';
import { contextOf } from './context.ts';
import { count, table } from './output.ts';

export function configCommand(command: Command): void {
  command
    .command('check <file>')
    .description('check a configuration file; prints every problem')
    .action(async (file: string, _: unknown, inner: Command) => {
      const context = contextOf(inner);
      try {
        const { devices } = await readConfigFile(file);
        const summaries = devices.map((config) => {
          const { name, numQueues, azs, rules } = config;
          return {
            device: name,
            queues: numQueues ?? null,
            azs: azs.length,
            rules: rules.length,
            warnings: [
              ...validateRules(rules, numQueues === undefined ? {} : { queues: numQueues }),
              ...azWarnings(config),
            ],
          };
        });
        for (const { device, warnings } of summaries) {
          for (const { message } of warnings) context.warn(`${device}: ${message}`);
        }
        await context.print({ file, valid: true, devices: summaries }, () =>
          [
            `${file} is valid.`,
            ...summaries.map(({ device, queues, azs, rules }) => {
              const queueText = queues === null ? 'all queues' : count(queues, 'queue');
              return `  ${device}: ${queueText}, ${count(azs, 'AZ')}, ${count(rules, 'rule')}`;
            }),
          ].join('\n'),
        );
      } catch (error) {
        const problems = error instanceof VnicError ? (error.details['problems'] as Problem[] | undefined) : undefined;
        if (problems !== undefined) {
          await context.print({ file, valid: false, problems }, () =>
            table(problems, [
              { title: 'WHERE', value: ({ path }) => path || '(whole file)' },
              { title: 'PROBLEM', value: ({ message }) => message },
              { title: 'WHAT TO DO', value: ({ remedy }) => remedy },
            ]),
          );
        }
        throw error;
      }
    });
}
