// SPDX-License-Identifier: Apache-2.0
/** FRR's bfdd as a peer, in a network namespace; all that it keeps is in a folder of its own. */
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { packageRoot } from '../../scripts/testing/unpacked.ts';

function findBfdd(): { program: string; libraries: string } | null {
  const root = packageRoot('frr', 'usr/lib/frr/bfdd');
  if (root === null) return null;
  const lib = path.join(root, 'usr/lib');
  const triplets = readdirSync(lib).filter((name) => name.endsWith('-linux-gnu'));
  const libraries = triplets.flatMap((name) => [path.join(lib, name, 'frr'), path.join(lib, name)]);
  return { program: path.join(lib, 'frr/bfdd'), libraries: libraries.join(':') };
}

export const hasBfdd = findBfdd() !== null;

/** What `show bfd peers json` says of one. */
export interface PeerState {
  peer: string;
  multihop: boolean;
  id: number;
  'remote-id': number;
  status: 'up' | 'down' | 'init' | 'shutdown';
  diagnostic: string;
  'remote-diagnostic': string;
  uptime?: number;
  'remote-receive-interval': number;
  'remote-transmit-interval': number;
  'remote-detect-multiplier': number;
}

const START_TIMEOUT_MS = 20_000;
const GROUP = 'frrvty';

export class BfdPeer implements AsyncDisposable {
  readonly folder = mkdtempSync(path.join(tmpdir(), 'vnic-bfdd-'));
  readonly #netns: string;
  readonly #config: string;
  #child: ChildProcess | undefined;
  #exited: Promise<unknown> = Promise.resolve();
  #socket: Socket | undefined;
  #log = '';

  private constructor(netns: string, config: string) {
    this.#netns = netns;
    this.#config = config;
  }

  /** @param config lines below `bfd` */
  static async start(netns: string, config: string): Promise<BfdPeer> {
    const peer = new BfdPeer(netns, config);
    try {
      await peer.run();
      return peer;
    } catch (error) {
      await peer[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** Starts it, again after `kill`. */
  async run(): Promise<void> {
    const found = findBfdd();
    if (found === null) throw new Error('FRR is not there');
    const at = (name: string): string => path.join(this.folder, name);
    mkdirSync(at('run/frr'), { recursive: true });
    writeFileSync(at('bfdd.conf'), `hostname peer\nbfd\n${this.#config}\n`);
    // It insists on being in this group, which its package makes.
    const groups = readFileSync('/etc/group', 'utf8').split('\n');
    const others = groups.filter((line) => line !== '' && !line.startsWith(`${GROUP}:`));
    writeFileSync(at('group'), `${others.join('\n')}\n${GROUP}:x:64999:root\n`);
    // In a mount namespace: nothing of it is seen outside.
    const script = 'mount --bind "$1/group" /etc/group; mount --bind "$1/run" /run; shift; exec "$@"';
    const options = `-u root -g root -P 0 -f ${at('bfdd.conf')} -i ${at('pid')} --vty_socket ${this.folder} --log stdout`;
    const files = ['-z', at('zserv.api'), '--bfdctl', at('bfdd.sock')];
    const command = [found.program, ...options.split(' '), ...files];
    const inside = ['unshare', '--mount', 'sh', '-euc', script, 'sh', this.folder, ...command];
    const child = spawn('nsenter', [`--net=/run/netns/${this.#netns}`, ...inside], {
      env: { ...process.env, LD_LIBRARY_PATH: found.libraries },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    for (const stream of [child.stdout, child.stderr]) {
      stream.on('data', (data: Buffer) => {
        this.#log = (this.#log + data.toString()).slice(-4000);
      });
    }
    this.#child = child;
    this.#exited = new Promise((resolve) => {
      child.once('exit', resolve);
      child.once('error', resolve);
    });
    const deadline = performance.now() + START_TIMEOUT_MS;
    while (!existsSync(at('bfdd.vty')) && child.exitCode === null && performance.now() < deadline) await sleep(20);
    this.#socket = await this.#connect(at('bfdd.vty'));
    await this.command('enable');
  }

  #connect(file: string): Promise<Socket> {
    const { promise, resolve, reject } = Promise.withResolvers<Socket>();
    const socket = connect(file, () => resolve(socket));
    socket.on('error', (error) => reject(new Error(`bfdd does not answer: ${error.message}\n${this.#log}`)));
    return promise;
  }

  /** As vtysh does: the command and a zero byte; the answer ends with three zero bytes and a status. */
  command(line: string): Promise<string> {
    const { promise, resolve, reject } = Promise.withResolvers<string>();
    const socket = this.#socket!;
    let answer = '';
    const read = (data: Buffer): void => {
      answer += data.toString('latin1');
      if (answer.length < 4 || answer.slice(-4, -1) !== '\0\0\0') return;
      socket.off('data', read);
      const text = answer.slice(0, -4);
      if (answer.endsWith('\0')) resolve(text);
      else reject(new Error(`bfdd: ${line}: ${text}`));
    };
    socket.on('data', read);
    socket.write(`${line}\0`);
    return promise;
  }

  async configure(...lines: string[]): Promise<void> {
    for (const line of ['configure terminal', 'bfd', ...lines, 'end']) await this.command(line);
  }

  async peers(): Promise<PeerState[]> {
    return JSON.parse(await this.command('show bfd peers json')) as PeerState[];
  }

  /** As a crash: the peer says nothing any more. */
  async kill(): Promise<void> {
    this.#socket?.destroy();
    this.#socket = undefined;
    this.#child?.kill('SIGKILL');
    await this.#exited;
    rmSync(path.join(this.folder, 'bfdd.vty'), { force: true });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
    rmSync(this.folder, { recursive: true, force: true });
  }
}
