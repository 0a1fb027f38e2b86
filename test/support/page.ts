// SPDX-License-Identifier: Apache-2.0
/** Chromium on a page of a daemon, watched: what it asks for, and what its console says. */
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type BrowserContext, type BrowserContextOptions, chromium, type Page } from 'playwright-core';

const candidates = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'];

/** Null: there is none. */
export function findChromium(): string | null {
  return candidates.find((file) => existsSync(file)) ?? null;
}

const flags = [
  '--headless=new',
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];

export class WatchedBrowser implements AsyncDisposable {
  readonly context: BrowserContext;
  /** Addresses that were asked for. */
  readonly requests: string[] = [];
  /** Errors and warnings of the console, and errors that nobody caught. */
  readonly complaints: string[] = [];
  readonly #folder: string;

  private constructor(context: BrowserContext, folder: string) {
    this.context = context;
    this.#folder = folder;
    context.on('request', (request) => this.requests.push(request.url()));
    context.on('console', (message) => {
      if (['error', 'warning'].includes(message.type())) this.complaints.push(message.text());
    });
    context.on('weberror', (error) => this.complaints.push(String(error.error())));
  }

  static async start(executablePath: string, options: BrowserContextOptions = {}): Promise<WatchedBrowser> {
    const folder = mkdtempSync(path.join(tmpdir(), 'vnic-chromium-'));
    const context = await chromium.launchPersistentContext(folder, {
      executablePath,
      args: flags,
      viewport: { width: 1280, height: 900 },
      ...options,
    });
    return new WatchedBrowser(context, folder);
  }

  async open(url: string): Promise<Page> {
    const page = await this.context.newPage();
    await page.goto(url);
    return page;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.context.close();
    rmSync(this.#folder, { recursive: true, force: true });
  }
}

/**
 * The value of an expression in the page. By the debugger: the ways of Playwright turn text into code there, which the
 * page's policy forbids.
 */
export async function inPage<Value>(page: Page, expression: string): Promise<Value> {
  const session = await page.context().newCDPSession(page);
  try {
    const options = { expression, awaitPromise: true, returnByValue: true };
    const { result, exceptionDetails } = await session.send('Runtime.evaluate', options);
    if (exceptionDetails !== undefined) throw new Error(`${exceptionDetails.text} ${result.description}`);
    return result.value as Value;
  } finally {
    await session.detach();
  }
}

/** Waits until the first element of that selector says so; its text then. */
export async function says(page: Page, selector: string, pattern: RegExp, timeoutMs = 20_000): Promise<string> {
  const place = page.locator(selector).first();
  for (const endMs = performance.now() + timeoutMs; ; ) {
    const text = (await place.count()) === 0 ? '' : ((await place.textContent()) ?? '');
    if (pattern.test(text)) return text;
    if (performance.now() > endMs) throw new Error(`${selector} does not say ${pattern}: ${text.slice(0, 500)}`);
    await sleep(50);
  }
}
