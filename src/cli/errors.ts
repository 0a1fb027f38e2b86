// SPDX-License-Identifier: Apache-2.0
/** Errors as the terminal shows them: one line that says what is wrong, one that says what to do. */
import { CommanderError } from 'commander';
import { permissionError, VnicError } from '../errors.ts';

/** Printed with --verbose only: as long as a verifier log, or of use to machines. */
const longDetails = ['log', 'messages'];

function fromCommander(error: CommanderError, commandPath: string): VnicError {
  const message = error.message.replace(/^error: /, '').replace(/\s*\n\s*/g, ' ');
  const text = error.code === 'commander.help' ? `${commandPath} needs a command` : message;
  return new VnicError('usage', `${text.replace(/\.$/, '')}.`, { remedy: `See: ${commandPath} --help` });
}

/** Whatever was thrown, as an error with a code. `commandPath`: `vnicctl rule add`. */
export function asVnicError(error: unknown, commandPath: string): VnicError {
  if (error instanceof VnicError) return error;
  if (error instanceof CommanderError) return fromCommander(error, commandPath);
  const refused = permissionError(error);
  if (refused !== null) return refused;
  const text = error instanceof Error ? error.message : String(error);
  return new VnicError('failed', `Unexpected: ${text.split('\n')[0]}`, {
    remedy: 'Run it again with --verbose and report what it prints.',
    cause: error,
  });
}

export interface ErrorStyle {
  json: boolean;
  verbose: boolean;
}

/** The text for stderr, with its last newline. */
export function errorText(error: VnicError, { json, verbose }: ErrorStyle): string {
  if (json) {
    const problem = error.toProblem();
    if (!verbose) for (const name of longDetails) delete problem[name];
    return `${JSON.stringify(problem, (_, value: unknown) => (typeof value === 'bigint' ? String(value) : value))}\n`;
  }
  const lines = [`vnicctl: ${oneLine(error.message)}`];
  if (error.remedy !== undefined) lines.push(`  ${oneLine(error.remedy)}`);
  if (verbose) lines.push(...verboseLines(error));
  return `${lines.join('\n')}\n`;
}

function oneLine(text: string): string {
  return text.replace(/\s*\n\s*/g, ' ');
}

function verboseLines(error: VnicError): string[] {
  const { problems, log } = error.details;
  const lines: string[] = [];
  if (Array.isArray(problems)) {
    for (const { path, message, remedy } of problems as Record<'path' | 'message' | 'remedy', string>[]) {
      lines.push(`  ${path === '' ? '' : `${path}: `}${message}. ${remedy}`);
    }
  }
  if (typeof log === 'string') lines.push(log.trimEnd());
  if (error.stack !== undefined) lines.push(error.stack);
  for (let cause = error.cause; cause instanceof Error; cause = cause.cause) {
    lines.push(`caused by: ${cause.stack ?? cause.message}`);
  }
  return lines;
}
