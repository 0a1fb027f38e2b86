// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { operations } from '../../src/api/operations/index.ts';
import type { ApiDocument } from '../../src/daemon/http/openapi-shape.ts';
import { referenceContents, referenceMarkdown } from '../../src/daemon/http/reference-markdown.ts';
import { referencePage } from '../../src/daemon/http/reference-page.ts';
import { escapeText, schemaText, slug, typeText } from '../../src/daemon/http/reference-schemas.ts';
import { HttpRig } from '../support/http.ts';

describe('the reference', () => {
  let rig: HttpRig;
  let document: ApiDocument;
  before(async () => {
    rig = await HttpRig.start();
    document = (await rig.ask('/api/v1/openapi.json')).json as unknown as ApiDocument;
  });
  after(() => rig.stop());

  it('is served as a document with every operation', () => {
    assert.equal(document.info.version, '1.2.3');
    for (const { id, path, method } of operations) assert.equal(document.paths[path]![method]!.operationId, id);
  });

  it('is served as a page that takes nothing from elsewhere and runs nothing', async () => {
    const { status, headers, text } = await rig.ask('/api/v1/reference');
    assert.equal(status, 200);
    assert.equal(headers['content-type'], 'text/html; charset=utf-8');
    assert.equal(headers['referrer-policy'], 'no-referrer');
    const style = /<style>(.*?)<\/style>/s.exec(text)![1]!;
    const hash = createHash('sha256').update(style).digest('base64');
    assert.equal(
      headers['content-security-policy'],
      `default-src 'none'; style-src 'sha256-${hash}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'`,
    );
    assert.doesNotMatch(text, /<script|<img|<link|<iframe|javascript:|\son\w+=|style="/i);
    assert.match(text, /^<!doctype html>\n<html lang="en">/);
  });

  it('has every operation and schema on the page, and no link that leads nowhere', async () => {
    const { text } = await rig.ask('/api/v1/reference');
    const ids = [...text.matchAll(/ id="([^"]+)"/g)].map(([, id]) => id!);
    assert.equal(new Set(ids).size, ids.length);
    for (const [, target] of text.matchAll(/href="#([^"]*)"/g)) assert.ok(ids.includes(target!), target);
    for (const { method, path } of operations) assert.ok(ids.includes(slug(`${method} ${path}`)), path);
    for (const name of Object.keys(document.components.schemas)) assert.ok(ids.includes(slug(name)), name);
    const levels = [...text.matchAll(/<h(\d)/g)].map(([, level]) => Number(level));
    assert.equal(levels.filter((level) => level === 1).length, 1);
    for (const [index, level] of levels.entries()) assert.ok(level <= (levels[index - 1] ?? 0) + 1, `heading ${index}`);
  });

  it('has in Markdown what an operation takes and gives', () => {
    const text = referenceMarkdown(document);
    const section = text.split('\n### ').find((part) => part.startsWith('PUT /api/v1/devices/{device}/rules\n'))!;
    for (const expected of [
      'Access: [write]',
      '| `dryRun?` | query |',
      '| `If-Match?` | header |',
      '[Rule](#rule)',
      '`application/yaml`',
      '"priority": 100',
      '| 412 | `precondition_failed` |',
      'Header `ETag`',
    ]) {
      assert.ok(section.includes(expected), `${expected}\n${section}`);
    }
    assert.doesNotMatch(section, /`unauthorized`/);
    assert.match(text, /Every operation on devices can answer with [^.]*`unauthorized`[^.]*`;\n.* 500\./);
    assert.match(text, /### GET \/healthz\n\n.*\n\nAccess: everybody/);
    assert.match(text, /### GET \/metrics\n\n.*\n\nAccess: \[read\]/);
  });

  it('puts schemas into words', () => {
    assert.equal(typeText({ type: 'integer', minimum: 1, maximum: 64 }), 'integer 1 to 64');
    assert.equal(typeText({ type: 'integer', minimum: 0, maximum: Number.MAX_SAFE_INTEGER }), 'integer from 0');
    assert.equal(typeText({ type: 'number', exclusiveMinimum: 0, maximum: 9 }), 'number above 0, at most 9');
    assert.equal(typeText({ type: 'number', maximum: 9 }), 'number at most 9');
    assert.equal(typeText({ type: ['string', 'null'] }), 'string or null');
    assert.equal(typeText({ enum: ['a', 1] }), '`"a"` or `1`');
    assert.equal(typeText({ const: true }), '`true`');
    assert.equal(typeText({ type: 'array', items: { $ref: '#/components/schemas/Rule' } }), 'list of [Rule](#rule)');
    assert.equal(typeText({ type: 'object', additionalProperties: { type: 'boolean' } }), 'boolean by name');
    assert.equal(typeText({ anyOf: [{ type: 'string' }, {}] }), 'string or anything');
    assert.equal(
      typeText({ anyOf: [{ type: 'null' }, { type: 'object', properties: { a: {} } }] }),
      'null or object with `a`',
    );
    assert.equal(typeText({ type: 'string', format: 'date-time' }), 'date-time');
    assert.equal(
      schemaText({
        type: 'object',
        required: ['a'],
        properties: {
          a: { type: 'object', properties: { b: { type: 'string', description: 'x | y' } } },
          c: { type: 'array', items: { type: 'object', required: ['d'], properties: { d: { type: 'boolean' } } } },
        },
      }),
      [
        '| field | type | meaning |',
        '|---|---|---|',
        '| `a` | object |  |',
        '| `a.b?` | string | x \\| y |',
        '| `c?` | list of object |  |',
        '| `c[].d` | boolean |  |',
      ].join('\n'),
    );
  });

  it('shows what looks like HTML as text', () => {
    assert.equal(escapeText('a <b> `<c>` | d'), 'a &lt;b> `<c>` \\| d');
    const evil = '<script>alert(1)</script>';
    const api = {
      ...document,
      info: { ...document.info, title: evil },
      tags: [{ name: 'x', description: evil }],
      paths: { '/x': { get: { operationId: 'x', tags: ['x'], summary: evil, description: evil, responses: {} } } },
      components: { schemas: { X1: { type: 'string', description: evil } } },
    };
    assert.doesNotMatch(Buffer.from(referencePage(api).html).toString(), /<script/);
  });

  it('refuses two headings that links could not tell apart', () => {
    const schemas = { Devices: { type: 'string' } };
    assert.throws(() => referenceContents({ ...document, components: { schemas } }), /anchor devices/);
  });
});
