// SPDX-License-Identifier: Apache-2.0
/** The command line as data, for its reference page and manual page. */
import type { Argument, Command, Option } from 'commander';
import { createProgram, loadCommands } from '../../src/cli/program.ts';

export interface CommandText {
  /** `vnicctl rule add`. */
  path: string;
  usage: string;
  summary: string;
  /** `<file>`, what it is. */
  arguments: Entry[];
  options: Entry[];
  inner: CommandText[];
}

export interface Entry {
  term: string;
  text: string;
}

/** All of vnicctl. */
export async function commandTree(): Promise<CommandText> {
  return describe(await loadCommands(createProgram()), '');
}

function describe(command: Command, before: string): CommandText {
  const path = `${before}${command.name()}`;
  const help = command.createHelp();
  const own = help.visibleOptions(command).filter(({ long }) => long !== '--help');
  return {
    path,
    usage: [path, ...(own.length > 0 ? ['[options]'] : []), ...usageArguments(command)].join(' '),
    summary: command.description(),
    arguments: command.registeredArguments.map((argument) => ({
      term: argument.name(),
      text: withChoices(argument.description, argument),
    })),
    options: own.map((option) => ({ term: option.flags, text: withChoices(option.description, option) })),
    inner: help
      .visibleCommands(command)
      .filter((inner) => inner.name() !== 'help')
      .map((inner) => describe(inner, `${path} `)),
  };
}

function usageArguments(command: Command): string[] {
  if (command.commands.length > 0) return ['<command>'];
  return command.registeredArguments.map((argument) => {
    const name = `${argument.name()}${argument.variadic ? '...' : ''}`;
    return argument.required ? `<${name}>` : `[${name}]`;
  });
}

function withChoices(text: string, { argChoices, defaultValue }: Option | Argument): string {
  const choices = argChoices === undefined ? '' : `; one of ${argChoices.join(', ')}`;
  const isShown = ['string', 'number'].includes(typeof defaultValue);
  return `${text}${choices}${isShown ? ` (default: ${String(defaultValue)})` : ''}`;
}
