// SPDX-License-Identifier: Apache-2.0
/**
 * `make screenshots`: docs/pictures/*.png, of the live page and of vnicctl top as they are, over a rig of namespaces with
 * TCP and UDP from three AZs, of which one fails on the way. Touches no device but those that it makes.
 */
import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Page } from 'playwright-core';
import { TestDaemon } from '../support/daemon.ts';
import { findChromium, says, WatchedBrowser } from '../support/page.ts';
import { onTerminal } from '../support/terminal.ts';
import { deviceOf } from './scenarios/daemon.ts';
import { deviceInput } from './scenarios/setting.ts';
import { startSockets } from './sockets.ts';
import { lastScreen, terminalPage } from './terminal-picture.ts';
import { createRig, type Rig } from './topology.ts';

const root = path.join(import.meta.dirname, '../..');
const folder = path.join(root, 'docs/pictures');
/** A page of documentation is to load fast. */
const MAX_BYTES = 100_000;
/** Until the curves of the page show something. */
const HISTORY_MS = 20_000;
const FAILED_AZ = 'az-b';
const ports = { tcp: 8443, limited: 5000, dropped: 7666 } as const;

const wide = { width: 1440, height: 1000 };
const narrow = { width: 390, height: 844 };

/** Three AZs of the rig, rules that pass, limit and drop some of its traffic, and each leaving TCP packet looked at. */
function attachInput(rig: Rig): Record<string, unknown> {
  const { num_queues: queues, azs } = deviceInput(rig);
  return {
    name: rig.device,
    netns: rig.netns,
    num_queues: queues,
    azs,
    rtt_sample: 1,
    rules: [
      { id: 10, priority: 100, match: { proto: 'udp', dstPort: ports.dropped }, action: 'drop' },
      {
        id: 20,
        match: { proto: 'udp', dstPort: ports.limited },
        action: 'pass',
        limit: { rate: '2mbit', burst: '32kb', scope: 'rule' },
      },
      { id: 30, match: { proto: 'tcp', dstPort: `${ports.tcp}-${ports.tcp + 9}` }, action: 'pass' },
    ],
  };
}

async function startTraffic(rig: Rig): Promise<void> {
  for (const [index, { name: az }] of rig.azs.entries()) {
    const tcp = { az, protocol: 'tcp' as const, port: ports.tcp + index, connections: 16, messageBytes: 1200 };
    await startSockets(rig, { ...tcp, messagesPerSecond: 30 + 10 * index });
    const udp = { az, protocol: 'udp' as const, port: ports.limited + index, connections: 12, messageBytes: 600 };
    await startSockets(rig, { ...udp, messagesPerSecond: 80 });
  }
  const dropped = { az: rig.azs[2]!.name, protocol: 'udp' as const, port: ports.dropped, connections: 2 };
  await startSockets(rig, { ...dropped, messageBytes: 100, messagesPerSecond: 20 });
}

/** In 256 colours, which is enough for letters with smooth edges. */
function keep(name: string, picture: Buffer): void {
  const { status, stdout: png, stderr, error } = spawnSync('pngquant', ['--strip', '256', '-'], { input: picture });
  if (status !== 0) throw new Error(`pngquant: ${error?.message ?? stderr.toString()}; scripts/deps.sh installs it`);
  if (png.length > MAX_BYTES) throw new Error(`${name} has ${png.length} bytes, more than ${MAX_BYTES}`);
  writeFileSync(path.join(folder, name), png);
  console.log(`docs/pictures/${name}  ${Math.ceil(png.length / 1000)} kB`);
}

async function useToken(page: Page, token: string): Promise<void> {
  await page.getByRole('button', { name: 'Write token…' }).click();
  await page.getByRole('textbox', { name: 'Token' }).fill(token);
  await page.getByRole('button', { name: 'Use it' }).click();
}

async function picturesOfPage(page: Page, rig: Rig, daemon: TestDaemon): Promise<void> {
  const take = async (name: string, look: { colorScheme: 'light' | 'dark'; size: typeof wide }): Promise<void> => {
    await page.emulateMedia({ colorScheme: look.colorScheme, reducedMotion: 'reduce' });
    await page.setViewportSize(look.size);
    // Two refreshes, so that what is drawn anew is there.
    await sleep(2500);
    keep(name, await page.screenshot());
  };
  await says(page, '#connection', /^Live/);
  await says(page, '#times', /TCP round trip, az-c/);
  await sleep(HISTORY_MS);
  await take('page-light.png', { colorScheme: 'light', size: wide });

  await useToken(page, daemon.writeToken.token);
  await page.getByRole('button', { name: `Fail ${FAILED_AZ}…` }).waitFor();
  await daemon.ask('POST', `/api/v1/devices/${encodeURIComponent(deviceOf(rig))}/azs/${FAILED_AZ}/fail`);
  await says(page, '.az-card[data-state=failed]', new RegExp(FAILED_AZ));
  await take('page-dark.png', { colorScheme: 'dark', size: wide });
  await take('page-narrow.png', { colorScheme: 'light', size: narrow });
}

/** The last picture that the command drew on a terminal of its own. */
async function screenOfTop(rig: Rig, daemon: TestDaemon): Promise<string> {
  const command = [path.join(root, 'bin/vnicctl'), '--netns', rig.netns, 'top', rig.device];
  const session = onTerminal(command, { VNIC_STATE_DIR: daemon.stateFolder, VNIC_SOCKET: daemon.socket });
  const endMs = performance.now() + 60_000;
  while (session.output().split('\x1b[H').length < 4) {
    if (performance.now() > endMs) throw new Error(`vnicctl top does not draw: ${session.output()}`);
    await sleep(100);
  }
  session.type('q');
  await session.done;
  return lastScreen(session.output());
}

const executable = findChromium();
if (executable === null) throw new Error('chromium is not installed: run scripts/deps.sh');
using rig = createRig({ id: 'shots' });
await using daemon = await TestDaemon.start({ daemon: '  telemetry: {socket_latency: true}' });
const device = encodeURIComponent(deviceOf(rig));
await daemon.ask('POST', '/api/v1/devices', { body: attachInput(rig) });
try {
  await startTraffic(rig);
  await using browser = await WatchedBrowser.start(executable, { viewport: wide });
  await picturesOfPage(await browser.open(`${daemon.baseUrl}/#${device}`), rig, daemon);
  const terminal = await browser.open('about:blank');
  await terminal.setContent(terminalPage(await screenOfTop(rig, daemon)));
  keep('top.png', await terminal.locator('pre').screenshot());
} finally {
  await daemon.send('DELETE', `/api/v1/devices/${device}?force=true`);
}
