// SPDX-License-Identifier: Apache-2.0
/** Links, pictures and headings of the documentation's pages. Pure: texts in, problems out. */
import path from 'node:path';
import { lexer, type Token, type Tokens } from 'marked';

export interface PageLinks {
  /** As GitHub names them. */
  anchors: Set<string>;
  /** Targets as written. */
  links: string[];
  problems: string[];
}

/** The name that GitHub gives a heading's place. */
export function anchorOf(heading: string): string {
  return heading
    .trim()
    .toLowerCase()
    .replace(/[^\p{L}\p{N}\s_-]/gu, '')
    .replace(/\s/g, '-');
}

export function readLinks(markdown: string): PageLinks {
  const page: PageLinks = { anchors: new Set(), links: [], problems: [] };
  let depth = 0;
  const visit = (token: Token): void => {
    if (token.type === 'heading') {
      const { text, depth: own } = token as Tokens.Heading;
      if (own > depth + 1) page.problems.push(`the heading "${text}" is ${own - depth} levels below the one before it`);
      depth = own;
      let anchor = anchorOf(plainText(token));
      for (let copy = 1; page.anchors.has(anchor); copy++) anchor = `${anchorOf(plainText(token))}-${copy}`;
      page.anchors.add(anchor);
    }
    if (token.type === 'link' || token.type === 'image') page.links.push((token as Tokens.Link).href);
    if (token.type === 'image' && (token as Tokens.Image).text.trim() === '') {
      page.problems.push(`the picture ${(token as Tokens.Image).href} has no text for those who cannot see it`);
    }
    for (const inner of innerTokens(token)) visit(inner);
  };
  for (const token of lexer(markdown)) visit(token);
  return page;
}

function innerTokens(token: Token): Token[] {
  const {
    tokens = [],
    items = [],
    header = [],
    rows = [],
  } = token as Partial<Tokens.Generic> & {
    tokens?: Token[];
    items?: Token[];
    header?: { tokens: Token[] }[];
    rows?: { tokens: Token[] }[][];
  };
  const cells = [...header, ...rows.flat()].flatMap((cell) => cell.tokens);
  return [...tokens, ...items, ...cells];
}

function plainText(token: Token): string {
  const inner = innerTokens(token);
  return inner.length === 0 ? ('text' in token ? String(token.text) : '') : inner.map(plainText).join('');
}

/**
 * @param pages path to text, relative to the project
 * @param isThere whether another file exists
 * @param start the page from which every other has to be found
 */
export function linkProblems(
  pages: ReadonlyMap<string, string>,
  isThere: (file: string) => boolean,
  start: string,
): string[] {
  const read = new Map([...pages].map(([file, text]) => [file, readLinks(text)]));
  const problems: string[] = [];
  const found = new Set([start]);
  // A set grows while it is walked.
  for (const file of found)
    for (const target of targetsOf(file, read)) if (pages.has(target.file)) found.add(target.file);
  for (const [file, { problems: own }] of read) {
    problems.push(...own.map((problem) => `${file}: ${problem}`));
    for (const { href, file: target, anchor } of targetsOf(file, read)) {
      const page = read.get(target);
      if (page === undefined && !isThere(target)) problems.push(`${file}: ${href} leads to nothing`);
      else if (page !== undefined && anchor !== '' && !page.anchors.has(anchor)) {
        problems.push(`${file}: ${href}: ${target} has no heading #${anchor}`);
      }
    }
    if (file.startsWith('docs/') && !found.has(file)) problems.push(`${file}: no link leads there from ${start}`);
  }
  return problems;
}

interface Target {
  href: string;
  file: string;
  anchor: string;
}

/** Of links within the project. */
function targetsOf(file: string, pages: ReadonlyMap<string, PageLinks>): Target[] {
  return (pages.get(file)?.links ?? [])
    .filter((href) => !/^[a-z]+:/.test(href))
    .map((href) => {
      const [name = '', anchor = ''] = href.split('#');
      return { href, file: name === '' ? file : path.posix.join(path.posix.dirname(file), name), anchor };
    });
}
