// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { stripVTControlCharacters } from 'node:util';
import { CliRig } from '../support/cli.ts';

const enterScreen = '\x1b[?1049h';
const leaveScreen = '\x1b[?1049l';

/** python3's pty gives the command a terminal of 100 columns and 30 rows; what it writes comes to stdout. */
const terminal = `
import fcntl, os, pty, select, signal, struct, sys, termios
pid, fd = pty.fork()
if pid == 0:
    os.execvp(sys.argv[1], sys.argv[1:])
def size(rows, columns):
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack('HHHH', rows, columns, 0, 0))
size(30, 100)
while True:
    ready, _, _ = select.select([fd, 0], [], [])
    if fd in ready:
        try:
            data = os.read(fd, 65536)
        except OSError:
            break
        if not data:
            break
        os.write(1, data)
    if 0 in ready:
        data = os.read(0, 1)
        if data == b'R':
            size(12, 60)
        elif data in (b'T', b''):
            os.kill(pid, signal.SIGTERM)
        else:
            os.write(fd, data)
_, status = os.waitpid(pid, 0)
sys.exit(os.waitstatus_to_exitcode(status))
`;

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

  interface Session {
    output: () => string;
    type(keys: string): void;
    done: Promise<number | null>;
  }

  function onTerminal(env: Record<string, string> = {}): Session {
    const command = [process.execPath, 'src/cli/main.ts', '--netns', rig.guest, 'top', '--interval', '0.3'];
    const child = spawn('python3', ['-c', terminal, ...command], {
      env: {
        ...process.env,
        VNIC_STATE_DIR: rig.stateFolder,
        VNIC_SOCKET: rig.socket,
        TERM: 'xterm-256color',
        NO_COLOR: '',
        ...env,
      },
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    let text = '';
    child.stdout.on('data', (data: Buffer) => {
      text += data.toString();
    });
    return {
      output: () => text,
      type: (keys) => void child.stdin.write(keys),
      done: new Promise((resolve) => child.once('close', (code) => resolve(code))),
    };
  }

  async function until(condition: () => boolean, what: string): Promise<void> {
    for (let tries = 0; tries < 300; tries++) {
      if (condition()) return;
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    assert.fail(`not within 30 s: ${what}`);
  }

  /** The last picture. */
  const screen = (session: Session): string[] =>
    stripVTControlCharacters(session.output().split('\x1b[H').at(-1)!).replaceAll('\r', '').split('\n');

  it('takes keys, follows the size of the terminal, and puts it back at the end', async () => {
    const session = onTerminal();
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
    session.type('R');
    const fits = (): boolean => screen(session).length === 12 && screen(session).every((line) => line.length <= 60);
    await until(fits, 'a smaller picture');
    session.type('q');
    assert.equal(await session.done, 0);
    assert.ok(session.output().includes(leaveScreen));
    assert.ok(session.output().includes('\x1b[?25h'), 'the cursor is back');
  });

  it('puts the terminal back on a signal, and has no colours with NO_COLOR', async () => {
    const session = onTerminal({ NO_COLOR: '1' });
    await until(() => /LATENCY/.test(session.output()), 'a picture');
    assert.doesNotMatch(session.output(), new RegExp(`${'\u001b'}\\[[0-9;]*m`));
    session.type('T');
    await session.done;
    assert.ok(session.output().includes(leaveScreen));
  });
});
