// SPDX-License-Identifier: Apache-2.0
/** The live page in Chromium, served by a real daemon with a device under traffic and 100,000 rules. */
import assert from 'node:assert/strict';
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import type { Page } from 'playwright-core';
import { CliRig } from '../support/cli.ts';
import { TestDaemon } from '../support/daemon.ts';
import { findChromium, inPage, says as pageSays, WatchedBrowser } from '../support/page.ts';
import { skip } from '../support/skip.ts';

const project = path.join(import.meta.dirname, '../..');
const RULES = 100_000;
const zones = { 'az-a': '10.1.0.2', 'az-b': '10.2.0.2', 'az-c': '10.3.0.2' };

/** What axe-core finds. */
interface Audit {
  violations: { id: string; nodes: { html: string; failureSummary?: string }[] }[];
}

function manyRules(): Record<string, unknown>[] {
  const limited = { id: 500_000, priority: 5000, match: { src: '10.2.0.0/16', proto: 'udp', dstPort: 5000 } };
  return [
    { ...limited, action: 'pass', limit: { rate: '500pps', scope: 'rule' } },
    ...Array.from({ length: RULES - 1 }, (_, index) => ({
      id: index + 1,
      priority: index % 1000,
      match: { src: `10.9.${(index >> 8) & 255}.${index & 255}/32`, proto: 'tcp', dstPort: 1 + (index % 60_000) },
      action: 'drop',
    })),
  ];
}

