// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';

import type { Fd } from '../../src/loader/fd.ts';
import { inNetns } from '../../src/loader/netns.ts';
import { BpfObject } from '../../src/loader/object.ts';
import { attachChecker, type Checker } from '../rig/checker.ts';
import { attachNativeXdp } from '../rig/fabric.ts';
import { makeFlows, mappedAddress, type RigFlow } from '../rig/flows.ts';
import { startGenerator } from '../rig/generator.ts';
import { namespaces, runInNamespace } from '../rig/namespaces.ts';
import { rigObject } from '../rig/objects.ts';
import { startSockets } from '../rig/sockets.ts';
import { createRig, type Rig } from '../rig/topology.ts';
import { skip } from '../support/skip.ts';

const flowCount = 10_000;
const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** Stands in for a dataplane on the rig's device; takes the place of an earlier one. */
function attachToDevice(rig: Rig, name: 'rig_pass' | 'rig_thin'): void {
  using object = BpfObject.load(rig.native, rigObject(name));
  using program = object.programFd(name);
  inNetns(rig.native, rig.netns, () => attachNativeXdp(rig.native, program, rig.device));
}

function anyProgram(rig: Rig): Fd {
  using object = BpfObject.load(rig.native, rigObject('rig_pass'));
  return object.programFd('rig_pass');
}

/** Ids of the processes that a process started and that still run. */
function childrenOf(parent: number): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => {
      const path = `/proc/${pid}/stat`;
      if (!existsSync(path)) return false;
      const [state, ppid] = readFileSync(path, 'utf8').split(') ').at(-1)!.split(' ');
      return Number(ppid) === parent && state !== 'Z';
    });
}

/** Numbers of one protocol in /proc/net/snmp and /proc/net/snmp6 of the rig's host. */
function udpCounters(rig: Rig): { noPorts: number; badChecksums: number } {
  const text = runInNamespace(rig.netns, 'cat /proc/net/snmp /proc/net/snmp6');
  const [names, values] = text
    .split('\n')
    .filter((line) => line.startsWith('Udp:'))
    .map((line) => line.split(' ')) as [string[], string[]];
  const v4 = (name: string): number => Number(values[names.indexOf(name)]);
  const v6 = (name: string): number => Number(new RegExp(`^Udp6${name}\\s+(\\d+)`, 'm').exec(text)![1]);
  return {
    noPorts: v4('NoPorts') + v6('NoPorts'),
    badChecksums: v4('InCsumErrors') + v6('InCsumErrors'),
  };
}

