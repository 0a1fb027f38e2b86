// SPDX-License-Identifier: Apache-2.0
/** What may stand next on a command line. */
import { readdirSync } from 'node:fs';
import type { Argument, Command, Option } from 'commander';
import { createProgram, loadCommands } from './program.ts';

const FILES = ':files';
const DEVICES = '/sys/class/net';
const NAMESPACES = '/run/netns';

/** Lines for the shell's script. @param words behind `vnicctl`; the last one is being typed and may be empty */
export async function completionsOf(words: readonly string[]): Promise<string[]> {
  const typed = words.at(-1) ?? '';
  const name = words.slice(0, -1).find((word, index) => !word.startsWith('-') && !takesNext(words[index - 1]));
  const program = createProgram();
  await loadCommands(program, name ?? '');
  const place = follow(program, words.slice(0, -1));
  if (place.awaits !== undefined) return valuesOf(place.awaits);
  const withValue = /^(--[\w-]+)=/.exec(typed);
  if (withValue !== null) {
    const option = optionsOf(place.command).find(({ long }) => long === withValue[1]);
    return option === undefined
      ? []
      : valuesOf(option).map((line) => (line === FILES ? line : `${withValue[0]}${line}`));
  }
  if (typed.startsWith('-'))
    return optionsOf(place.command).map((option) => line(option.long ?? option.flags, option.description));
  const commands = place.command
    .createHelp()
    .visibleCommands(place.command)
    .map((inner) => line(inner.name(), inner.description()));
  const argument =
    place.command.registeredArguments[Math.min(place.given, place.command.registeredArguments.length - 1)];
  const room = argument !== undefined && (argument.variadic || place.given < place.command.registeredArguments.length);
  return [...commands, ...(room ? valuesOf(argument) : [])];
}

/** Of the global options, the ones with a value: they may stand before the command. */
function takesNext(word: string | undefined): boolean {
  return ['-o', '--output', '--netns', '--socket'].includes(word ?? '');
}

interface Place {
  command: Command;
  /** How many of its arguments stand there. */
  given: number;
  /** The option whose value comes next. */
  awaits: Option | undefined;
}

function follow(program: Command, words: readonly string[]): Place {
  const place: Place = { command: program, given: 0, awaits: undefined };
  for (const word of words) {
    if (place.awaits !== undefined) {
      place.awaits = undefined;
    } else if (word.startsWith('-')) {
      const option = optionsOf(place.command).find(({ short, long }) => word === short || word === long);
      place.awaits = option !== undefined && (option.required || option.optional) ? option : undefined;
    } else {
      const inner = place.command.commands.find((command) => command.name() === word);
      if (inner === undefined) place.given++;
      else Object.assign(place, { command: inner, given: 0 });
    }
  }
  return place;
}

/** Its own options, then those of the commands it is part of. */
function optionsOf(command: Command): Option[] {
  const own = command.createHelp().visibleOptions(command);
  return command.parent === null ? own : [...own, ...optionsOf(command.parent).filter(({ long }) => long !== '--help')];
}

function line(word: string, text: string): string {
  return `${word}\t${text}`;
}

function valuesOf(asked: Option | Argument): string[] {
  if (asked.argChoices !== undefined && asked.argChoices.length > 0) return [...asked.argChoices];
  switch (nameOfValue(asked)) {
    case 'file':
    case 'path':
      return [FILES];
    case 'device':
      return names(DEVICES);
    case 'name':
      return 'long' in asked && asked.long === '--netns' ? names(NAMESPACES) : [];
    default:
      return [];
  }
}

/** `<file>` of `--config <file>`, or the argument's own. */
function nameOfValue(asked: Option | Argument): string {
  return 'flags' in asked ? (/[<[]([\w-]+)/.exec(asked.flags)?.[1] ?? '') : asked.name();
}

function names(folder: string): string[] {
  try {
    return readdirSync(folder).sort();
  } catch {
    return [];
  }
}
