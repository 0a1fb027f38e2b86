// SPDX-License-Identifier: Apache-2.0
/**
 * The Debian package as a user meets it: in a fresh system with its systemd and without network it is installed, attached
 * to a device under traffic, upgraded, removed and purged.
 */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statfsSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { attachChecker, type Checker } from '../rig/checker.ts';
import { makeFlows, type RigFlow } from '../rig/flows.ts';
import { startGenerator } from '../rig/generator.ts';
import { run, runInNamespace } from '../rig/namespaces.ts';
import { ports, Setting } from '../rig/scenarios/setting.ts';
import { createRig, type Rig } from '../rig/topology.ts';
import { buildDataplane } from '../support/builds.ts';
import { FreshRoot } from '../support/fresh-root.ts';
import { skip } from '../support/skip.ts';
import { until } from '../support/survival.ts';

const project = path.join(import.meta.dirname, '../..');
const NEXT = '9999.0.0';

/** What apt, dpkg and its triggers write. */
const ofDpkg = /^\/var\/(?:lib\/dpkg|lib\/apt|log|cache\/apt|cache\/ldconfig|cache\/debconf|cache\/man)(?:\/|$)/;

/** In memory where there is some: dpkg waits for the disk after each file. Removes what a killed run left. */
function workFolder(): string {
  const { bavail, bsize } = statfsSync('/dev/shm');
  const base = bavail * bsize > 2 ** 31 ? '/dev/shm' : tmpdir();
  for (const name of readdirSync(base)) {
    const owner = /^vnic-package-(\d+)$/.exec(name)?.[1];
    if (owner !== undefined && !existsSync(`/proc/${owner}`)) rmSync(path.join(base, name), { recursive: true });
  }
  const folder = path.join(base, `vnic-package-${process.pid}`);
  mkdirSync(folder);
  return folder;
}

function hasCommand(name: string): boolean {
  return run('sh', ['-c', `command -v ${name} || true`], '').trim() !== '';
}

describe('make install', function () {
  this.timeout(60_000);
  const folder = mkdtempSync(path.join(tmpdir(), 'vnic-install-'));
  after(() => rmSync(folder, { recursive: true, force: true }));

  it('puts everything below PREFIX, and make uninstall leaves the configuration only', async function () {
    if (!hasCommand('scdoc')) skip(this, 'scdoc is not installed');
    const perform = (what: string) =>
      promisify(execFile)('scripts/packaging/install.sh', [what], {
        cwd: project,
        env: { ...process.env, DESTDIR: folder, PREFIX: '/opt/vnic', SYSCONFDIR: '/etc' },
      });
    await perform('install');
    assert.match(run(path.join(folder, 'opt/vnic/bin/vnicctl'), ['--version']), /^\d/);
    const unit = readFileSync(path.join(folder, 'opt/vnic/lib/systemd/system/vnicd.service'), 'utf8');
    assert.match(unit, /^ExecStart=\/opt\/vnic\/sbin\/vnicd --config \/etc\/vnic\/vnic.yaml$/m);
    assert.doesNotMatch(unit, /@[A-Z]+@/);
    await perform('uninstall');
    const files = run('find', [folder, '!', '-type', 'd', '-printf', '%P\n']).trim().split('\n').sort();
    assert.deepEqual(files, ['etc/default/vnicd', 'etc/vnic/vnic.yaml']);
  });
});

