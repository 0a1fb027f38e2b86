// SPDX-License-Identifier: Apache-2.0
/** The other end of a rig's veth pair as a back end that follows what it is sent, and traffic that goes there and back. */
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, rmSync } from 'node:fs';
import { onlineCpus } from '../../src/app/machine.ts';
import { loadNative } from '../../src/loader/ffi/index.ts';
import { BpfObject } from '../../src/loader/object.ts';
import { rigObject } from '../rig/objects.ts';
import type { CliRig } from './cli.ts';

const ECHO_PORT = 7000;

/** Each socket sends, waits for the answer, and pauses: as many rounds as are asked for. Prints how many answers came. */
const client = (flows: number, rounds: number, pauseMs: number): string => `
  const dgram = require('node:dgram');
  let answers = 0;
  async function flow() {
    const socket = dgram.createSocket('udp4');
    await new Promise((bound) => socket.bind(0, '10.9.0.1', bound));
    let come = () => {};
    socket.on('message', () => come(1));
    for (let round = 0; round < ${rounds}; round++) {
      const answer = new Promise((resolve) => { come = resolve; setTimeout(resolve, 5000, 0).unref(); });
      socket.send('x', ${ECHO_PORT}, '10.9.0.2');
      if (await answer) answers++;
      await new Promise((done) => setTimeout(done, ${pauseMs}));
    }
    socket.close();
  }
  Promise.all(Array.from({ length: ${flows} }, flow)).then(() => console.log(answers));
`;

const server = `
  const socket = require('node:dgram').createSocket('udp4');
  socket.on('message', (data, from) => socket.send(data, from.port, from.address));
  socket.bind(${ECHO_PORT}, '10.9.0.2', () => console.log('ready'));
`;

export class FollowingPeer implements Disposable {
  /** Where all that it sends is received. */
  readonly cpu = onlineCpus()[0]!.cpu;
  readonly #rig: CliRig;
  readonly #pins: string;
  readonly #server;

  constructor(rig: CliRig) {
    this.#rig = rig;
    this.#pins = `/sys/fs/bpf/${rig.peer}`;
    mkdirSync(this.#pins);
    const native = loadNative();
    using object = BpfObject.load(native, rigObject('rig_follow'), {});
    for (const name of ['rig_learn', 'rig_follow']) {
      using program = object.programFd(name);
      native.check(native.libbpf.bpf_obj_pin(program.value, `${this.#pins}/${name}`), 'bpf_obj_pin', name);
    }
    // A frame whose checksum is left to the device loses that mark on the way through XDP.
    execFileSync('nsenter', [`--net=/run/netns/${rig.peer}`, 'ethtool', '-K', 'peer0', 'tx', 'off'], {
      stdio: 'ignore',
    });
    this.#tc('qdisc', 'add', 'dev', 'peer0', 'clsact');
    this.#tc('filter', 'add', 'dev', 'peer0', 'ingress', 'bpf', 'da', 'pinned', `${this.#pins}/rig_learn`);
    this.follow();
    // A frame that comes through a veth is received on the CPU that sent it.
    const there = [`--net=/run/netns/${rig.peer}`, 'taskset', '--cpu-list', String(this.cpu)];
    this.#server = spawn('nsenter', [...there, process.execPath, '-e', server], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
  }

  #tc(...args: string[]): void {
    execFileSync('nsenter', [`--net=/run/netns/${this.#rig.peer}`, 'tc', ...args], {
      stdio: ['ignore', 'ignore', 'pipe'],
    });
  }

  async ready(): Promise<void> {
    await once(this.#server.stdout, 'data');
  }

  /** What it sends uses the queues that it learned. */
  follow(): void {
    this.#tc('filter', 'add', 'dev', 'peer0', 'egress', 'bpf', 'da', 'pinned', `${this.#pins}/rig_follow`);
  }

  /** What it sends uses whatever queue the kernel chooses. */
  forget(): void {
    this.#tc('filter', 'del', 'dev', 'peer0', 'egress');
  }

  /** Flows from the guest to the peer and back. Gives the number of answers. */
  converse({ flows, rounds, pauseMs = 60 }: { flows: number; rounds: number; pauseMs?: number }): number {
    return Number(this.#rig.inGuest(process.execPath, '-e', client(flows, rounds, pauseMs)));
  }

  [Symbol.dispose](): void {
    this.#server.kill('SIGKILL');
    spawnSync('nsenter', [`--net=/run/netns/${this.#rig.peer}`, 'tc', 'qdisc', 'del', 'dev', 'peer0', 'clsact']);
    if (existsSync(this.#pins)) rmSync(this.#pins, { recursive: true });
  }
}
