// SPDX-License-Identifier: Apache-2.0
/** vnicctl run as a user runs it, on a veth pair with 32 queues in network namespaces of its own. */
import assert from 'node:assert/strict';
import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';

export const vnicctl = path.join(import.meta.dirname, '../../bin/vnicctl');

export interface CliResult {
  code: number | null;
  signal: NodeJS.Signals | null;
  stdout: string;
  stderr: string;
}

export interface RunOptions {
  stdin?: string;
  env?: Record<string, string>;
}

function sh(script: string): void {
  execFileSync('sh', ['-eu'], { input: script, stdio: ['pipe', 'ignore', 'inherit'] });
}

/** A guest namespace with `vnic0` (10.9.0.1) and a peer namespace with `peer0` (10.9.0.2), which know each other's MAC. */
export class CliRig implements Disposable {
  readonly guest: string;
  readonly peer: string;
  readonly folder: string;
  readonly device = 'vnic0';

  constructor(id: string) {
    this.guest = `vnic-cli-${process.pid}-${id}`;
    this.peer = `${this.guest}-peer`;
    this.folder = mkdtempSync(path.join(tmpdir(), 'vnic-cli-'));
    sh(`
ip netns add ${this.guest}
ip netns add ${this.peer}
for ns in ${this.guest} ${this.peer}; do
  nsenter --net=/run/netns/$ns sh -c 'for scope in all default; do echo 1 > /proc/sys/net/ipv6/conf/$scope/disable_ipv6; done'
done
ip -n ${this.guest} link set lo up
`);
    this.addDevice();
  }

  addDevice(): void {
    sh(`
ip -n ${this.guest} link add vnic0 address 02:00:00:00:09:01 numtxqueues 32 numrxqueues 32 type veth \
  peer name peer0 address 02:00:00:00:09:02 netns ${this.peer} numtxqueues 32 numrxqueues 32
ip -n ${this.guest} link set vnic0 up
ip -n ${this.peer} link set peer0 up
ip -n ${this.guest} addr add 10.9.0.1/16 dev vnic0
ip -n ${this.peer} addr add 10.9.0.2/16 dev peer0
ip -n ${this.guest} neigh add 10.9.0.2 lladdr 02:00:00:00:09:02 dev vnic0
ip -n ${this.peer} neigh add 10.9.0.1 lladdr 02:00:00:00:09:01 dev peer0
`);
  }

  removeDevice(): void {
    sh(`ip -n ${this.guest} link del vnic0`);
  }

  get stateFolder(): string {
    return path.join(this.folder, 'state');
  }

  /** Of a daemon, if there is one. */
  get socket(): string {
    return path.join(this.folder, 'vnicd.sock');
  }

  get recordFile(): string {
    return path.join(this.stateFolder, 'devices', `${encodeURIComponent(`vnic0@${this.guest}`)}.json`);
  }

  get pinFolder(): string {
    return `/sys/fs/bpf/vnic/vnic0@${this.guest}`;
  }