describe('the rig', () => {
  let rig: Rig;
  let flows: RigFlow[];

  before(() => {
    rig = createRig({ id: 'test' });
    flows = makeFlows({ count: flowCount, azs: rig.azs, host: rig.host });
  });
  after(() => rig?.dispose());

  it('has a device of 32 queues, alone in its namespace', () => {
    const queues = runInNamespace(rig.netns, 'ls /sys/class/net >/dev/null; ethtool -l vnic0 | grep -E "^(RX|TX)"');
    assert.deepEqual(
      queues.split('\n').filter((line) => /\b32$/.test(line)).length,
      4,
      'most and current number of RX and TX queues',
    );
    const links = JSON.parse(runInNamespace(rig.netns, 'ip -j link')) as { ifname: string }[];
    assert.deepEqual(links.map((link) => link.ifname).sort(), ['lo', 'vnic0']);
  });

  it('brings packets with right checksums to the stack, in IPv4 and IPv6, before anything is attached', async () => {
    const before = udpCounters(rig);
    const some = flows.slice(0, 100);
    assert.ok(some.some((flow) => flow.src.includes(':')) && some.some((flow) => flow.src.includes('.')));
    const generator = await startGenerator(rig, { flows: some, ratePps: 20_000, packets: 5000 });
    const { sent } = await generator.finished;
    await sleep(100);
    const after = udpCounters(rig);
    assert.equal(sent, 5000);
    assert.equal(after.badChecksums, before.badChecksums);
    // No socket is bound: the host's UDP looked at the checksum and then found nobody.
    assert.equal(after.noPorts - before.noPorts, 5000);
  });

  describe('with the checker', () => {
    let checker: Checker;

    before(() => {
      attachToDevice(rig, 'rig_pass');
      checker = attachChecker(rig, { flows });
    });
    beforeEach(() => checker.reset());
    after(() => checker?.close());

    it('delivers a million packets of 10,000 flows, all of them and in order', async () => {
      const generator = await startGenerator(rig, { flows, ratePps: 200_000, packets: 1_000_000 });
      const { sent, sentByFlow, sentByAz } = await generator.finished;
      await checker.settled(sent);
      const report = checker.report(sentByFlow);

      assert.equal(sent, 1_000_000);
      assert.equal(report.received, 1_000_000);
      assert.equal(report.bytes, 128_000_000);
      assert.deepEqual(
        [report.lost, report.missing, report.reordered, report.duplicates, report.unknownFlow],
        [0, 0, 0, 0, 0],
      );
      assert.equal(report.flows.length, flowCount);
      assert.ok(report.flows.every((flow) => flow.received === sentByFlow.get(flow.id)));
      for (const [az, { received }] of report.perAz) assert.equal(received, sentByAz.get(az));

      const slices = checker.slices();
      const inSlices = slices.groupPackets.map((row) => row.reduce((sum, packets) => sum + packets, 0));
      assert.deepEqual(
        inSlices.slice(0, 5),
        [0, ...rig.azs.map((az) => sentByAz.get(az.name)), 0],
        'the slices of an AZ add up to what it sent',
      );
    });

    it('takes packets of two generators on two CPUs at the same time', async function () {
      if (availableParallelism() < 2) skip(this, 'the machine has one CPU');
      const half = flowCount / 2;
      const generators = await Promise.all([
        startGenerator(rig, { flows: flows.slice(0, half), ratePps: 50_000, packets: 50_000, cpu: 0 }),
        startGenerator(rig, { flows: flows.slice(half), ratePps: 50_000, packets: 50_000, cpu: 1 }),
      ]);
      const reports = await Promise.all(generators.map((generator) => generator.finished));
      const sentByFlow = new Map(reports.flatMap((report) => [...report.sentByFlow]));
      await checker.settled(100_000);
      const report = checker.report(sentByFlow);
      assert.equal(report.received, 100_000);
      assert.deepEqual([report.lost, report.reordered, report.duplicates], [0, 0, 0]);
      // A queue of the fabric that has a packet from the one CPU takes along what the other one puts behind it.
      const seenOnly = (cpu: number, isOwn: (id: number) => boolean) => {
        const ids = report.flows.filter(({ cpus }) => cpus.length === 1 && cpus[0] === cpu).map(({ id }) => id);
        return ids.filter(isOwn).length > ids.length / 2;
      };
      assert.ok(
        seenOnly(0, (id) => id < half),
        'flows of the first generator',
      );
      assert.ok(
        seenOnly(1, (id) => id >= half),
        'flows of the second generator',
      );
    });

    it('finds exactly the packets that a faulty dataplane drops', async () => {
      attachToDevice(rig, 'rig_thin');
      try {
        const few = flows.slice(0, 10);
        const generator = await startGenerator(rig, { flows: few, ratePps: 100_000, packets: 50_000 });
        const { sentByFlow } = await generator.finished;
        await checker.settled();
        const report = checker.report(sentByFlow);
        // Of each flow's 5000 packets those with the sequences 0, 1000, 2000, 3000 and 4000.
        assert.equal(report.lost, 50);
        assert.equal(report.missing, 50);
        assert.equal(report.reordered, 0);
      } finally {
        attachToDevice(rig, 'rig_pass');
      }
    });

    it('finds packets that come by another queue or CPU than expected', async () => {
      const few = flows.slice(0, 2);
      checker.expect(0, { queues: 1n << 5n });
      checker.expect(1, { cpus: 1n << 1n });
      const generator = await startGenerator(rig, { flows: few, ratePps: 10_000, packets: 1000, cpu: 0 });
      const { sentByFlow } = await generator.finished;
      await checker.settled(1000);
      const report = checker.report(sentByFlow);
      checker.expect(0, {});
      checker.expect(1, {});
      // Nothing steers here, so no packet has a queue from a dataplane, and all stay on the generator's CPU.
      assert.deepEqual(
        [report.flows[0]!.wrongQueue, report.flows[0]!.wrongCpu, report.flows[0]!.noMetadata],
        [500, 0, 500],
      );
      assert.deepEqual([report.flows[1]!.wrongQueue, report.flows[1]!.wrongCpu], [0, 500]);
    });

    it('stops an AZ at its source at a time that is known to the packet, and loses none of anybody', async () => {
      const generator = await startGenerator(rig, { flows, ratePps: 60_000 });
      await sleep(300);
      const beforeNs = process.hrtime.bigint();
      const cut = await generator.cut('az-b');
      const afterNs = process.hrtime.bigint();
      await sleep(100);
      const [whileCut, counts] = [checker.report(), checker.counts()];
      await sleep(200);
      const later = checker.report();
      await generator.restore('az-b');
      await sleep(200);
      const again = await generator.cut('az-b');
      const sent = await generator.stop();
      await checker.settled();
      const end = checker.report(sent.sentByFlow);

      const received = (report: typeof end, az: string): number => report.perAz.get(az)!.received;
      const ofZone = whileCut.flows.filter(({ id }) => flows.find((flow) => flow.id === id)?.az === 'az-b');
      assert.ok(cut.lastNs <= afterNs && cut.lastNs > beforeNs - 1_000_000_000n);
      assert.ok(
        ofZone.some(({ lastNs }) => lastNs >= cut.lastNs),
        'the last packet arrives after it was made',
      );
      assert.equal(received(later, 'az-b'), received(whileCut, 'az-b'), 'it is the last');
      assert.ok(received(later, 'az-a') > received(whileCut, 'az-a'));
      assert.equal(
        counts.received.reduce((sum, packets) => sum + packets, 0) <= later.received,
        true,
        'what is counted on the way is what is reported',
      );
      assert.ok(again.lastNs > cut.lastNs);
      assert.ok(again.longestGapNs < Number(again.lastNs - cut.lastNs), 'the cut itself is no gap of the zone');
      assert.equal(sent.lastNsByAz.get('az-b'), again.lastNs);
      assert.deepEqual({ lost: end.lost, received: end.received }, { lost: 0, received: sent.sent });
    });

    it('loses the packets of an AZ that is cut, and no others; restored, they come again', async () => {
      const generator = await startGenerator(rig, { flows, ratePps: 60_000 });
      await sleep(300);
      const cut = rig.cutAz('az-b');
      await sleep(300);
      const whileCut = checker.report();
      await sleep(300);
      const later = checker.report();
      rig.restoreAz('az-b');
      await sleep(300);
      const { sentByFlow, sentByAz } = await generator.stop();
      await checker.settled();
      const end = checker.report(sentByFlow);

      assert.ok(cut.afterNs > cut.beforeNs);
      const received = (report: typeof end, az: string): number => report.perAz.get(az)!.received;
      assert.ok(received(whileCut, 'az-b') > 0);
      assert.equal(received(later, 'az-b'), received(whileCut, 'az-b'), 'nothing comes from the AZ that is cut');
      assert.ok(received(later, 'az-a') > received(whileCut, 'az-a'));
      assert.ok(received(end, 'az-b') > received(later, 'az-b'), 'its packets come again');
      assert.ok(end.perAz.get('az-b')!.lost > 0);
      for (const az of ['az-a', 'az-c']) {
        assert.deepEqual(
          { received: received(end, az), lost: end.perAz.get(az)!.lost },
          { received: sentByAz.get(az), lost: 0 },
        );
      }
      assert.equal(end.reordered, 0);
    });

    it('can change the rate and say what was sent while it runs', async () => {
      const generator = await startGenerator(rig, { flows: flows.slice(0, 30), ratePps: 1000 });
      await sleep(200);
      generator.setRate(0);
      await sleep(50);
      const first = await generator.progress();
      await sleep(200);
      const second = await generator.progress();
      const { sent } = await generator.stop();
      assert.ok(first.sent > 0);
      assert.equal(second.sent, first.sent);
      assert.equal(sent, first.sent);
    });

    for (const protocol of ['tcp', 'udp'] as const) {
      for (const family of [4, 6] as const) {
        it(`lets ${protocol} sockets over IPv${family} through, and sees what leaves the host`, async () => {
          rig.fabric.forgetDepartures();
          const traffic = await startSockets(rig, {
            az: 'az-c',
            protocol,
            family,
            connections: 3,
            messagesPerSecond: 200,
          });
          await sleep(500);
          const { client, server } = await traffic.stop();
          assert.ok(client.sentBytes >= 3000);
          assert.equal(server.receivedBytes, client.sentBytes);
          assert.equal(client.receivedBytes, client.sentBytes);
          assert.deepEqual([...client.errors, ...server.errors], []);

          const { ipv4, ipv6 } = rig.az('az-c');
          const departures = rig.fabric.departures().filter((flow) => flow.sport === 9000);
          assert.deepEqual(new Set(departures.map((flow) => flow.dport)), new Set(traffic.clientPorts));
          for (const flow of departures) {
            assert.deepEqual(flow.dst, mappedAddress(family === 4 ? ipv4 : ipv6));
            assert.equal(flow.proto, protocol === 'tcp' ? 6 : 17);
            assert.ok(flow.packets > 0 && flow.queues.includes(flow.lastQueue));
          }
        });
      }
    }
  });
});

