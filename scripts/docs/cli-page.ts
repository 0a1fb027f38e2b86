// SPDX-License-Identifier: Apache-2.0
/** docs/cli.md, from the command line's own description. Pure. */
import type { CommandText, Entry } from './command-tree.ts';

export function cliPage(program: CommandText): string {
  const lines = [
    '# Command line',
    '',
    '<!-- Generated from src/cli by make generate. -->',
    '',
    `${program.summary}`,
    'Data go to stdout, messages to stderr. `vnicctl COMMAND --help` prints what stands here.',
    '',
    '## Global options',
    '',
    'They may stand before or behind the command.',
    '',
    ...table('Option', program.options),
    '',
    "Environment: `VNIC_SOCKET` is the daemon's socket, `VNIC_STATE_DIR` the folder of records (`/var/lib/vnic`), `VNIC_FFI`",
    'the FFI library (`koffi` or `ffi-napi`), `NO_COLOR` switches colours off.',
    '',
    '## Exit codes',
    '',
    '0 done, 1 failed, 2 usage, 3 refused by preflight or policy, 4 not found, 5 no permission, 6 conflict. [Errors](errors.md)',
    'has each error with its code. With `-o json` an error is an RFC 9457 problem object on stderr.',
    '',
  ];
  for (const command of program.inner) lines.push(...section(command, 2));
  return `${lines.join('\n').trimEnd()}\n`;
}

function section(command: CommandText, depth: number): string[] {
  return [
    `${'#'.repeat(depth)} ${command.path}`,
    '',
    `${sentence(command.summary)}`,
    '',
    '```text',
    command.usage,
    '```',
    '',
    ...(command.arguments.length === 0 ? [] : [...table('Argument', command.arguments), '']),
    ...(command.options.length === 0 ? [] : [...table('Option', command.options), '']),
    ...command.inner.flatMap((inner) => section(inner, depth + 1)),
  ];
}

function table(head: string, entries: readonly Entry[]): string[] {
  return [
    `| ${head} | |`,
    '|---|---|',
    ...entries.map(
      ({ term, text }) =>
        `| \`${term.replaceAll('|', '\\|')}\` | ${text.replaceAll('|', '\\|').replace(/</g, '&lt;')} |`,
    ),
  ];
}

export function sentence(text: string): string {
  const start = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(start) ? start : `${start}.`;
}
