// SPDX-License-Identifier: Apache-2.0
/** The live page: files that are served as they are, and a policy that lets in nothing from elsewhere. */
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import type { ApiResponse } from '../../api/operation.ts';
import { projectFile } from '../../project.ts';

const folder = projectFile('src/daemon/page');

const types: Readonly<Record<string, string>> = {
  '.html': 'text/html; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.mjs': 'text/javascript; charset=utf-8',
  '.svg': 'image/svg+xml',
};

/** Scripts cannot turn text into markup: there is no Trusted Types policy that would let them. */
const policy = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "img-src 'self'",
  "connect-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
  "require-trusted-types-for 'script'",
  "trusted-types 'none'",
].join('; ');

/** What is answered at each address of the page. They have no data of any device in them. */
export function livePage(): Map<string, ApiResponse> {
  const answers = new Map<string, ApiResponse>();
  for (const name of readdirSync(folder).sort()) {
    const type = types[path.extname(name)];
    if (type === undefined) continue;
    const headers = { 'content-type': type, 'content-security-policy': policy, 'referrer-policy': 'no-referrer' };
    const body = new Uint8Array(readFileSync(path.join(folder, name)));
    answers.set(name === 'index.html' ? '/' : `/page/${name}`, { status: 200, headers, body });
  }
  return answers;
}
