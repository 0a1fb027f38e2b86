// SPDX-License-Identifier: Apache-2.0
/**
 * Builds the documentation as pages for a browser, out/docs/; with `--check` only says what is wrong with links, headings
 * and pictures. Any warning is a failure.
 */
import { cpSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { Marked } from 'marked';
import { anchorOf, linkProblems } from './docs/links.ts';
import { pages, projectRoot } from './run-docs.ts';

const START = 'docs/README.md';

const texts = new Map(pages().map((file) => [file, readFileSync(path.join(projectRoot, file), 'utf8')]));
const problems = linkProblems(texts, (file) => existsSync(path.join(projectRoot, file)), START);
for (const problem of problems) console.error(problem);
if (problems.length > 0) process.exitCode = 1;

const { values } = parseArgs({ options: { check: { type: 'boolean', default: false } } });
if (problems.length === 0) {
  const built = new Map(
    [...texts].filter(([file]) => file.startsWith('docs/')).map(([file, text]) => [file, html(file, text)]),
  );
  if (values.check) console.log(`docs: ${texts.size} pages, every link and picture leads somewhere`);
  else write(built);
}

function html(file: string, markdown: string): string {
  const marked = new Marked({
    renderer: {
      heading({ tokens, depth }) {
        const text = this.parser.parseInline(tokens);
        return `<h${depth} id="${anchorOf(text.replace(/<[^>]*>/g, ''))}">${text}</h${depth}>\n`;
      },
    },
    walkTokens(token) {
      if (token.type === 'link' && !/^[a-z]+:/.test(token.href)) {
        token.href = token.href.replace(/README\.md/, 'index.html').replace(/\.md(?=#|$)/, '.html');
      }
    },
  });
  const title = /^# (.*)/m.exec(markdown)?.[1] ?? file;
  const up = '../'.repeat(file.split('/').length - 2);
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>${title} · vnicctl</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 56rem; margin: 2rem auto; padding: 0 1rem; color-scheme: light dark; }
pre { overflow-x: auto; padding: .75rem; border: 1px solid #8884; border-radius: 4px; }
table { border-collapse: collapse; } td, th { border: 1px solid #8886; padding: .25rem .5rem; text-align: left; vertical-align: top; }
img { max-width: 100%; }
</style>
<nav><a href="${up}index.html">vnicctl documentation</a></nav>
${marked.parse(markdown) as string}
</html>
`;
}

function write(built: ReadonlyMap<string, string>): void {
  const out = path.join(projectRoot, 'out/docs');
  rmSync(out, { recursive: true, force: true });
  for (const [file, text] of built) {
    const target = path.join(
      out,
      file.slice('docs/'.length).replace('README.md', 'index.html').replace(/\.md$/, '.html'),
    );
    mkdirSync(path.dirname(target), { recursive: true });
    writeFileSync(target, text);
  }
  cpSync(path.join(projectRoot, 'docs/pictures'), path.join(out, 'pictures'), { recursive: true });
  console.log(`out/docs/index.html: ${built.size} pages`);
}
