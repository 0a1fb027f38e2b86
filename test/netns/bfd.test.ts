// SPDX-License-Identifier: Apache-2.0
/** BFD with a real peer, FRR's bfdd, on a device that no daemon looks after. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { inspect } from 'node:util';
import { stringify } from 'yaml';
import { type BfdStatus, bfdStatus } from '../../src/app/bfd-sessions.ts';
import { parseAz } from '../../src/config/azs.ts';
import { loadNative } from '../../src/loader/ffi/index.ts';
import { VnicBfdSession, VnicControl, VnicLoss, VnicWatch } from '../../src/maps/generated/abi.ts';
import { BpfMap, MappedArray } from '../../src/maps/index.ts';
import type { AzConfig } from '../../src/steering/azs.ts';
import { BfdPeer, hasBfdd, type PeerState } from '../support/bfd-peer.ts';
import { CliRig } from '../support/cli.ts';
import { compileTestProgram } from '../support/compile.ts';
import { skip } from '../support/skip.ts';

const WAIT_MS = 20_000;
const times = ['detect-multiplier 3', 'receive-interval 50', 'transmit-interval 50'];
/** FRR's configuration: the device's two addresses. */
const peersOf = (...names: string[]): string => names.map((name) => [`peer ${name}`, ...times].join('\n')).join('\n');

async function until<T>(
  what: string,
  look: () => T | undefined | Promise<T | undefined>,
  seen: () => unknown = () => '',
): Promise<T> {
  const deadline = performance.now() + WAIT_MS;
  for (;;) {
    const found = await look();
    if (found !== undefined) return found;
    if (performance.now() > deadline) assert.fail(`not within ${WAIT_MS} ms: ${what}\n${inspect(seen())}`);
    await sleep(10);
  }
}