describe('a rig that ends', () => {
  const holder = join(import.meta.dirname, '../support/rig-holder.ts');

  async function holdRig(): Promise<ChildProcess> {
    const child = spawn(process.execPath, [holder], { stdio: ['ignore', 'pipe', 'inherit'] });
    const [text] = (await once(child.stdout!, 'data')) as [Buffer];
    assert.equal(text.toString(), 'ready\n');
    return child;
  }

  const namespacesOf = (pid: number): string[] => namespaces().filter((name) => name.startsWith(`vnic-${pid}-`));

  it('leaves no namespace, no process and no pin', async () => {
    const processesBefore = childrenOf(process.pid);
    const rig = createRig({ id: 'short', azs: 2, queues: 4 });
    const flows = makeFlows({ count: 10, azs: rig.azs, host: rig.host });
    using checker = attachChecker(rig, { flows });
    const generator = await startGenerator(rig, { flows, ratePps: 10_000 });
    await startSockets(rig, { az: 'az-a', protocol: 'udp' });
    await sleep(50);
    const processes = childrenOf(process.pid).filter((pid) => !processesBefore.includes(pid));
    const pins = `/sys/fs/bpf/vnic/vnic0@${rig.netns}`;
    mkdirSync(pins, { recursive: true });
    using program = anyProgram(rig);
    rig.native.check(rig.native.libbpf.bpf_obj_pin(program.value, `${pins}/program`), 'bpf_obj_pin', pins);
    assert.equal(processes.length, 3, 'the generator and both ends of the sockets');
    rig.dispose();
    rig.dispose();

    await assert.rejects(generator.finished, /ended with SIGKILL/);
    assert.deepEqual(
      namespaces().filter((name) => rig.namespaces.includes(name)),
      [],
    );
    for (let tries = 0; tries < 100 && processes.some((pid) => childrenOf(process.pid).includes(pid)); tries++) {
      await sleep(20);
    }
    assert.deepEqual(
      childrenOf(process.pid).filter((pid) => processes.includes(pid)),
      [],
    );
    assert.equal(existsSync(pins), false, 'pins of a dataplane on its device');
    assert.ok(checker.received() > 0, 'what was counted can still be read');
  });

  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    it(`leaves nothing when its process gets ${signal}`, async () => {
      const child = await holdRig();
      const processes = childrenOf(child.pid!);
      assert.equal(namespacesOf(child.pid!).length, 3);
      assert.equal(processes.length, 1);
      child.kill(signal);
      const [code, endedBy] = (await once(child, 'exit')) as [number | null, NodeJS.Signals | null];
      assert.deepEqual([code, endedBy], [null, signal]);
      assert.deepEqual(namespacesOf(child.pid!), []);
      for (let tries = 0; tries < 100 && processes.some((pid) => existsSync(`/proc/${pid}`)); tries++) await sleep(20);
      assert.deepEqual(
        processes.filter((pid) => existsSync(`/proc/${pid}`)),
        [],
      );
    });
  }

  it('leaves namespaces when its process is killed, and the next rig removes them', async () => {
    const child = await holdRig();
    child.kill('SIGKILL');
    await once(child, 'exit');
    assert.equal(namespacesOf(child.pid!).length, 3);
    createRig({ id: 'next', azs: 1, queues: 1 }).dispose();
    assert.deepEqual(namespacesOf(child.pid!), []);
  });
});
