// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type CliResult, CliRig } from '../support/cli.ts';
import { skip } from '../support/skip.ts';
import { tsharkMissing } from '../support/tshark.ts';

interface Seen {
  srcPort: number;
  bytes: number;
  comment: string;
  data: string;
}

/** As tshark reads the file. */
function readWithTshark(file: string): Seen[] {
  const fields = ['udp.srcport', 'frame.len', 'frame.comment', 'udp.payload'].flatMap((field) => ['-e', field]);
  const text = execFileSync('tshark', ['-r', file, '-Y', 'udp', '-T', 'fields', '-E', 'separator=|', ...fields], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => {
      const [srcPort = '', bytes = '', comment = '', data = ''] = line.split('|');
      return { srcPort: Number(srcPort), bytes: Number(bytes), comment, data: data.replaceAll(':', '') };
    });
}

describe('vnicctl capture', function () {
  this.timeout(180_000);
  let rig: CliRig;
  let files = 0;

  before(function () {
    const missing = tsharkMissing();
    if (missing !== null) skip(this, missing);
    rig = new CliRig('capture');
    rig.ok(['attach', 'vnic0']);
    rig.ok('az set az-a --queues 0-15 --prefix 10.9.0.0/16'.split(' '));
    rig.ok('rule add --id 1 --src 10.9.0.2 --proto udp --dport 5001 --queues 20'.split(' '));
    rig.ok('rule add --id 2 --src 10.9.0.2 --proto udp --dport 5002 --action drop'.split(' '));
    rig.ok('rule add --id 3 --proto udp --dport 5003 --rate 8kbit --burst 200b --scope rule'.split(' '));
  });
  after(() => {
    rig?.run(['detach', 'vnic0']);
    rig?.[Symbol.dispose]();
  });

  const newFile = (): string => path.join(rig.folder, `capture-${files++}.pcapng`);

  const isCapturing = (): boolean => {
    const text = execFileSync('bpftool', ['-j', 'map', 'dump', 'pinned', `${rig.pinFolder}/vnic_control`], {
      encoding: 'utf8',
    });
    const [entry] = JSON.parse(text) as { formatted: { value: { capture: number } } }[];
    return entry!.formatted.value.capture === 1;
  };

  async function until(condition: () => boolean, what: string): Promise<void> {
    for (let tries = 0; tries < 300; tries++) {
      if (condition()) return;
      await sleep(100);
    }
    assert.fail(`not within 30 s: ${what}`);
  }

  /** Captures while `traffic` goes on, until the command ends by itself or is interrupted. */
  async function capture(args: readonly string[], traffic: () => void | Promise<void>): Promise<CliResult> {
    const { child, done } = rig.start(['capture', 'vnic0', ...args]);
    let isOver = false;
    void done.then(() => {
      isOver = true;
    });
    await until(() => isOver || isCapturing(), 'the capture begins');
    await traffic();
    if (!args.includes('--count')) child.kill('SIGINT');
    return await done;
  }

  const send = (fromPort: number, toPort: number, packets: number, bytes = 40): void =>
    rig.send({ fromPort, toPort, packets, bytes });

  it('writes what matched the rule and nothing else, as it was sent, with the verdict', async () => {
    const file = newFile();
    const { code, stderr } = await capture(['--rule', '2', '-w', file], () => {
      send(4001, 5001, 5);
      send(4002, 5002, 7, 33);
      send(4004, 5004, 5);
    });
    assert.equal(code, 0, stderr);
    const seen = readWithTshark(file);
    assert.equal(seen.length, 7, stderr);
    for (const packet of seen) {
      assert.deepEqual([packet.srcPort, packet.bytes], [4002, 14 + 20 + 8 + 33]);
      assert.match(packet.comment, /^verdict=drop reason=rule rule=2 az=az-a (queue=\d+ )?rx_queue=\d+$/);
      assert.equal(packet.data, '00'.repeat(33));
    }
    assert.match(stderr, /7 packets in .*, of 7 packets that matched/);
    assert.equal(isCapturing(), false);
  });

  it('tells passed, limited and dropped packets apart, and their queues', async () => {
    const file = newFile();
    await capture(['-w', file], () => {
      send(4001, 5001, 4);
      send(4002, 5002, 3);
      send(4003, 5003, 20, 100);
    });
    const seen = readWithTshark(file);
    const verdicts = (port: number): string[] =>
      seen.filter(({ srcPort }) => srcPort === port).map(({ comment }) => /verdict=(\w+)/.exec(comment)![1]!);
    assert.deepEqual(verdicts(4001), ['pass', 'pass', 'pass', 'pass']);
    assert.deepEqual(verdicts(4002), ['drop', 'drop', 'drop']);
    const limited = verdicts(4003);
    assert.equal(limited.length, 20);
    assert.equal(limited[0], 'pass');
    assert.equal(limited.at(-1), 'limit');
    assert.ok(seen.filter(({ srcPort }) => srcPort === 4001).every(({ comment }) => / queue=20 /.test(comment)));
  });

  it('keeps the head with --snaplen, ends with --count, and takes packets of an AZ only', async () => {
    const file = newFile();
    const { code } = await capture(['-w', file, '--az', 'az-a', '--snaplen', '60', '--count', '3'], () =>
      send(4005, 5005, 50, 1000),
    );
    assert.equal(code, 0);
    const text = execFileSync('tshark', ['-r', file, '-T', 'fields', '-e', 'frame.len', '-e', 'frame.cap_len'], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    assert.deepEqual(
      text.trim().split('\n'),
      Array.from({ length: 3 }, () => `${1000 + 42}\t60`),
    );
    assert.equal(isCapturing(), false);
  });

  it('ends after --seconds without a packet, and the file is a capture', async () => {
    const file = newFile();
    rig.ok(['capture', 'vnic0', '--seconds', '0.2', '--rule', '1', '-w', file]);
    assert.deepEqual(readWithTshark(file), []);
  });

  it('stops in the kernel when the command is killed', async () => {
    const file = newFile();
    const { child, done } = rig.start(['capture', 'vnic0', '-w', file]);
    await until(isCapturing, 'the capture begins');
    send(4006, 5006, 10);
    await until(() => statSync(file).size > 1000, 'packets are in the file');
    child.kill('SIGKILL');
    await done;
    assert.equal(readWithTshark(file).length, 10, 'what is there can be read');
    await sleep(5200);
    send(4006, 5006, 2);
    assert.equal(isCapturing(), false);
    // Another one can begin.
    rig.ok(['capture', 'vnic0', '--seconds', '0.1', '-w', newFile()]);
  });

  it('tells what came above the rate', async () => {
    const file = newFile();
    const { stderr } = await capture(['-w', file, '--rate', '5'], () => send(4007, 5007, 200));
    const captured = readWithTshark(file).length;
    assert.ok(captured >= 5 && captured < 100, `${captured}`);
    assert.match(stderr, /\d+ packets came above the rate/);
  });

  it('refuses a second capture, a file that is there, and what the device does not have', async () => {
    const file = newFile();
    const { child, done } = rig.start(['capture', 'vnic0', '-w', file]);
    await until(isCapturing, 'the capture begins');
    assert.match(rig.refused(6, ['capture', 'vnic0', '-w', newFile(), '--force']).lines[0]!, /Another capture runs/);
    child.kill('SIGTERM');
    assert.equal((await done).code, 0);

    const there = newFile();
    writeFileSync(there, 'mine');
    assert.match(rig.refused(6, ['capture', 'vnic0', '-w', there]).lines[0]!, /exists already/);
    assert.equal(readFileSync(there, 'utf8'), 'mine');
    rig.ok(['capture', 'vnic0', '--seconds', '0.1', '--force', '-w', there]);
    assert.deepEqual(readWithTshark(there), []);

    rig.refused(4, ['capture', 'vnic0', '--force', '--rule', '99', '-w', newFile()]);
    rig.refused(4, ['capture', 'vnic0', '--force', '--az', 'az-x', '-w', newFile()]);
    rig.refused(1, ['capture', 'vnic0', '-w', '/proc/nowhere/x.pcapng']);
    rig.refused(2, ['capture', 'vnic0']);
  });

  it('on a full disk says so, and what was written can be read', async () => {
    const folder = path.join(rig.folder, 'small');
    execFileSync('sh', ['-ec', `mkdir ${folder}; mount -t tmpfs -o size=64k none ${folder}`]);
    try {
      const file = path.join(folder, 'full.pcapng');
      const { child, done } = rig.start(['capture', 'vnic0', '-w', file]);
      await until(isCapturing, 'the capture begins');
      send(4008, 5008, 200, 1000);
      const { code, stderr } = await done;
      assert.equal(child.exitCode, code);
      assert.equal(code, 1);
      assert.match(stderr, /cannot be written: ENOSPC/);
      assert.ok(existsSync(file));
      const captured = readWithTshark(file).length;
      assert.ok(captured > 0 && captured < 200, `${captured} packets`);
      assert.equal(isCapturing(), false);
    } finally {
      execFileSync('umount', [folder]);
    }
  });
});