describe('BFD with FRR', function () {
  this.timeout(90_000);
  const opened = new DisposableStack();
  let rig: CliRig;
  let azs: AzConfig[];
  let peer: BfdPeer | undefined;

  function configOf(bfd: Record<string, unknown>) {
    return [
      { name: 'az-a', queues: '0-15', auto_recover: false, bfd: { interval_ms: 50, ...bfd } },
      { name: 'az-b', queues: '16-31' },
    ];
  }

  function attach(bfd: Record<string, unknown>): void {
    azs = configOf(bfd).map(parseAz);
    const file = path.join(rig.folder, 'vnic.yaml');
    writeFileSync(file, stringify({ devices: { vnic0: { azs: configOf(bfd) } } }));
    rig.ok(['attach', 'vnic0', '--config', file]);
  }

  before(function () {
    if (!hasBfdd) skip(this, 'FRR (package frr) is not there; make deps fetches it');
    rig = opened.use(new CliRig('bfd'));
    const script = `
for end in ${rig.guest}:vnic0 ${rig.peer}:peer0; do
  nsenter --net=/run/netns/\${end%:*} sh -euc 'echo 0 > /proc/sys/net/ipv6/conf/$0/disable_ipv6' \${end#*:}
done
# What veth sends back by XDP_TX it hands on only to an end that has a program itself (veth_xdp_flush).
nsenter --net=/run/netns/${rig.peer} ip link set dev peer0 xdp obj ${compileTestProgram('rig_pass')} sec xdp.frags
ip -n ${rig.guest} addr add fd09::1/64 dev vnic0 nodad
ip -n ${rig.peer} addr add fd09::2/64 dev peer0 nodad
ip -n ${rig.guest} neigh add fd09::2 lladdr 02:00:00:00:09:02 dev vnic0
ip -n ${rig.peer} neigh add fd09::1 lladdr 02:00:00:00:09:01 dev peer0
ip -n ${rig.peer} link set lo up
`;
    execFileSync('sh', ['-eu'], { input: script, stdio: ['pipe', 'ignore', 'inherit'] });
  });

  afterEach(async () => {
    await peer?.[Symbol.asyncDispose]();
    peer = undefined;
    rig?.run(['detach', 'vnic0', '--force']);
  });

  after(() => opened.dispose());

  function inMap<T, R>(
    name: string,
    codec: ConstructorParameters<typeof MappedArray<T>>[2],
    look: (map: MappedArray<T>) => R,
  ): R {
    using map = BpfMap.fromPin(loadNative(), path.join(rig.pinFolder, name));
    using array = new MappedArray<T>(loadNative(), map, codec, { readOnly: true });
    return look(array);
  }

  const sessions = (): BfdStatus[] =>
    inMap('vnic_bfd', VnicBfdSession, (bfd) => bfdStatus({ bfd }, azs)[0]?.sessions ?? []);
  const lostAzs = (): number => inMap('vnic_control', VnicControl, (control) => control.read(0).lostAzs);

  const isUp = ({ state, detectMs }: BfdStatus): boolean => state === 'up' && detectMs === 150;
  const isUpThere = (one: PeerState): boolean => one.status === 'up' && one['remote-transmit-interval'] === 50;

  /** All are up on both sides, and have agreed on their times. */
  function allUp(count: number): Promise<{ ours: BfdStatus[]; theirs: PeerState[] }> {
    let ours: BfdStatus[] = [];
    let theirs: PeerState[] = [];
    const look = async () => {
      ours = sessions();
      theirs = await peer!.peers();
      const done = ours.length === count && ours.every(isUp) && theirs.length === count && theirs.every(isUpThere);
      return done ? { ours, theirs } : undefined;
    };
    return until(`${count} sessions up`, look, () => ({ ours, theirs }));
  }

  it('comes up on both sides, IPv4 and IPv6, and stays up although no daemon runs', async () => {
    attach({ peers: ['10.9.0.2', 'fd09::2'] });
    peer = await BfdPeer.start(rig.peer, peersOf('10.9.0.1', 'fd09::1'));
    const { ours, theirs } = await allUp(2);
    for (const one of theirs) {
      assert.equal(one['remote-detect-multiplier'], 3);
      assert.equal(one['remote-receive-interval'], 50);
      assert.equal(one['remote-diagnostic'], 'ok');
    }
    await sleep(3000);
    const later = sessions();
    const there = await peer.peers();
    for (const [index, one] of later.entries()) {
      assert.equal(one.state, 'up');
      assert.equal(one.downForMs, null);
      assert.equal(one.lostAfterMs, null, 'never lost');
      assert.equal(one.rejected, 0n);
      const heard = Number(one.received - ours[index]!.received);
      const told = Number(one.sent - ours[index]!.sent);
      console.log(`      ${one.peer}: ${heard} packets heard and ${told} sent in 3 s`);
      // 60 at least without jitter; a machine that is busy may send fewer.
      assert.ok(heard > 20 && told > 20 && told <= heard, `${heard} heard, ${told} sent`);
    }
    assert.deepEqual(
      there.map(({ status, id }) => [status, id]),
      theirs.map(({ id }) => ['up', id]),
    );
    assert.equal(lostAzs(), 0);
  });

  it('is down its detection time after the peer died, and up again with it', async () => {
    attach({ peers: ['10.9.0.2'] });
    peer = await BfdPeer.start(rig.peer, peersOf('10.9.0.1'));
    await allUp(1);
    await peer.kill();
    const lost = await until('session down', () => sessions().find(({ state }) => state === 'down'));
    console.log(`      peer killed: down after ${lost.lostAfterMs?.toFixed(2)} ms of silence, detection time 150 ms`);
    assert.equal(lost.diag, 'control detection time expired');
    assert.ok(lost.lostAfterMs! > 150 && lost.lostAfterMs! < 2000, `${lost.lostAfterMs} ms`);
    await until('the AZ is out of use', () => (lostAzs() === 1 ? true : undefined));
    assert.equal(
      inMap('vnic_watch', VnicWatch, (watch) => watch.read(0).azs[1]?.loss),
      VnicLoss.bfd,
    );
    await peer.run();
    const { ours } = await allUp(1);
    assert.ok(ours[0]!.upForMs !== null);
  });

  it('is down on both sides when the path is cut, and up again when it is whole', async () => {
    const route = (change: 'add' | 'del'): void => {
      for (const name of ['10.9.0.1', 'fd09::1']) {
        execFileSync('ip', ['-n', rig.peer, 'route', change, 'unreachable', name]);
      }
    };
    attach({ peers: ['10.9.0.2', 'fd09::2'], quorum: 2 });
    peer = await BfdPeer.start(rig.peer, peersOf('10.9.0.1', 'fd09::1'));
    await allUp(2);
    route('add');
    const lost = await until('sessions down', () => {
      const all = sessions();
      return all.every(({ state }) => state === 'down') ? all : undefined;
    });
    for (const { peer: name, lostAfterMs } of lost) {
      console.log(`      path cut: ${name} down after ${lostAfterMs?.toFixed(2)} ms of silence`);
    }
    await until('down at the peer', async () =>
      (await peer!.peers()).every(({ status }) => status === 'down') ? true : undefined,
    );
    route('del');
    await allUp(2);
  });

  it('that the peer shuts down on purpose is no loss of the AZ', async () => {
    attach({ peers: ['10.9.0.2'] });
    peer = await BfdPeer.start(rig.peer, peersOf('10.9.0.1'));
    await allUp(1);
    await peer.configure('peer 10.9.0.1', 'shutdown');
    const left = await until('session left', () => sessions().find((one) => one.left));
    assert.deepEqual([left.state, left.remoteState], ['down', 'admin_down']);
    await sleep(1000);
    assert.equal(lostAzs(), 0);
    await peer.configure('peer 10.9.0.1', 'no shutdown');
    const { ours } = await allUp(1);
    assert.equal(ours[0]?.left, false);
    assert.equal(lostAzs(), 0);
  });

  it('over several hops comes up on its own port', async () => {
    attach({ peers: ['10.9.0.2'], multihop: true });
    peer = await BfdPeer.start(rig.peer, peersOf('10.9.0.1 multihop local-address 10.9.0.2'));
    const { theirs } = await allUp(1);
    assert.equal(theirs[0]?.multihop, true);
  });
});