  #environment(extra: Record<string, string> = {}): NodeJS.ProcessEnv {
    const own = { VNIC_STATE_DIR: this.stateFolder, VNIC_SOCKET: this.socket, NO_COLOR: '1' };
    return { ...process.env, ...own, ...extra };
  }

  /** Runs vnicctl to its end, with --netns. */
  run(args: readonly string[], options: RunOptions = {}): CliResult {
    const result = spawnSync(vnicctl, ['--netns', this.guest, ...args], {
      encoding: 'utf8',
      input: options.stdin ?? '',
      env: this.#environment(options.env),
      maxBuffer: 2 ** 28,
    });
    return { code: result.status, signal: result.signal, stdout: result.stdout, stderr: result.stderr };
  }

  start(args: readonly string[]): { child: ChildProcess; done: Promise<CliResult> } {
    const child = spawn(vnicctl, ['--netns', this.guest, ...args], {
      env: this.#environment(),
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const result: CliResult = { code: null, signal: null, stdout: '', stderr: '' };
    child.stdout?.on('data', (data: Buffer) => {
      result.stdout += data.toString();
    });
    child.stderr?.on('data', (data: Buffer) => {
      result.stderr += data.toString();
    });
    const done = new Promise<CliResult>((resolve) => {
      child.once('close', (code, signal) => resolve({ ...result, code, signal }));
    });
    return { child, done };
  }

  /** Runs what must succeed; stdout. */
  ok(args: readonly string[], options: RunOptions = {}): string {
    const { code, stdout, stderr } = this.run(args, options);
    assert.equal(code, 0, `vnicctl ${args.join(' ')}: exit ${code}\n${stderr}`);
    return stdout;
  }

  /** Runs what must succeed with -o json; the data. */
  json<T>(args: readonly string[], options: RunOptions = {}): T {
    return JSON.parse(this.ok(['-o', 'json', ...args], options)) as T;
  }

  /** Runs what must fail with this exit code: the two lines on stderr, and with -o json the problem. */
  refused(code: number, args: readonly string[], options: RunOptions = {}): { lines: string[]; problem: Problem } {
    const plain = this.run(args, options);
    assert.equal(plain.code, code, `vnicctl ${args.join(' ')}: exit ${plain.code}\n${plain.stdout}${plain.stderr}`);
    const json = this.run(['-o', 'json', ...args], options);
    assert.equal(json.code, code);
    const problem = JSON.parse(json.stderr.trim().split('\n').at(-1) ?? '') as Problem;
    const lines = plain.stderr.trimEnd().split('\n');
    assert.match(lines.at(-2) ?? '', /^vnicctl: \S/, plain.stderr);
    assert.match(lines.at(-1) ?? '', /^ {2}\S/, plain.stderr);
    assert.equal(problem.type, `urn:vnic:error:${problem.code}`);
    return { lines: lines.slice(-2), problem };
  }

  /** Of vnic0, as `ip -d link` shows it. */
  link(): Record<string, unknown> {
    const text = execFileSync('ip', ['-n', this.guest, '-j', '-d', 'link', 'show', 'dev', 'vnic0'], {
      encoding: 'utf8',
    });
    return (JSON.parse(text) as Record<string, unknown>[])[0]!;
  }

  qdiscs(): string {
    return this.inGuest('tc', 'qdisc', 'show', 'dev', 'vnic0');
  }

  /** Runs a command in the guest namespace. Not by `tc -n` or `ip netns exec`: those hide bpffs. */
  inGuest(command: string, ...args: string[]): string {
    return execFileSync('nsenter', [`--net=/run/netns/${this.guest}`, command, ...args], { encoding: 'utf8' });
  }

  /** Whether anything of ours is on the device or pinned. */
  traces(): string[] {
    return [
      ...('xdp' in this.link() ? ['an XDP program'] : []),
      ...(this.qdiscs().includes('clsact') ? ['a clsact qdisc'] : []),
      ...(existsSync(this.pinFolder) ? [`pins: ${readdirSync(this.pinFolder).join(', ')}`] : []),
    ];
  }

  /** Ids of the programs that are pinned for vnic0: those that are attached live on without their pins. */
  programIds(): number[] {
    return ['vnic_root', 'vnic_egress'].map((name) => {
      const pin = path.join(this.pinFolder, name);
      const text = execFileSync('bpftool', ['-j', 'prog', 'show', 'pinned', pin], { encoding: 'utf8' });
      return (JSON.parse(text) as { id: number }).id;
    });
  }

  /** Waits until the kernel has freed the programs (it does so after a grace period). False: something holds them. */
  async areGone(programIds: readonly number[]): Promise<boolean> {
    for (let tries = 0; tries < 100; tries++) {
      const left = programIds.filter((id) => spawnSync('bpftool', ['prog', 'show', 'id', String(id)]).status === 0);
      if (left.length === 0) return true;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    return false;
  }

  /** Sends `packets` UDP datagrams from the peer, one socket. */
  send(options: { fromPort: number; toPort: number; packets: number; bytes: number }): void {
    const script = `
      const socket = require('node:dgram').createSocket('udp4');
      const { fromPort, toPort, packets, bytes } = ${JSON.stringify(options)};
      socket.bind(fromPort, '10.9.0.2', async () => {
        const data = Buffer.alloc(bytes);
        for (let n = 0; n < packets; n++) {
          await new Promise((resolve, reject) => socket.send(data, toPort, '10.9.0.1', (e) => (e ? reject(e) : resolve())));
        }
        socket.close();
      });`;
    execFileSync('nsenter', [`--net=/run/netns/${this.peer}`, process.execPath, '-e', script], { stdio: 'inherit' });
  }

  [Symbol.dispose](): void {
    rmSync(this.pinFolder, { recursive: true, force: true });
    for (const namespace of [this.guest, this.peer]) spawnSync('ip', ['netns', 'del', namespace], { stdio: 'ignore' });
    rmSync(this.folder, { recursive: true, force: true });
  }
}

export interface Problem extends Record<string, unknown> {
  type: string;
  code: string;
  detail: string;
  remedy?: string;
  status: number;
}
