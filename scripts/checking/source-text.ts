// SPDX-License-Identifier: Apache-2.0
/** Just enough TypeScript lexing for the source checks. Pure. */

export interface Import {
  readonly specifier: string;
  /** 1-based. */
  readonly line: number;
}

/** Characters after which a `/` begins a regular expression rather than a division. */
const BEFORE_REGEX = /[(,=:[!&|?{};+\-*%<>~^]$|\b(?:return|typeof|case|in|of|void|delete|throw|new|await|yield)$|^$/;

/**
 * The text with comments, regular expressions and, if asked, the contents of strings replaced by spaces.
 * Line numbers stay. Expressions inside template literals stay visible.
 */
export function blank(source: string, options: { strings: boolean }): string {
  let out = '';
  let at = 0;
  /** Depth of braces inside each open `${`. */
  const templates: number[] = [];
  const spaces = (text: string) => text.replace(/[^\n]/g, ' ');

  const takeWhile = (end: number, keep: boolean) => {
    const text = source.slice(at, end);
    out += keep ? text : spaces(text);
    at = end;
  };
  const takeTemplateText = () => {
    let end = at;
    while (end < source.length && source[end] !== '`' && !source.startsWith('${', end))
      end += source[end] === '\\' ? 2 : 1;
    takeWhile(Math.min(end, source.length), !options.strings);
    if (source[at] === '`') takeWhile(at + 1, true);
    else if (at < source.length) {
      templates.push(0);
      takeWhile(at + 2, true);
    }
  };

  while (at < source.length) {
    const char = source[at]!;
    if (source.startsWith('//', at)) {
      const end = source.indexOf('\n', at);
      takeWhile(end === -1 ? source.length : end, false);
    } else if (source.startsWith('/*', at)) {
      const end = source.indexOf('*/', at + 2);
      takeWhile(end === -1 ? source.length : end + 2, false);
    } else if (char === "'" || char === '"') {
      let end = at + 1;
      while (end < source.length && source[end] !== char && source[end] !== '\n') end += source[end] === '\\' ? 2 : 1;
      takeWhile(at + 1, true);
      takeWhile(Math.min(end, source.length), !options.strings);
      takeWhile(Math.min(at + 1, source.length), true);
    } else if (char === '`') {
      takeWhile(at + 1, true);
      takeTemplateText();
    } else if (char === '/' && BEFORE_REGEX.test(out.slice(-80).trimEnd())) {
      takeWhile(endOfRegex(source, at), false);
    } else {
      if (templates.length > 0 && char === '{') templates[templates.length - 1]!++;
      if (templates.length > 0 && char === '}' && templates[templates.length - 1]!-- === 0) {
        templates.pop();
        takeWhile(at + 1, true);
        takeTemplateText();
      } else takeWhile(at + 1, true);
    }
  }
  return out;
}

function endOfRegex(source: string, start: number): number {
  let inClass = false;
  for (let at = start + 1; at < source.length && source[at] !== '\n'; at++) {
    if (source[at] === '\\') at++;
    else if (source[at] === '[') inClass = true;
    else if (source[at] === ']') inClass = false;
    else if (source[at] === '/' && !inClass) return at + 1;
  }
  return start + 1;
}

/** Every static import, re-export, dynamic import and require with a literal specifier, type-only ones included. */
export function importsOf(source: string): Import[] {
  const code = blank(source, { strings: false });
  const patterns = [
    /^[ \t]*(?:import|export)\b[^'"`;]*?\bfrom\s*['"]([^'"]+)['"]/gm,
    /^[ \t]*import\s*['"]([^'"]+)['"]/gm,
    /\b(?:import|require)\s*\(\s*['"`]([^'"`]+)['"`]/g,
  ];
  const found: Import[] = [];
  for (const pattern of patterns) {
    for (const match of code.matchAll(pattern)) {
      const end = match.index + match[0].length;
      found.push({ specifier: match[1]!, line: lineAt(code, end) });
    }
  }
  return found.sort((a, b) => a.line - b.line);
}

/** 1-based line of a position. */
export function lineAt(text: string, position: number): number {
  return text.slice(0, position).split('\n').length;
}
