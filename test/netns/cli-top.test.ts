// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { stripVTControlCharacters } from 'node:util';
import { CliRig } from '../support/cli.ts';
import { onTerminal, RESIZE, TERMINATE, type TerminalSession } from '../support/terminal.ts';

const enterScreen = '\x1b[?1049h';
const leaveScreen = '\x1b[?1049l';

describe('vnicctl top', function () {
  this.timeout(120_000);
  let rig: CliRig;
  let traffic: ChildProcess;

  before(() => {
    rig = new CliRig('top');
    rig.ok(['attach', 'vnic0']);
    rig.ok('az set az-a --queues 0-15 --prefix 10.9.0.0/16'.split(' '));
    rig.ok('rule add --id 5 --proto udp --dport 5002 --action drop'.split(' '));
    const script = `
      const socket = require('node:dgram').createSocket('udp4');
      socket.bind(4001, '10.9.0.2', () => setInterval(() => {
        for (let n = 0; n < 10; n++) socket.send(Buffer.alloc(100), 5001, '10.9.0.1');
        socket.send(Buffer.alloc(20), 5002, '10.9.0.1');
      }, 10));`;
    traffic = spawn('nsenter', [`--net=/run/netns/${rig.peer}`, process.execPath, '-e', script], { stdio: 'ignore' });
  });
  after(() => {
    traffic?.kill();
    rig?.run(['detach', 'vnic0']);
    rig?.[Symbol.dispose]();
  });

  interface TopData {
    device: string;
    rxPacketsPerSecond: number;
    dropsPerSecond: Record<string, number>;
    latency: { count: number; p50Ns: number; p99Ns: number };
    queues: { packetsPerSecond: number }[];
    azs: { name: string; state: string; queues: number }[];
    flows: { srcPort: number; dstPort: number; bitsPerSecond: number }[];
    limits: { rule: number; droppedPerSecond: number }[];
  }

  it('gives rates, percentiles, AZs, flows and what drops as JSON, an object a refresh', () => {
    const lines = rig.ok(['-o', 'json', 'top', 'vnic0', '-n', '2', '--interval', '0.5']).trim().split('\n');
    assert.equal(lines.length, 2);
    const view = JSON.parse(lines[1]!) as TopData;
    assert.equal(view.device, `vnic0@${rig.guest}`);
    assert.ok(view.rxPacketsPerSecond > 50, `${view.rxPacketsPerSecond}`);
    assert.ok(view.dropsPerSecond['rule']! > 5);
    assert.ok(view.latency.p50Ns > 0 && view.latency.p99Ns >= view.latency.p50Ns);
    assert.equal(view.queues.length, 32);
    assert.deepEqual(
      view.azs.map(({ name, state, queues }) => [name, state, queues]),
      [['az-a', 'up', 16]],
    );
    assert.deepEqual(
      view.limits.map(({ rule }) => rule),
      [5],
    );
    const [first] = view.flows;
    assert.equal(first!.dstPort, 5001);
    // 142 bytes a packet, of which there are 10/11 of all.
    const expected = (view.rxPacketsPerSecond * 10 * 142 * 8) / 11;
    assert.ok(first!.bitsPerSecond > expected / 2 && first!.bitsPerSecond < expected * 2, `${first!.bitsPerSecond}`);
  });

  it('is plain text without a terminal', () => {
    const text = rig.ok(['top', '--once', '--interval', '0.5']);
    assert.equal(text, stripVTControlCharacters(text));
    for (const part of [
      /^vnic0@.* in .*pps/,
      /LATENCY {2}to the CPU: p50/,
      /QUEUES +0 /,
      /az-a +up/,
      /5 .*pps/,
      /10\.9\.0\.2:4001/,
    ]) {
      assert.match(text, part);
    }
  });

  function startTop(env: Record<string, string> = {}): TerminalSession {
    const command = [process.execPath, 'src/cli/main.ts', '--netns', rig.guest, 'top', '--interval', '0.3'];
    return onTerminal(command, { VNIC_STATE_DIR: rig.stateFolder, VNIC_SOCKET: rig.socket, ...env });
  }

  async function until(condition: () => boolean, what: string): Promise<void> {
    for (let tries = 0; tries < 300; tries++) {
      if (condition()) return;
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    assert.fail(`not within 30 s: ${what}`);
  }

  /** The last picture. */
  const screen = (session: TerminalSession): string[] =>
    stripVTControlCharacters(session.output().split('\x1b[H').at(-1)!).replaceAll('\r', '').split('\n');

  it('takes keys, follows the size of the terminal, and puts it back at the end', async () => {
    const session = startTop();
    await until(() => /10\.9\.0\.2:4001/.test(session.output()), 'a picture');
    assert.ok(session.output().startsWith(enterScreen));
    assert.equal(screen(session).length, 30);
    session.type('?');
    await until(
      () => /quit\r\n|quit$/m.test(screen(session).join('\n')) && /the next device/.test(screen(session).join('\n')),
      'help',
    );
    session.type('?');
    session.type('s');
    await until(() => /sort: bytes/.test(screen(session).at(-1)!), 'another order');
    session.type('p');
    await until(() => /paused/.test(screen(session).at(-1)!), 'a pause');
    session.type('p');
    session.type('/5001 udp\r');
    await until(() => /filter: 5001 udp/.test(screen(session).at(-1)!), 'a filter');
    assert.match(screen(session).join('\n'), /10\.9\.0\.2:4001/);
    session.type('/x');
    await until(() => /No flow/.test(screen(session).join('\n')), 'a filter that no flow passes');
    session.type('\x1b');
    await until(() => !/filter:/.test(screen(session).at(-1)!), 'no filter');
    session.type(RESIZE);
    const fits = (): boolean => screen(session).length === 12 && screen(session).every((line) => line.length <= 60);
    await until(fits, 'a smaller picture');
    session.type('q');
    assert.equal(await session.done, 0);
    assert.ok(session.output().includes(leaveScreen));
    assert.ok(session.output().includes('\x1b[?25h'), 'the cursor is back');
  });

  it('puts the terminal back on a signal, and has no colours with NO_COLOR', async () => {
    const session = startTop({ NO_COLOR: '1' });
    await until(() => /LATENCY/.test(session.output()), 'a picture');
    assert.doesNotMatch(session.output(), new RegExp(`${'\u001b'}\\[[0-9;]*m`));
    session.type(TERMINATE);
    await session.done;
    assert.ok(session.output().includes(leaveScreen));
  });
});