describe('the Debian package', function () {
  this.timeout(600_000);
  let work: string;
  let made: FreshRoot | string | undefined;
  let packages: { first: string; next: string };
  /** Null: not asked. */
  let complaints: string | null;

  async function build(version: string, env: Record<string, string> = {}): Promise<string> {
    const { stdout } = await promisify(execFile)('scripts/packaging/deb.sh', {
      cwd: project,
      env: { ...process.env, VERSION: version, OUT: work, COMPRESSION: '-Zgzip -z1', ...env },
    });
    return stdout.trim().split('\n').at(-1)!;
  }

  /** What lintian says of the package. */
  async function lint(file: string): Promise<string> {
    const options = ['--allow-root', '--fail-on=none', '--tag-display-limit=0'];
    const { stdout, stderr } = await promisify(execFile)('lintian', [...options, file]);
    return stdout + stderr;
  }

  before(async function () {
    for (const tool of ['debootstrap', 'dpkg-deb', 'dpkg-shlibdeps', 'scdoc', 'strip']) {
      if (!hasCommand(tool)) skip(this, `${tool} is not installed`);
    }
    work = workFolder();
    const object = buildDataplane(work, 'other', { edits: { Makefile: (text) => text.replace('-O2', '-O3') } });
    const first = build('1.0.0');
    const [next, said] = await Promise.all([
      build(NEXT, { BPF_OBJECT: object }),
      hasCommand('lintian') ? first.then(lint) : null,
      FreshRoot.make(path.join(work, 'root')).then((root) => {
        made = root;
      }),
    ]);
    packages = { first: await first, next };
    complaints = said;
  });
  after(async () => {
    if (typeof made === 'object') await made[Symbol.asyncDispose]();
    if (work !== undefined) rmSync(work, { recursive: true, force: true });
  });

  it('is clean for lintian', function () {
    if (complaints === null) skip(this, 'lintian is not installed');
    assert.equal(complaints, '');
  });

  describe('in a fresh system', () => {
    let root: FreshRoot;
    let rig: Rig;
    let setting: Setting;
    let checker: Checker;
    let fresh: string[];
    let device: string;
    let pins: string;

    before(async function () {
      if (typeof made !== 'object') skip(this, made ?? 'no fresh system was made');
      root = made;
      rig = createRig({ id: 'package' });
      setting = new Setting(rig);
      // It needs a clsact qdisc, which so is somebody else's and has to stay.
      checker = attachChecker(rig, { flows: flows() });
      runInNamespace(rig.netns, withSysfs('echo 1 >queues/tx-1/xps_cpus'));
      device = stateOfDevice();
      await root.boot(rig.netns);
      pins = root.must(['ls', '-A', '/sys/fs/bpf']);
      fresh = root.files();
    });
    after(() => {
      checker?.close();
      setting?.dispose();
      rig?.dispose();
    });

    const flows = (): RigFlow[] => makeFlows({ azs: rig.azs, host: rig.host, count: 1000, dport: ports.plain });

    /** A shell's command line that runs `command` in the folder of the device. */
    function withSysfs(command: string): string {
      return `unshare --mount sh -euc 'mount -t sysfs sysfs /sys; cd /sys/class/net/${rig.device}; ${command}'`;
    }

    /** What attaching changes and detaching has to put back. */
    function stateOfDevice(): string {
      const settings = 'threaded gro_flush_timeout napi_defer_hard_irqs tx_queue_len queues/*/?ps_cpus';
      return runInNamespace(
        rig.netns,
        `ip -d link show ${rig.device} | sed 's/qlen .*//; s/promiscuity.*minmtu/minmtu/'
         tc qdisc show dev ${rig.device}; ethtool -k ${rig.device}; ethtool -l ${rig.device}
         ${withSysfs(`cat ${settings}`)}`,
      );
    }

    function install(file: string): void {
      // The package comes from outside; where it is put is no part of the system that is compared.
      copyFileSync(file, path.join(root.folder, 'tmp/package.deb'));
      root.must(['apt-get', 'install', '--yes', '--allow-downgrades', '/tmp/package.deb']);
      root.must(['rm', '/tmp/package.deb']);
    }

    /** What the daemon wrote, over all its lives. */
    function log(): Record<string, unknown>[] {
      const lines = root.must(['journalctl', '--unit=vnicd', '--output=cat', '--no-pager']).split('\n');
      return lines.filter((line) => line.startsWith('{')).map((line) => JSON.parse(line) as Record<string, unknown>);
    }

    function property(name: string): string {
      return root.must(['systemctl', 'show', `--property=${name}`, '--value', 'vnicd']).trim();
    }

    function status(): { rules: number } | undefined {
      return (JSON.parse(root.must(['vnicctl', '-o', 'json', 'status'])) as { rules: number }[])[0];
    }

    it('installs without network, and lists every file that it brings', () => {
      install(packages.first);
      const listed = new Set(root.must(['dpkg', '-L', 'vnicctl']).split('\n'));
      // /lib is a link to /usr/lib.
      const isListed = (file: string): boolean =>
        listed.has(file) || file.startsWith('/var/lib/systemd/deb-systemd-helper');
      const added = root
        .files()
        .filter((file) => !fresh.includes(file) && !ofDpkg.test(file))
        .map((file) => file.split(' -> ')[0]!);
      const made =
        /^\/var\/(?:lib\/vnic|cache\/vnicctl)(?:\/|$)|^\/(?:var\/)?tmp\/systemd-private-[^/]*vnicd|\/multi-user.target.wants(?:\/vnicd.service)?$/;
      assert.deepEqual(
        added.filter((file) => !isListed(file) && !made.test(file)),
        [],
      );
      for (const file of listed)
        if (file !== '' && file !== '/.') assert.ok(root.has(file), `${file} is listed and missing`);
      for (const file of [
        '/usr/bin/vnicctl',
        '/usr/sbin/vnicd',
        '/usr/lib/systemd/system/vnicd.service',
        '/usr/lib/tmpfiles.d/vnicctl.conf',
        '/etc/vnic/vnic.yaml',
        '/usr/share/man/man8/vnicctl.8.gz',
        '/usr/share/man/man8/vnicd.8.gz',
        '/usr/share/man/man5/vnic.yaml.5.gz',
        '/usr/share/bash-completion/completions/vnicctl',
        '/usr/share/zsh/vendor-completions/_vnicctl',
        '/usr/share/fish/vendor_completions.d/vnicctl.fish',
      ]) {
        assert.ok(listed.has(file), `${file} is not in the package`);
      }
      assert.match(root.must(['vnicctl', '--version']), /^\d/);
      assert.deepEqual([property('ActiveState'), property('StatusText')], ['active', 'ready']);
      assert.match(root.must(['vnicctl', 'config', 'check', '/etc/vnic/vnic.yaml']), /is valid/);
    });

    it('attaches and works as a service with the rights that the unit leaves it', async () => {
      setting.writeConfig(path.join(root.folder, 'etc/vnic/vnic.yaml'));
      root.must(['systemctl', 'reload', 'vnicd']);
      await until('the rules of the configuration', () => status()?.rules === 4);
      root.must(['vnicctl', 'rule', 'add', '--id', '77', '--src', '192.0.2.0/24', '--action', 'drop']);
      root.must(['vnicctl', 'az', 'fail', 'az-b']);
      root.must(['vnicctl', 'az', 'recover', 'az-b']);
      assert.match(root.must(['vnicctl', 'tune', rig.device, '--apply']), /xps_cpus/);
      root.must(['vnicctl', 'tune', rig.device, '--restore']);
      root.must(['vnicctl', 'perf', rig.device, '--seconds', '1']);
      const writable = 'test -w /proc/irq/default_smp_affinity && test -w /proc/sys/net/core/somaxconn';
      const protectedFiles = '/etc /usr /proc/sys/kernel/hostname /proc/sysrq-trigger /sys/kernel /sys/fs/cgroup';
      const pid = property('MainPID');
      const stat = root.must(['cat', `/proc/${pid}/stat`]);
      assert.equal(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[16], '-20', 'nice, of proc_pid_stat(5)');
      root.must(['nsenter', `--target=${pid}`, '--mount', 'sh', '-euc', writable]);
      root.must([
        'nsenter',
        `--target=${pid}`,
        '--mount',
        'sh',
        '-euc',
        `for f in ${protectedFiles}; do ! test -w $f; done`,
      ]);
      assert.equal(status()?.rules, 5);
      assert.deepEqual(
        log().filter(({ level, msg }) => level !== 'info' && msg !== 'az.failed'),
        [],
      );
    });

    it('reaches devices in other network namespaces', () => {
      const shell = (script: string) => root.must(['sh', '-euc', script]);
      shell('ip netns add blue; ip -n blue link add blue0 type veth peer name blue1; ip -n blue link set blue0 up');
      assert.match(root.must(['vnicctl', 'attach', 'blue0', '--netns', 'blue']), /attached \(native/);
      root.must(['vnicctl', 'detach', 'blue0', '--netns', 'blue']);
      shell('ip netns del blue');
    });

    it('is started again when it dies', async () => {
      root.must(['systemctl', 'kill', '--signal=KILL', 'vnicd']);
      await until(
        'the service, started again',
        () => property('NRestarts') === '1' && property('ActiveState') === 'active',
      );
      assert.equal(status()?.rules, 5);
    });

    it('is upgraded under traffic without losing a packet', async function () {
      // The machine may stop everything for longer than a ring holds; a wrong step fails each time.
      this.retries(2);
      if (!/^Version: 1\.0\.0$/m.test(root.must(['dpkg', '-s', 'vnicctl']))) install(packages.first);
      checker.reset();
      const generator = await startGenerator(rig, { flows: flows(), ratePps: 50_000, durationMs: 240_000 });
      const from = log().length;
      await sleep(300);
      install(packages.next);
      await sleep(300);
      const sent = await generator.stop();
      await checker.settled(sent.sent);
      const report = checker.report(sent.sentByFlow);
      console.log(
        `      ${sent.sent} packets while it was upgraded, ${report.lost} lost, ${report.reordered} reordered`,
      );
      assert.deepEqual({ lost: report.lost, duplicates: report.duplicates }, { lost: 0, duplicates: 0 });
      assert.ok(sent.sent > 10_000, `${sent.sent} packets were sent`);
      assert.ok(
        log()
          .slice(from)
          .some(({ msg }) => msg === 'device.upgraded'),
        'the programs were not replaced',
      );
      assert.equal(status()?.rules, 5, 'the rules did not stay');
    });

    it('leaves the device as it was when it is removed', () => {
      const said = root.must(['apt-get', 'remove', '--yes', 'vnicctl']);
      assert.match(said, new RegExp(`${rig.device}: detached`));
      assert.equal(stateOfDevice(), device);
      assert.equal(root.must(['ls', '-A', '/sys/fs/bpf']), pins);
      assert.ok(root.has('/etc/vnic/vnic.yaml'), 'the configuration does not stay');
    });

    it('leaves nothing when it is purged', () => {
      root.must(['apt-get', 'purge', '--yes', 'vnicctl']);
      const changed = (a: string[], b: string[]) => a.filter((file) => !b.includes(file) && !ofDpkg.test(file));
      const now = root.files();
      assert.deepEqual({ left: changed(now, fresh), gone: changed(fresh, now) }, { left: [], gone: [] });
      assert.equal(root.must(['sh', '-c', 'dpkg -l vnicctl 2>/dev/null | grep -c "^[ihpru]" || true']).trim(), '0');
      assert.ok(!root.must(['ls', '-A', '/run']).split('\n').includes('vnic'));
    });
  });
});
