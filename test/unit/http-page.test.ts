// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import path from 'node:path';
import { HttpRig } from '../support/http.ts';

const folder = path.join(import.meta.dirname, '../../src/daemon/page');

const policy =
  "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; " +
  "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'";

describe('the files of the live page', () => {
  let rig: HttpRig;
  before(async () => {
    rig = await HttpRig.start();
  });
  after(() => rig.stop());

  it('are served with a policy that lets in nothing from elsewhere', async () => {
    const { status, headers, text } = await rig.ask('/');
    assert.equal(status, 200);
    assert.equal(headers['content-type'], 'text/html; charset=utf-8');
    assert.equal(headers['content-security-policy'], policy);
    assert.equal(headers['referrer-policy'], 'no-referrer');
    assert.equal(headers['x-content-type-options'], 'nosniff');
    assert.doesNotMatch(text, /style="|\son\w+=|javascript:|<style|<script(?! type="module" src="\/page\/)/i);
    for (const [, target] of text.matchAll(/(?:src|href)="([^"]*)"/g)) assert.match(target!, /^[/#](?!\/)/);
  });

  it('are there with every module that one of them imports, and nothing else of the folder', async () => {
    const modules = readdirSync(folder).filter((name) => name.endsWith('.mjs'));
    assert.ok(modules.includes('main.mjs'));
    for (const name of modules) {
      const { status, headers, text } = await rig.ask(`/page/${name}`);
      assert.deepEqual([status, headers['content-type']], [200, 'text/javascript; charset=utf-8'], name);
      for (const [, target] of text.matchAll(/^import .* from '(.*)';$/gm)) {
        assert.ok(modules.includes(target!.replace('./', '')), `${name} imports ${target}`);
      }
    }
    assert.equal((await rig.ask('/page/style.css')).headers['content-type'], 'text/css; charset=utf-8');
    assert.equal((await rig.ask('/page/icon.svg')).headers['content-type'], 'image/svg+xml');
    for (const name of ['types.ts', 'tsconfig.json', 'index.html', '../page/main.mjs', '%2e%2e/http/app.ts', '']) {
      assert.equal((await rig.ask(`/page/${name}`)).status, 404, name);
    }
  });

  it('are only read', async () => {
    const { status, headers } = await rig.ask('/', { method: 'POST', body: 'x' });
    assert.deepEqual([status, headers['allow']], [405, 'GET, HEAD, OPTIONS']);
    assert.equal((await rig.ask('/page/main.mjs', { method: 'HEAD' })).text, '');
  });
});
