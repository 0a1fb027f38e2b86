// SPDX-License-Identifier: Apache-2.0
/** One run of vnicctl: reads the arguments, runs one command, prints its error. */
import { CommanderError } from 'commander';
import { asVnicError, errorText } from './errors.ts';
import { createProgram } from './program.ts';

const SHOWN_ON_REQUEST = new Set(['commander.helpDisplayed', 'commander.version']);

/** `vnicctl rule add`, for pointing at the right help. */
let commandPath = 'vnicctl';

/** Options may not have been read yet when reading them fails. */
function wantsJson(args: readonly string[]): boolean {
  const text = args.join(' ');
  return /(^| )(-o ?=?|--output[ =])json( |$)/.test(text);
}

/** Gives the exit code. A command that is not wrong but has something to say (doctor) sets `process.exitCode` besides. */
export async function runCommand(args: readonly string[]): Promise<number> {
  try {
    await createProgram((path) => {
      commandPath = path;
    }).parseAsync([...args], { from: 'user' });
    return 0;
  } catch (error) {
    if (error instanceof CommanderError && SHOWN_ON_REQUEST.has(error.code)) return 0;
    const known = asVnicError(error, commandPath);
    process.stderr.write(errorText(known, { json: wantsJson(args), verbose: args.includes('--verbose') }));
    return known.exitCode;
  }
}
