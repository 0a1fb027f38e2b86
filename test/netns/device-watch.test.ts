// SPDX-License-Identifier: Apache-2.0
/** Noticing that devices go and come back, on devices of this kernel. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { setTimeout } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';

import { linksIn } from '../../src/loader/device-watch.ts';
import { describeEachAdapter, requireRoot } from '../support/ffi.ts';
import { thrownBy } from '../support/thrown.ts';

function ip(command: string): void {
  execFileSync('ip', command.split(' '), { stdio: ['ignore', 'ignore', 'inherit'] });
}

describeEachAdapter('looking at the devices of a namespace', (fixture) => {
  const netns = `vnic-watch-${fixture.adapter}`;
  const peerNetns = `${netns}-peer`;
  const staleNetns = `${netns}-stale`;

  beforeEach(function () {
    requireRoot(this);
    ip(`netns add ${netns}`);
  });

  afterEach(() => {
    rmSync(`/run/netns/${staleNetns}`, { force: true });
    const present = readdirSync('/run/netns');
    for (const name of [netns, peerNetns]) if (present.includes(name)) ip(`netns del ${name}`);
  });

  function look() {
    return linksIn(fixture.native, netns);
  }

  function addPair(mac: string): void {
    ip(`-n ${netns} link add vnic0 address ${mac} type veth peer name vnic1 address 02:00:00:00:00:99`);
  }

  it('shows what was added, down or up, and nothing else', () => {
    assert.deepEqual([...look().keys()], ['lo']);
    addPair('02:00:00:00:00:01');
    const links = look();
    assert.deepEqual([...links.keys()].toSorted(), ['lo', 'vnic0', 'vnic1']);
    assert.deepEqual(links.get('lo'), { ifindex: 1, mac: '00:00:00:00:00:00' });
    assert.equal(links.get('vnic0')?.mac, '02:00:00:00:00:01');
    assert.equal(links.get('vnic1')?.mac, '02:00:00:00:00:99');
    ip(`-n ${netns} link set vnic0 up`);
    assert.deepEqual(look(), links);
    ip(`-n ${netns} link set vnic0 down`);
    assert.deepEqual(look(), links);
  });

  it('follows a device by its index through a new name and a new address', () => {
    addPair('02:00:00:00:00:01');
    const before = look().get('vnic0');
    ip(`-n ${netns} link set vnic0 name renamed address 02:00:00:00:00:77`);
    const after = look();
    assert.equal(after.has('vnic0'), false);
    assert.deepEqual(after.get('renamed'), { ifindex: before?.ifindex, mac: '02:00:00:00:00:77' });
  });

  it('tells a device that came back from the one that went, by its index', () => {
    addPair('02:00:00:00:00:01');
    const before = look().get('vnic0');
    ip(`-n ${netns} link del vnic0`);
    assert.deepEqual([...look().keys()], ['lo']);
    addPair('02:00:00:00:00:01');
    const after = look().get('vnic0');
    assert.equal(after?.mac, before?.mac);
    assert.notEqual(after?.ifindex, before?.ifindex);
  });

  it('shows a device without a link-layer address', () => {
    ip(`-n ${netns} tuntap add mode tun name vnictun0`);
    assert.equal(look().get('vnictun0')?.mac, null);
  });

  it('shows all of very many devices', function () {
    this.timeout(60_000);
    // More than fit into one answer of the kernel.
    const names = Array.from({ length: 120 }, (_, index) => `dummy-${index}`);
    const batch = names.map((name) => `link add ${name} type veth peer name p${name}\n`).join('');
    execFileSync('ip', ['-n', netns, '-batch', '-'], { input: batch });
    const links = look();
    assert.equal(links.size, 241);
    for (const name of names) assert.ok(links.has(name), name);
    assert.equal(new Set([...links.values()].map(({ ifindex }) => ifindex)).size, 241);
  });

  it('does not leave its own namespace behind, nor descriptors', () => {
    const own = () => [...linksIn(fixture.native, null).keys()].toSorted();
    const before = own();
    look();
    assert.deepEqual(own(), before);
    assert.deepEqual(
      before,
      readFileSync('/proc/net/dev', 'utf8')
        .split('\n')
        .flatMap((line) => /^\s*(\S+):/.exec(line)?.[1] ?? [])
        .toSorted(),
    );
    const descriptors = readdirSync('/proc/self/fd').length;
    for (let index = 0; index < 20; index++) look();
    assert.equal(readdirSync('/proc/self/fd').length, descriptors);
  });

  it('says that the namespace is gone, and sees devices again in one of the same name', () => {
    addPair('02:00:00:00:00:01');
    look();
    ip(`netns del ${netns}`);
    assert.equal(thrownBy(look).code, 'not_found');
    // What a crash leaves: the name, with no namespace mounted on it.
    writeFileSync(`/run/netns/${staleNetns}`, '');
    const stale = thrownBy(() => linksIn(fixture.native, staleNetns));
    assert.deepEqual([stale.code, stale.details['netns']], ['not_found', staleNetns]);
    ip(`netns add ${netns}`);
    assert.deepEqual([...look().keys()], ['lo']);
  });

  it('keeps no namespace alive: the kernel takes its devices away', async function () {
    this.timeout(30_000);
    ip(`netns add ${peerNetns}`);
    addPair('02:00:00:00:00:01');
    ip(`-n ${netns} link set vnic1 netns ${peerNetns}`);
    look();
    ip(`netns del ${netns}`);
    // One end of a veth goes with the other; the kernel takes a namespace apart in the background.
    while (linksIn(fixture.native, peerNetns).has('vnic1')) await setTimeout(20);
  });

  it('works in a worker thread, while the main thread looks at its own namespace', async function () {
    this.timeout(60_000);
    addPair('02:00:00:00:00:01');
    const worker = new Worker(new URL('../support/look-at-links.ts', import.meta.url), {
      workerData: { adapter: fixture.adapter, netns, looks: 300 },
    });
    const answer = once(worker, 'message');
    const own = new Set<string>();
    let finished = false;
    void answer.finally(() => {
      finished = true;
    });
    while (!finished) {
      own.add([...linksIn(fixture.native, null).keys()].toSorted().join(' '));
      await new Promise((resolve) => setImmediate(resolve));
    }
    const [seen] = (await answer) as [string[]];
    assert.deepEqual(seen, ['lo vnic0 vnic1']);
    assert.ok([...own].every((names) => !names.split(' ').includes('vnic0')));
  });
});
