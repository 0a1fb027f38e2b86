// SPDX-License-Identifier: Apache-2.0
/** vnicctl's entry: reads the command line, runs one command, prints its error, sets the exit code. */
import { Command, CommanderError, Option } from 'commander';
import packageFile from '../../package.json' with { type: 'json' };
import { commands } from './commands.ts';
import { asVnicError, errorText } from './errors.ts';

const SHOWN_ON_REQUEST = new Set(['commander.helpDisplayed', 'commander.version']);

/** `vnicctl rule add`, for pointing at the right help. */
let commandPath = 'vnicctl';

function createProgram(): Command {
  const program = new Command('vnicctl')
    .description('Steers, limits and counts flows on a virtio_net device with an eBPF/XDP dataplane.')
    .version(packageFile.version, '-V, --version', 'print the version')
    .helpOption('-h, --help', 'show help')
    .helpCommand(false)
    .addOption(
      new Option('-o, --output <format>', 'form of the data on stdout')
        .choices(['table', 'json', 'yaml'])
        .default('table'),
    )
    .option('--netns <name>', 'network namespace that the device is in')
    .option('--socket <path>', 'socket of the daemon (default: /run/vnic/vnicd.sock)')
    .option('--yes', 'do not ask on a terminal')
    .option('--dry-run', 'say what would be done, and do nothing')
    .option('--verbose', 'with an error: its whole story, the verifier log included')
    .exitOverride()
    .configureOutput({ outputError: () => {} })
    .configureHelp({ subcommandTerm: (command) => command.name() })
    .showSuggestionAfterError(true);

  for (const { name, summary } of commands) program.command(name).description(summary);
  program
    .command('help [command...]')
    .description('show help')
    .action(async (names: string[]) => {
      await createProgram().parseAsync([...names, '--help'], { from: 'user' });
    });
  // The code of a command is read when it is the one that was asked for.
  program.hook('preSubcommand', async (_, command) => {
    const entry = commands.find(({ name }) => name === command.name());
    if (entry === undefined) return;
    commandPath = `vnicctl ${entry.name}`;
    (await entry.load())(command);
    for (const inner of command.commands) inner.helpCommand(false);
    command.helpCommand(false).hook('preSubcommand', (outer, inner) => {
      commandPath = `vnicctl ${outer.name()} ${inner.name()}`;
    });
  });
  return program;
}

/** Options may not have been read yet when reading them fails. */
function wantsJson(args: readonly string[]): boolean {
  const text = args.join(' ');
  return /(^| )(-o ?=?|--output[ =])json( |$)/.test(text);
}

async function main(args: readonly string[]): Promise<number> {
  try {
    await createProgram().parseAsync([...args], { from: 'user' });
    return 0;
  } catch (error) {
    if (error instanceof CommanderError && SHOWN_ON_REQUEST.has(error.code)) return 0;
    const known = asVnicError(error, commandPath);
    process.stderr.write(errorText(known, { json: wantsJson(args), verbose: args.includes('--verbose') }));
    return known.exitCode;
  }
}

// A reader that has seen enough (head, less) is no error.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(0);
  throw error;
});

const exitCode = await main(process.argv.slice(2));
// A command that has something to say and is not wrong (doctor) sets its own.
if (exitCode !== 0) process.exitCode = exitCode;
