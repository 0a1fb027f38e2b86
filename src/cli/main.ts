// SPDX-License-Identifier: Apache-2.0
/** vnicctl's entry: runs the command of the command line and sets the exit code. */
import { runCommand } from './run.ts';

// A reader that has seen enough (head, less) is no error.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(0);
  throw error;
});

const exitCode = await runCommand(process.argv.slice(2));
// A command that has something to say and is not wrong (doctor) sets its own.
if (exitCode !== 0) process.exitCode = exitCode;