describe('the live page', function () {
  this.timeout(180_000);
  let rig: CliRig;
  let daemon: TestDaemon;
  let browser: WatchedBrowser;
  let page: Page;
  let url: string;
  let address: string;
  const senders: ChildProcess[] = [];

  before(async function () {
    const chromium = findChromium();
    if (chromium === null) skip(this, 'chromium is not installed');
    rig = new CliRig('page');
    rig.inGuest('ip', 'route', 'add', '10.0.0.0/8', 'dev', 'vnic0');
    for (const source of Object.values(zones)) {
      execFileSync('ip', ['-n', rig.peer, 'addr', 'add', `${source}/32`, 'dev', 'peer0']);
    }
    daemon = await TestDaemon.start();
    const device = `vnic0@${rig.guest}`;
    url = `/api/v1/devices/${encodeURIComponent(device)}`;
    const azs = [
      { name: 'az-a', queues: '0-10', prefixes: ['10.1.0.0/16'], silence_ms: 60_000, silence_floor_pps: 100 },
      { name: 'az-b', queues: '11-21', prefixes: ['10.2.0.0/16'] },
      { name: 'az-c', queues: '22-31', prefixes: ['10.3.0.0/16'] },
    ];
    await daemon.ask('POST', '/api/v1/devices', {
      body: { name: 'vnic0', netns: rig.guest, azs, rules: manyRules() },
    });
    for (const source of Object.values(zones)) {
      const script = path.join(project, 'test/support/zone-traffic.ts');
      const send = [process.execPath, script, 'send', source, '10.9.0.1', '5000', '16', '1000'];
      senders.push(spawn('nsenter', [`--net=/run/netns/${rig.peer}`, ...send], { stdio: 'ignore' }));
    }
    browser = await WatchedBrowser.start(chromium);
    // The daemon sees what others attached on this machine, too.
    address = `${daemon.baseUrl}/#${encodeURIComponent(device)}`;
    page = await browser.open(address);
  });
  after(async () => {
    await browser?.[Symbol.asyncDispose]();
    for (const sender of senders) sender.kill();
    await daemon?.send('DELETE', `${url}?force=true`).catch(() => undefined);
    await daemon?.[Symbol.asyncDispose]();
    rig?.[Symbol.dispose]();
  });

  function says(selector: string, pattern: RegExp, timeoutMs?: number): Promise<string> {
    return pageSays(page, selector, pattern, timeoutMs);
  }

  async function useToken(token: string): Promise<void> {
    await page.getByRole('button', { name: /^(Write token|Token)/ }).click();
    await page.getByRole('textbox', { name: 'Token' }).fill(token);
    await page.getByRole('button', { name: 'Use it' }).click();
  }

  function azState(name: string): Promise<string | null> {
    return page.locator('.az-card', { hasText: name }).getAttribute('data-state');
  }

  it('shows queues, rates, AZs, flows and latency of a device under traffic', async () => {
    await says('#connection', /^Live/);
    const cells = page.getByRole('list', { name: /^Queues with/ }).getByRole('listitem');
    assert.equal(await cells.count(), 32);
    await says('#heatmap', /[1-9]/);
    assert.match((await cells.nth(12).textContent()) ?? '', /^12[\d.k–]+ packets\/s, az-b$/);
    await says('#tiles', /In, packets[\d.]+ k?p\/s/);
    await says('#tiles', /Latency p99[\d.]+ [µm]?s/);
    await says('#flow-table', /10\.[123]\.0\.2:20\d\d\d → 10\.9\.0\.1:5000udpin/);
    await says('#az-list', /az-aup.*10\.1\.0\.0\/16.*Silence1 min, not armed: takes 6,000 packets.*; heard/);
    await says('#event-log', /device\.attached/);
    // Half of what comes from az-b is over its limit.
    await says('.tile[data-mark=bad]', /Dropped/);
  });

  it('draws with data within a second of being opened', async () => {
    const other = await browser.context.newPage();
    await other.goto(address, { waitUntil: 'commit' });
    await other.waitForSelector('.az-card');
    const ms = await inPage<number>(other, 'performance.now()');
    console.log(`      data was there after ${Math.round(ms)} ms`);
    await other.close();
  });

  it('pages through 100,000 rules with few of them on the page', async () => {
    const rows = page.locator('#rule-table tbody tr');
    await says('#rules-place', /Rules 1 to 25 of 100,000/);
    assert.equal(await rows.count(), 25);
    assert.match((await rows.first().textContent()) ?? '', /^5000005000inudp from 10\.2\.0\.0\/16 to port 5000/);
    await says('#rule-table tbody tr:first-child', /\d,\d{3}/);
    await page.getByRole('button', { name: 'Next' }).click();
    await says('#rules-place', /Rules 26 to 50 of 100,000/);
    await page.getByRole('button', { name: 'Previous' }).click();
    await says('#rules-place', /Rules 1 to 25/);
    await page.locator('#rules-limit').selectOption('100');
    await says('#rules-place', /Rules 1 to 100 of/);
    assert.equal(await rows.count(), 100);
    await page.getByLabel('Rule id').fill('77777');
    await page.keyboard.press('Enter');
    await says('#rules-place', /^Rule 77777 of 100,000/);
    assert.equal(await rows.count(), 1);
    await page.getByLabel('Rule id').fill('99999999');
    await page.keyboard.press('Enter');
    await says('#rules-place', /There is no rule 99999999/);
    assert.ok((await page.locator('*').count()) < 4000);
    browser.complaints.splice(0, browser.complaints.filter((text) => text.includes('404')).length);
    await page.getByRole('button', { name: 'First' }).click();
    await says('#rules-place', /Rules 1 to 100 of/);
  });

  it('has no button that changes anything without a token, and none with a token for reading', async () => {
    const buttons = page.getByRole('button', { name: /^(Fail|Recover)/ });
    assert.equal(await buttons.count(), 0);
    await useToken(daemon.readToken.token);
    await says('#token-problem', /for reading/);
    await page.getByRole('button', { name: 'Cancel' }).click();
    assert.equal(await buttons.count(), 0);
    await useToken('vnic_nobody');
    await says('#token-problem', /does not know/);
    await page.getByRole('button', { name: 'Forget it' }).click();
    // Of the 401 and 403, which the browser tells by itself.
    assert.ok(
      browser.complaints.every((text) => /status of 40[13]/.test(text)),
      browser.complaints.join('\n'),
    );
    browser.complaints.length = 0;
  });

  it('fails and recovers an AZ with a write token, by keyboard alone', async () => {
    await page.getByRole('button', { name: 'Write token…' }).focus();
    await page.keyboard.press('Enter');
    await page.keyboard.type(daemon.writeToken.token);
    await page.keyboard.press('Enter');
    const fail = page.getByRole('button', { name: 'Fail az-b…' });
    await fail.waitFor();
    await fail.focus();
    await page.keyboard.press('Space');
    assert.match(await says('#az-plan', /buckets would move/), /21 queues would be in use/);
    await page.keyboard.press('Escape');
    assert.equal(await azState('az-b'), 'up', 'nothing is done by closing');
    assert.equal(await inPage(page, 'document.activeElement.ariaLabel'), 'Fail az-b…', 'focus comes back');
    await page.keyboard.press('Enter');
    await says('#az-plan', /buckets would move/);
    for (let presses = 0; presses < 6; presses++) {
      if ((await inPage(page, 'document.activeElement.id')) === 'az-perform') break;
      await page.keyboard.press('Tab');
    }
    await page.keyboard.press('Enter');
    await says('.az-card[data-state=failed]', /az-bfailed.*Causemanual.*Since/);
    await says('#event-log li:first-child', /az\.failed.*az az-b/);
    assert.equal(await page.locator('.cell[data-usable=no]').count(), 11);
    assert.match(await page.title(), /az-b failed/);
    const { items } = await daemon.ask<{ items: { name: string; state: string }[] }>('GET', `${url}/azs`);
    assert.equal(items.find(({ name }) => name === 'az-b')?.state, 'failed');
    await page.getByRole('button', { name: 'Recover az-b…' }).click();
    await says('#az-plan', /buckets would move/);
    await page.getByRole('button', { name: 'Recover az-b', exact: true }).click();
    await says('#event-log li:first-child', /az\.recovered/);
    await page.locator('.cell[data-usable=no]').first().waitFor({ state: 'detached' });
  });

  it('says why an AZ cannot be failed', async () => {
    for (const name of ['az-a', 'az-b']) await daemon.ask('POST', `${url}/azs/${name}/fail`);
    await page.getByRole('button', { name: 'Fail az-c…' }).click();
    await says('#az-problem', /queues/);
    await page.getByRole('button', { name: 'Cancel' }).click();
    for (const name of ['az-a', 'az-b']) await daemon.ask('POST', `${url}/azs/${name}/recover`);
    assert.ok(
      browser.complaints.every((text) => text.includes('409')),
      browser.complaints.join('\n'),
    );
    browser.complaints.length = 0;
  });

  it('passes an audit of its accessibility, light and dark, narrow and wide, with a dialog open', async () => {
    const axeSource = readFileSync(path.join(project, 'node_modules/axe-core/axe.min.js'), 'utf8');
    await inPage(page, axeSource);
    const audit = async (what: string): Promise<void> => {
      const { violations } = await inPage<Audit>(page, 'axe.run()');
      assert.deepEqual(
        violations.map(({ id, nodes }) => [what, id, nodes[0]?.html, nodes[0]?.failureSummary]),
        [],
      );
    };
    await page.locator('summary', { hasText: 'Queues as a table' }).click();
    await page.locator('summary', { hasText: 'All counters' }).click();
    for (const colorScheme of ['light', 'dark'] as const) {
      for (const width of [360, 1600]) {
        await page.emulateMedia({ colorScheme, reducedMotion: 'reduce' });
        await page.setViewportSize({ width, height: 900 });
        const overflow = await inPage<number>(page, 'document.documentElement.scrollWidth - innerWidth');
        assert.ok(overflow <= 0, `${width} px: ${overflow} px too wide`);
        await audit(`${colorScheme} ${width}`);
      }
    }
    await page.getByRole('button', { name: 'Fail az-c…' }).click();
    await says('#az-plan', /buckets/);
    await audit('dialog');
    await page.keyboard.press('Escape');
  });

  it('says since when the daemon is away, and goes on by itself with the events that it missed', async () => {
    await daemon.kill();
    const notice = await says('#notice', /cannot be reached since \d\d:\d\d:\d\d/);
    assert.match(notice, /Trying again/);
    assert.match(await says('#connection', /Not live for/), /Not live/);
    assert.equal(await page.locator('.az-card').count(), 3, 'what was known stays');
    await daemon.run();
    await says('#connection', /^Live/, 30_000);
    assert.equal(await page.locator('#notice').isVisible(), false);
    await daemon.ask('POST', `${url}/azs/az-c/fail`);
    await says('#event-log li:first-child', /az\.failed.*az az-c/, 30_000);
    await daemon.ask('POST', `${url}/azs/az-c/recover`);
    // What a browser says by itself of connections that fail is all there is.
    assert.ok(
      browser.complaints.every((text) => /net::ERR_|status of 503/.test(text)),
      browser.complaints.join('\n'),
    );
    browser.complaints.length = 0;
  });

  it('asks for nothing while it is paused', async () => {
    const button = page.getByRole('button', { name: 'Pause' });
    await button.click();
    await says('#connection', /Paused/);
    await page.waitForTimeout(300);
    const before = browser.requests.length;
    await page.waitForTimeout(2500);
    assert.equal(browser.requests.length, before);
    assert.equal(await button.getAttribute('aria-pressed'), 'true');
    await button.click();
    await says('#connection', /^Live/);
  });

  it('shows names as text, whatever they are', async () => {
    await inPage(page, "location.hash = '#<img src=x onerror=alert(1)>%'");
    await says('#connection', /^Live/);
    assert.equal(await page.locator('img').count(), 0);
    await assert.rejects(inPage(page, "document.body.innerHTML = '<b>x</b>'"), /TrustedHTML/);
    browser.complaints.length = 0;
  });

  it('does not grow in a minute of updates', async function () {
    if (process.env['VNIC_LONG_TESTS'] === undefined) skip(this, 'takes a minute; set VNIC_LONG_TESTS=1');
    const session = await browser.context.newCDPSession(page);
    const measure = async (): Promise<{ nodes: number; heapBytes: number; listeners: number }> => {
      await session.send('HeapProfiler.collectGarbage');
      const { metrics } = await session.send('Performance.getMetrics');
      const value = (name: string): number => metrics.find((metric) => metric.name === name)?.value ?? 0;
      return { nodes: value('Nodes'), heapBytes: value('JSHeapUsedSize'), listeners: value('JSEventListeners') };
    };
    await session.send('Performance.enable');
    await page.waitForTimeout(5000);
    const first = await measure();
    await page.waitForTimeout(60_000);
    const last = await measure();
    console.log(`      ${JSON.stringify(first)} -> ${JSON.stringify(last)}`);
    assert.ok(last.nodes < first.nodes * 1.1, 'nodes');
    assert.ok(last.listeners <= first.listeners + 5, 'listeners');
    assert.ok(last.heapBytes < first.heapBytes + 2 ** 20, 'heap');
  });

  it('asked no other site for anything', () => {
    const others = browser.requests.filter((asked) => !asked.startsWith(`${daemon.baseUrl}/`));
    assert.deepEqual(others, []);
    assert.deepEqual(browser.complaints, []);
  });
});
