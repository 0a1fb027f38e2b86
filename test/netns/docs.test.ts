// SPDX-License-Identifier: Apache-2.0
/**
 * Runs every command that the README and the pages of docs/ show. Each page has a rig of its own: a namespace in which
 * `eth0` is one end of a veth pair with 32 queues, the other end (`peer0`) in a second namespace.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { blocksOf, type DocEnvironment, pages, runBlock } from '../../scripts/run-docs.ts';
import { etcdProgram, noEtcd } from '../support/etcd.ts';
import { skip } from '../support/skip.ts';

const GUEST = `vnic-docs-${process.pid}`;
const PEER = `vnic-docs-peer-${process.pid}`;

function ip(command: string): void {
  execFileSync('ip', command.split(' '), { stdio: ['ignore', 'ignore', 'inherit'] });
}

function openRig(): DocEnvironment & Disposable {
  const base = mkdtempSync(path.join(tmpdir(), 'vnic-docs-'));
  const folder = path.join(base, 'work');
  const state = path.join(base, 'state');
  mkdirSync(folder);
  mkdirSync(state);
  ip(`netns add ${GUEST}`);
  ip(`netns add ${PEER}`);
  ip(
    `-n ${GUEST} link add eth0 numtxqueues 32 numrxqueues 32 type veth peer name peer0 netns ${PEER} numtxqueues 32 numrxqueues 32`,
  );
  for (const [namespace, device, host] of [
    [GUEST, 'eth0', 1],
    [PEER, 'peer0', 2],
  ] as const) {
    ip(`-n ${namespace} link set lo up`);
    ip(`-n ${namespace} link set ${device} up`);
    ip(`-n ${namespace} addr add 10.1.0.${host}/16 dev ${device}`);
    ip(`-n ${namespace} addr add fd00:a::${host}/64 dev ${device} nodad`);
  }
  return {
    // Not `ip netns exec`: it mounts a /sys of its own, without bpffs.
    prefix: ['nsenter', `--net=/run/netns/${GUEST}`],
    env: { VNIC_STATE_DIR: state, VNIC_SOCKET: path.join(state, 'vnicd.sock') },
    folder,
    [Symbol.dispose]: () => {
      for (const namespace of [GUEST, PEER]) {
        const pids = spawnSync('ip', ['netns', 'pids', namespace], { encoding: 'utf8' }).stdout ?? '';
        for (const pid of pids.split(/\s+/).filter(Boolean)) spawnSync('kill', ['-9', pid]);
        spawnSync('ip', ['netns', 'del', namespace]);
      }
      rmSync(base, { recursive: true, force: true });
    },
  };
}

for (const page of pages()) {
  const blocks = blocksOf(page).filter(({ mode }) => mode !== 'norun');
  if (blocks.length === 0) continue;

  describe(`the commands of ${page}`, () => {
    let rig: ReturnType<typeof openRig>;
    before(() => {
      rig = openRig();
    });
    after(() => rig?.[Symbol.dispose]());

    for (const block of blocks) {
      const title = block.commands.split('\n').find((line) => line.trim() !== '') ?? '';
      it(`line ${block.line}: ${title}`, function () {
        if (block.needs === 'etcd' && etcdProgram === null) skip(this, noEtcd);
        runBlock(page, block, rig);
      });
    }
  });
}
