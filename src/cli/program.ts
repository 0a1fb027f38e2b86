// SPDX-License-Identifier: Apache-2.0
/** The command line as commander knows it: global options, and the commands with their code read when it is needed. */
import { Command, Option } from 'commander';
import packageFile from '../../package.json' with { type: 'json' };
import { type CommandEntry, commands } from './commands.ts';

const outputFormats: readonly string[] = ['table', 'json', 'yaml'];

/** @param entered told the words of the command that was asked for, `vnicctl rule add`, as soon as they are known */
export function createProgram(entered: (commandPath: string) => void = () => {}): Command {
  const program = new Command('vnicctl')
    .description('Steers, limits and counts flows on a virtio_net device with an eBPF/XDP dataplane.')
    .version(packageFile.version, '-V, --version', 'print the version')
    .helpOption('-h, --help', 'show help')
    .helpCommand(false)
    .addOption(
      new Option('-o, --output <format>', 'form of the data on stdout')
        .choices(outputFormats)
        .default('table')
        // Judged when the command is known: one means a file by it.
        .argParser((value) => value),
    )
    .option('--netns <name>', 'network namespace that the device is in')
    .option('--socket <path>', 'socket of the daemon (default: /run/vnic/vnicd.sock)')
    .option('--yes', 'do not ask on a terminal')
    .option('--dry-run', 'say what would be done, and do nothing')
    .option('--verbose', 'with an error: its whole story, the verifier log included')
    .exitOverride()
    .configureOutput({ outputError: () => {} })
    .configureHelp({ subcommandTerm: (command) => command.name() })
    .showSuggestionAfterError(true)
    .addHelpText('after', GENERAL_HELP);

  for (const { name, summary } of commands) program.command(name).description(summary);
  program
    .command('help [command...]')
    .description('show help')
    .action(async (names: string[]) => {
      await createProgram(entered).parseAsync([...names, '--help'], { from: 'user' });
    });
  // The code of a command is read when it is the one that was asked for.
  program.hook('preSubcommand', async (_, command) => {
    const entry = commands.find(({ name }) => name === command.name());
    if (entry === undefined) return;
    if (entry.outputIsFile !== true) checkOutputFormat(program);
    entered(`vnicctl ${entry.name}`);
    await configure(entry, command);
    command.hook('preSubcommand', (outer, inner) => {
      entered(`vnicctl ${outer.name()} ${inner.name()}`);
    });
  });
  return program;
}

function checkOutputFormat(program: Command): void {
  const { output } = program.opts<{ output: string }>();
  if (outputFormats.includes(output)) return;
  const choices = outputFormats.join(', ');
  program.error(
    `error: option '-o, --output <format>' argument '${output}' is invalid. Allowed choices are ${choices}.`,
    {
      code: 'commander.invalidArgument',
    },
  );
}

/** With the arguments, options and inner commands of one command, or of all. */
export async function loadCommands(program: Command, only?: string): Promise<Command> {
  for (const entry of commands) {
    const command = program.commands.find((candidate) => candidate.name() === entry.name);
    if (command !== undefined && (only === undefined || only === entry.name)) await configure(entry, command);
  }
  return program;
}

async function configure(entry: CommandEntry, command: Command): Promise<void> {
  (await entry.load())(command);
  for (const inner of command.commands) inner.helpCommand(false);
  command.helpCommand(false);
}

const GENERAL_HELP = `
Global options may stand before or behind the command. Without a daemon
(vnicctl serve) a command does its work itself; it needs root.

Exit codes: 0 done, 1 failed, 2 usage, 3 refused, 4 not found,
5 no permission, 6 conflict.

First steps:
  vnicctl doctor eth0      what would keep it from being attached to eth0
  vnicctl attach eth0      attach; nothing is limited or dropped until rules say so
  vnicctl rule add --id 1 --src 192.0.2.0/24 --action drop
  vnicctl status           what is attached, and what it counted
  vnicctl COMMAND --help   more on a command; all of it is in vnicctl(8)`;
