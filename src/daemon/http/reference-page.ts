// SPDX-License-Identifier: Apache-2.0
/** The reference as a page for browsers: no script, nothing from elsewhere. */
import { createHash } from 'node:crypto';
import { Marked, Renderer } from 'marked';
import { encodeText } from '../../api/bodies.ts';
import type { Page } from './app.ts';
import type { ApiDocument } from './openapi-shape.ts';
import { type ReferenceSection, referenceContents, referenceMarkdown } from './reference-markdown.ts';
import { slug } from './reference-schemas.ts';

const style = `
:root { color-scheme: light dark; --text: #1b1f24; --quiet: #57606a; --ground: #fff; --raised: #f5f7f9; --line: #d5dae0;
  --link: #0757b8; }
@media (prefers-color-scheme: dark) {
  :root { --text: #e2e6ea; --quiet: #9aa4ae; --ground: #14171a; --raised: #1d2125; --line: #363c43; --link: #79b4ff; }
}
* { box-sizing: border-box; }
html { scroll-padding-top: 1rem; }
body { margin: 0; font: 1rem/1.55 system-ui, sans-serif; color: var(--text); background: var(--ground); }
a { color: var(--link); text-underline-offset: .15em; }
a:focus-visible, [tabindex]:focus-visible { outline: 2px solid var(--link); outline-offset: 2px; }
.skip { position: absolute; left: -99rem; }
.skip:focus { left: 1rem; top: 1rem; padding: .5rem 1rem; background: var(--ground); }
nav { max-height: 35vh; overflow-y: auto; padding: 1.5rem; border-bottom: 1px solid var(--line); background: var(--raised); font-size: .85rem; }
nav p { margin: 0 0 .75rem; color: var(--quiet); }
nav p strong { color: var(--text); font-size: 1.05rem; }
nav ul { list-style: none; margin: 0; padding: 0; }
nav ul ul { margin: .2rem 0 1rem; }
nav li a { display: block; padding: .12rem 0; overflow-wrap: anywhere; text-decoration: none; }
nav li a:hover { text-decoration: underline; }
nav > ul > li > a { font-weight: 600; color: var(--text); }
main { padding: 1rem 1.5rem 4rem; max-width: 60rem; }
h1 { font-size: 1.9rem; line-height: 1.2; }
h2 { margin-top: 3.5rem; padding-bottom: .3rem; border-bottom: 1px solid var(--line); font-size: 1.45rem; }
h3 { margin-top: 2.75rem; font-size: 1.1rem; overflow-wrap: anywhere; }
h3.operation { font-family: ui-monospace, monospace; }
.method { display: inline-block; min-width: 4.2em; padding: .05em .5em; margin-right: .4em; border: 1px solid var(--line);
  border-radius: .3em; background: var(--raised); font-size: .85em; text-align: center; }
code, pre { font-family: ui-monospace, monospace; font-size: .88em; }
code { padding: .1em .3em; border-radius: .25em; background: var(--raised); }
pre { padding: .9rem 1rem; overflow-x: auto; border: 1px solid var(--line); border-radius: .4rem; background: var(--raised); }
pre code { padding: 0; background: none; }
.wide { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-size: .92rem; }
th, td { padding: .35rem .9rem .35rem 0; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }
th { color: var(--quiet); font-weight: 600; }
td:first-child { white-space: nowrap; }
@media (min-width: 70rem) {
  body { display: grid; grid-template-columns: 23rem minmax(0, 1fr); }
  nav { position: sticky; top: 0; height: 100vh; max-height: none; border-right: 1px solid var(--line); border-bottom: 0; }
  main { padding: 1rem 3rem 6rem; }
}
@media print { nav { display: none; } main { max-width: none; } }
`;

const policy = [
  "default-src 'none'",
  `style-src 'sha256-${createHash('sha256').update(style).digest('base64')}'`,
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join('; ');

function escapeHtml(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('"', '&quot;');
}

/** Operations have their method set off from the path. */
function headingHtml(text: string): string {
  const [, method, path] = /^(GET|PUT|PATCH|POST|DELETE) (\/.*)$/.exec(text) ?? [];
  if (method === undefined || path === undefined) return escapeHtml(text);
  return `<span class="method">${method}</span> ${escapeHtml(path)}`;
}

class PageRenderer extends Renderer {
  override heading({ text, depth }: { text: string; depth: number }): string {
    const isOperation = headingHtml(text).startsWith('<span');
    const attributes = `id="${slug(text)}"${isOperation ? ' class="operation"' : ''}`;
    return `<h${depth} ${attributes}>${headingHtml(text)}</h${depth}>\n`;
  }

  /** Wide tables scroll on their own, also by keyboard. */
  override table(token: Parameters<Renderer['table']>[0]): string {
    return `<div class="wide" tabindex="0" role="region" aria-label="Table">${super.table(token)}</div>\n`;
  }
}

function contentsHtml(sections: readonly ReferenceSection[]): string {
  const link = (anchor: string, text: string): string => `<a href="#${anchor}">${escapeHtml(text)}</a>`;
  const items = sections.map(({ heading, anchor, entries }) => {
    const inner = entries.map((entry) => `<li>${link(entry.anchor, entry.heading)}</li>`).join('\n');
    return `<li>${link(anchor, heading)}\n<ul>\n${inner}\n</ul></li>`;
  });
  return `<ul>\n${items.join('\n')}\n</ul>`;
}

/** Takes what openApiDocument() gives. */
export function referencePage(document: unknown): Page {
  const api = document as ApiDocument;
  const body = new Marked().parse(referenceMarkdown(api), { renderer: new PageRenderer(), async: false });
  const { title, version } = api.info;
  const html = `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>REST API of ${escapeHtml(title)} ${escapeHtml(version)}</title>
<style>${style}</style>
</head>
<body>
<a class="skip" href="#rest-api">To the text</a>
<nav aria-label="Contents">
<p><strong>${escapeHtml(title)}</strong> ${escapeHtml(version)} · <a href="/api/v1/openapi.json">openapi.json</a></p>
${contentsHtml(referenceContents(api))}
</nav>
<main>
${body}</main>
</body>
</html>
`;
  return { html: encodeText(html), policy };
}
