// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { parse } from 'yaml';
import { CliRig, vnicctl } from '../support/cli.ts';
import { compileTestProgram } from '../support/compile.ts';

const config = `
devices:
  vnic0:
    num_queues: 32
    azs:
      - {name: az-a, queues: 0-10, prefixes: [10.1.0.0/16]}
      - {name: az-b, queues: 11-21, prefixes: [10.2.0.0/16]}
      - {name: az-c, queues: 22-31, prefixes: [10.3.0.0/16]}
    rules:
      - {id: 7, priority: 100, match: {src: 10.1.0.0/16, proto: udp, dstPort: 53}, action: pass, limit: {rate: 10mbit, scope: flow}}
`;

describe('vnicctl attach, detach, status, doctor', function () {
  // Each test runs vnicctl many times, perhaps on a busy machine.
  this.timeout(300_000);
  let rig: CliRig;
  let file: string;

  before(() => {
    rig = new CliRig('base');
    file = path.join(rig.folder, 'vnic.yaml');
    writeFileSync(file, config);
  });
  afterEach(() => {
    rig.run(['detach', 'vnic0', '--force']);
  });
  after(() => rig[Symbol.dispose]());

  it('attaches with a configuration, shows it, and detaches without a trace', async () => {
    assert.deepEqual(rig.traces(), []);
    const attached = rig.json<Record<string, unknown>>(['attach', 'vnic0', '--config', file]);
    assert.equal(attached['performed'], true);
    assert.deepEqual(
      ['mode', 'egress', 'queues', 'azs', 'rules', 'source'].map((field) => attached[field]),
      ['native', 'tcx', 32, 3, 1, 'config'],
    );
    assert.equal((rig.link()['xdp'] as { mode: number }).mode, 1, 'native XDP');
    const programs = rig.programIds();

    const status = rig.json<Record<string, unknown>>(['status', 'vnic0']);
    assert.equal(status['device'], `vnic0@${rig.guest}`);
    assert.equal(typeof status['activeTable'], 'number');
    assert.equal(status['rules'], 1);
    assert.deepEqual(status['drift'], []);
    assert.deepEqual(
      (status['azs'] as { name: string; state: string; prefixes: string[] }[]).map(({ name, state, prefixes }) => [
        name,
        state,
        prefixes,
      ]),
      [
        ['az-a', 'up', ['10.1.0.0/16']],
        ['az-b', 'up', ['10.2.0.0/16']],
        ['az-c', 'up', ['10.3.0.0/16']],
      ],
    );
    const all = rig.json<{ device: string }[]>(['status']);
    assert.deepEqual(
      all.map(({ device }) => device),
      [`vnic0@${rig.guest}`],
    );
    assert.match(rig.ok(['status', 'vnic0']), /^steering +on, table \d+, 32 queues$/m);
    const yaml = parse(rig.ok(['status', 'vnic0', '-o', 'yaml'])) as Record<string, unknown>;
    assert.equal(yaml['device'], status['device']);

    assert.deepEqual(rig.json(['detach', 'vnic0']), { device: `vnic0@${rig.guest}`, detached: true });
    assert.deepEqual(rig.traces(), []);
    assert.ok(await rig.areGone(programs), 'a link still holds a program');
    assert.deepEqual(readdirSync(path.join(rig.stateFolder, 'devices')), []);
  });

  for (const egress of ['clsact', 'off'] as const) {
    it(`detaches without a trace after attach --egress ${egress}`, () => {
      rig.ok(['attach', 'vnic0', '--egress', egress]);
      assert.equal(rig.qdiscs().includes('clsact'), egress === 'clsact');
      rig.ok(['detach', 'vnic0']);
      assert.deepEqual(rig.traces(), []);
    });
  }

  it("leaves a clsact qdisc that was there before, and other people's filters in it", () => {
    const tc = (command: string): string => rig.inGuest('tc', ...command.split(' '));
    const pin = `/sys/fs/bpf/vnic-cli-${process.pid}`;
    // Somebody else's filter: any tc program will do.
    rig.ok(['attach', 'vnic0', '--egress', 'off']);
    const [, egress] = rig.programIds();
    execFileSync('bpftool', ['prog', 'pin', 'id', String(egress), pin]);
    rig.ok(['detach', 'vnic0']);
    try {
      tc('qdisc add dev vnic0 clsact');
      tc(`filter add dev vnic0 egress prio 5 handle 1 bpf da object-pinned ${pin}`);
      rig.ok(['attach', 'vnic0', '--egress', 'clsact']);
      assert.match(tc('filter show dev vnic0 egress'), /handle 0x766e vnic_egress/);
      rig.ok(['detach', 'vnic0']);
      assert.match(rig.qdiscs(), /clsact/);
      assert.match(tc('filter show dev vnic0 egress'), /pref 5 bpf chain 0 handle 0x1/);
      assert.doesNotMatch(tc('filter show dev vnic0 egress'), /handle 0x766e/);
    } finally {
      spawnSync('tc', ['-n', rig.guest, 'qdisc', 'del', 'dev', 'vnic0', 'clsact']);
      rmSync(pin, { force: true });
    }
  });

  it('attaches in generic mode only when asked to', () => {
    rig.ok(['attach', 'vnic0', '--mode', 'generic', '--queues', '8', '--max-flows', '1000', '--max-rules', '10']);
    assert.equal((rig.link()['xdp'] as { mode: number }).mode, 2, 'generic XDP');
    const status = rig.json<Record<string, unknown>>(['status', 'vnic0']);
    assert.deepEqual([status['mode'], status['queues']], ['generic', 8]);
    assert.equal(rig.json<unknown[]>(['queues', 'vnic0']).length, 8);
  });

  it('says with --dry-run what it would do, and does nothing', () => {
    const plan = rig.json<{ performed: boolean; actions: { kind: string; text: string }[] }>([
      'attach',
      'vnic0',
      '--config',
      file,
      '--dry-run',
    ]);
    assert.equal(plan.performed, false);
    assert.deepEqual(
      plan.actions.map(({ kind }) => kind),
      [
        'load',
        'fill-cpumap',
        'load-rules',
        'write-table',
        'pin',
        'attach-egress',
        'attach-xdp',
        'save-record',
        'activate',
      ],
    );
    assert.deepEqual(rig.traces(), []);
    assert.equal(existsSync(rig.recordFile), false);

    rig.ok(['attach', 'vnic0']);
    const detach = rig.json<{ detached: boolean; pins: string[] }>(['detach', 'vnic0', '--dry-run']);
    assert.equal(detach.detached, false);
    assert.ok(detach.pins.includes('link_xdp'));
    assert.ok('xdp' in rig.link());
  });

  it('refuses a second attach with exit 6 and a detach of nothing with exit 4', () => {
    rig.ok(['attach', 'vnic0']);
    assert.equal(rig.refused(6, ['attach', 'vnic0']).problem.code, 'conflict');
    assert.ok('xdp' in rig.link());
    rig.ok(['detach', 'vnic0']);
    assert.equal(rig.refused(4, ['detach', 'vnic0']).problem.code, 'not_found');
    assert.equal(rig.refused(4, ['status', 'vnic0']).problem.code, 'not_found');
    assert.equal(rig.refused(4, ['queues']).problem.code, 'not_found');
  });

  it('names the owner of a foreign XDP program, refuses with exit 6 and leaves it alone', () => {
    const object = compileTestProgram('rig_pass');
    const ip = (...words: string[]): string => execFileSync('ip', ['-n', rig.guest, ...words], { encoding: 'utf8' });
    ip('link', 'set', 'dev', 'vnic0', 'xdpdrv', 'obj', object, 'sec', 'xdp.frags');
    try {
      const before = rig.link()['xdp'] as { prog: { id: number; name: string } };
      const { lines, problem } = rig.refused(6, ['attach', 'vnic0']);
      assert.equal(problem.code, 'conflict');
      assert.match(
        lines[0] ?? '',
        new RegExp(`another XDP program: .*id ${before.prog.id}, native mode, attached by netlink`),
      );
      assert.match(lines[1] ?? '', /ip link set dev vnic0 xdpdrv off/);
      assert.deepEqual(rig.link()['xdp'], before);
      assert.equal(existsSync(rig.pinFolder), false);
      assert.equal(existsSync(rig.recordFile), false);
      const doctor = rig.run(['-o', 'json', 'doctor', 'vnic0']);
      assert.equal(doctor.code, 3);
      assert.equal((JSON.parse(doctor.stdout) as { verdict: string }).verdict, 'blocked');
    } finally {
      ip('link', 'set', 'dev', 'vnic0', 'xdpdrv', 'off');
    }
  });

  for (const egress of ['tcx', 'clsact']) {
    it(`leaves nothing behind when the record cannot be written in the middle of attaching (${egress})`, () => {
      const env = { VNIC_STATE_DIR: '/dev/null/state' };
      const { lines } = rig.refused(1, ['attach', 'vnic0', '--egress', egress], { env });
      assert.match(lines[0] ?? '', /record of vnic0@\S+ could not be .*\/dev\/null\/state/);
      assert.deepEqual(rig.traces(), []);
    });
  }

  it('refuses what preflight blocks with exit 3: lo, more queues than there are', () => {
    assert.equal(rig.refused(3, ['attach', 'lo']).problem.code, 'preflight_refused');
    const { lines } = rig.refused(3, ['attach', 'vnic0', '--queues', '64']);
    assert.match(lines[0] ?? '', /32 receive queues; 64 were asked for/);
    assert.deepEqual(rig.traces(), []);
  });

  it('doctor: ok for a veth device, exit 3 for lo, exit 4 for no device', () => {
    const doctor = rig.json<{ verdict: string; findings: { severity: string }[] }>(['doctor', 'vnic0']);
    assert.notEqual(doctor.verdict, 'blocked');
    assert.ok(doctor.findings.every(({ severity }) => severity !== 'blocks'));
    const lo = rig.run(['doctor', 'lo']);
    assert.equal(lo.code, 3);
    assert.match(lo.stdout, /^blocks {2}device_loopback/m);
    assert.equal(rig.refused(4, ['doctor', 'nosuch0']).problem.code, 'not_found');
  });

  it('exit 4 for a device, a namespace or a configured device that does not exist', () => {
    assert.equal(rig.refused(4, ['attach', 'nosuch0']).problem.code, 'not_found');
    const nowhere = spawnSync(vnicctl, ['--netns', 'vnic-nosuch', 'attach', 'vnic0'], { encoding: 'utf8' });
    assert.equal(nowhere.status, 4);
    assert.match(nowhere.stderr, /no network namespace vnic-nosuch/);
    const other = path.join(rig.folder, 'other.yaml');
    writeFileSync(other, 'devices:\n  eth7: {}\n');
    assert.match(rig.refused(4, ['attach', 'vnic0', '--config', other]).problem.remedy ?? '', /eth7/);
  });

  it('exit 2 for what it does not understand', () => {
    assert.equal(rig.refused(2, ['attach']).problem.code, 'usage');
    assert.match(rig.refused(2, ['rule', 'add', '--bogus']).lines[1] ?? '', /vnicctl rule add --help/);
    assert.equal(rig.refused(2, ['attach', 'vnic0', '--queues', 'many']).problem.code, 'usage');
    assert.equal(rig.refused(2, ['explode']).problem.code, 'usage');
    const broken = path.join(rig.folder, 'broken.yaml');
    writeFileSync(broken, 'devices:\n  vnic0:\n    azs: [{name: a, queues: 40-50}]\n    num_queues: 32\n');
    assert.equal(rig.refused(2, ['attach', 'vnic0', '--config', broken]).problem.code, 'invalid_config');
    assert.deepEqual(rig.traces(), []);
  });

  it('exit 5 without root, naming the capabilities, and no stack trace', () => {
    for (const args of [['status'], ['attach', 'vnic0'], ['rule', 'list'], ['replay', '/nosuch.pcap']]) {
      const result = spawnSync('setpriv', ['--reuid=65534', '--clear-groups', '--inh-caps=-all', vnicctl, ...args], {
        encoding: 'utf8',
        env: { ...process.env, NODE_COMPILE_CACHE: path.join(rig.folder, 'no-cache') },
      });
      assert.equal(result.status, 5, `${args.join(' ')}: ${result.stderr}`);
      assert.match(result.stderr, /CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON/);
      assert.equal(result.stderr.trimEnd().split('\n').length, 2, result.stderr);
    }
  });

  it('exit 1 and the place it was moved to when a record is damaged; detach works then', () => {
    rig.ok(['attach', 'vnic0']);
    writeFileSync(rig.recordFile, '{"version":1,"device"');
    const { code, stderr } = rig.run(['status', 'vnic0']);
    assert.equal(code, 1);
    const aside = /moved to (\S+damaged-\d+)/.exec(stderr)?.[1] ?? '';
    assert.equal(readFileSync(aside, 'utf8'), '{"version":1,"device"');
    assert.equal(rig.refused(1, ['status', 'vnic0']).problem.code, 'state_damaged');
    rig.ok(['detach', 'vnic0']);
    assert.deepEqual(rig.traces(), []);
    rig.ok(['attach', 'vnic0']);
  });

  it('attaches with the recorded AZs and rules after a reboot took the pins', () => {
    rig.ok(['attach', 'vnic0', '--config', file]);
    rmSync(rig.pinFolder, { recursive: true });
    assert.deepEqual(rig.traces(), []);
    assert.equal(rig.refused(4, ['status', 'vnic0']).problem.code, 'not_found');
    const again = rig.json<Record<string, unknown>>(['attach', 'vnic0']);
    assert.deepEqual(
      ['source', 'azs', 'rules'].map((field) => again[field]),
      ['record', 3, 1],
    );
    assert.equal(rig.json<{ id: number }[]>(['rule', 'list'])[0]?.id, 7);
  });

  it('is off a device that is gone, and comes back with its AZs and rules when the device does', () => {
    rig.ok(['attach', 'vnic0', '--config', file]);
    rig.removeDevice();
    try {
      assert.equal(rig.refused(4, ['status', 'vnic0']).problem.code, 'not_found');
      assert.equal(existsSync(rig.pinFolder), false);
    } finally {
      rig.addDevice();
    }
    const again = rig.json<Record<string, unknown>>(['attach', 'vnic0']);
    assert.deepEqual(
      ['source', 'azs', 'rules'].map((field) => again[field]),
      ['record', 3, 1],
    );
  });
});
