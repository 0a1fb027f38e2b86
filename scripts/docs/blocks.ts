// SPDX-License-Identifier: Apache-2.0
/**
 * Commands in the documentation. Pure: text in, blocks out.
 *
 * The words behind a fence's language say how a block of commands is tested:
 *
 *     ```sh test         run in an empty folder with bin/ on the PATH
 *     ```sh test=rig     the same, inside the rig, where the devices of the examples exist
 *     ```sh test=make    each line is `make TARGET…`: the targets exist
 *     ```sh norun        cannot be run in a test (installs packages, needs another machine)
 *
 * `needs=PROGRAM` behind it: where the program is not installed, a test skips the block.
 *
 * A block ```text output right behind it is what it printed: every line of it must appear in that order, numbers may
 * differ, a line `...` stands for any lines.
 */
export type DocMode = 'test' | 'rig' | 'make' | 'norun';

export interface DocBlock {
  /** 1-based line of the first command. */
  readonly line: number;
  readonly mode: DocMode;
  /** A program without which it cannot be run, or null. */
  readonly needs: string | null;
  readonly commands: string;
  /** What the documentation says it prints, if it says so. */
  readonly output: string | null;
}

interface Fence {
  readonly language: string;
  readonly words: readonly string[];
  readonly line: number;
  readonly text: string;
  /** Nothing but white space lies between this fence and the one before. */
  readonly follows: boolean;
}

const MODES: Readonly<Record<string, DocMode>> = {
  test: 'test',
  'test=rig': 'rig',
  'test=make': 'make',
  norun: 'norun',
};

function fencesOf(markdown: string): Fence[] {
  const fences: Fence[] = [];
  const lines = markdown.split('\n');
  let proseSince = true;
  for (let at = 0; at < lines.length; at++) {
    const open = /^(`{3,})\s*(\S*)\s*(.*)$/.exec(lines[at]!);
    if (open === null) {
      if (lines[at]!.trim() !== '') proseSince = true;
      continue;
    }
    const [, ticks = '', language = '', info = ''] = open;
    const end = lines.findIndex((line, index) => index > at && line.trimEnd() === ticks);
    const last = end === -1 ? lines.length : end;
    const text = lines.slice(at + 1, last).join('\n');
    fences.push({ language, words: info.split(/\s+/).filter(Boolean), line: at + 2, text, follows: !proseSince });
    proseSince = false;
    at = last;
  }
  return fences;
}

/** All marked blocks of commands, in order. */
export function extractBlocks(markdown: string): DocBlock[] {
  const fences = fencesOf(markdown);
  return fences.flatMap((fence, index) => {
    const mode =
      fence.language === 'sh' ? fence.words.map((word) => MODES[word]).find((found) => found !== undefined) : undefined;
    if (mode === undefined) return [];
    const next = fences[index + 1];
    const hasOutput = next?.follows === true && next.language === 'text' && next.words.includes('output');
    const needs = fence.words.find((word) => word.startsWith('needs='))?.slice('needs='.length) ?? null;
    return [{ line: fence.line, mode, needs, commands: fence.text, output: hasOutput ? next.text : null }];
  });
}

/** Blocks of commands that do not say how they are tested. */
export function unmarkedBlocks(markdown: string): { line: number }[] {
  return fencesOf(markdown)
    .filter(
      ({ language, words }) =>
        ['sh', 'bash', 'shell', 'console'].includes(language) &&
        !(language === 'sh' && words.some((word) => word in MODES)),
    )
    .map(({ line }) => ({ line }));
}

/** README.md and the pages below docs/, of a list of project files. */
export function documentationFiles(files: readonly string[]): string[] {
  return files.filter((file) => file === 'README.md' || /^docs\/.*\.md$/.test(file));
}

/** The form in which documented and real output are compared: numbers, table rules and column widths do not count. */
function comparable(line: string): string {
  return line
    .replace(/\d+(?:[.:,]\d+)*/g, '0')
    .replace(/[─━═-]{2,}/g, '--')
    .replace(/\s+/g, ' ')
    .trim();
}

/** The first documented line that the real output lacks (in order), or null if they agree. */
export function missingOutput(documented: string, real: string): string | null {
  const realLines = real.split('\n').map(comparable);
  let from = 0;
  for (const line of documented.split('\n')) {
    const wanted = comparable(line);
    if (wanted === '' || wanted === '...') continue;
    const found = realLines.indexOf(wanted, from);
    if (found === -1) return line;
    from = found + 1;
  }
  return null;
}

/** Targets that the lines of a `test=make` block name; throws on a line that is not a make command. */
export function makeTargets(commands: string): string[] {
  return commands.split('\n').flatMap((line) => {
    const command = line.replace(/\s#.*$/, '').trim();
    if (command === '' || command.startsWith('#')) return [];
    const words = command.split(/\s+/).filter((word) => !/^\w+=/.test(word));
    if (words[0] !== 'make') throw new Error(`not a make command: ${line}`);
    return words.slice(1).filter((word) => !word.startsWith('-'));
  });
}
