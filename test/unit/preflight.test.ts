// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import type { errorTable } from '../../src/errors.ts';
import {
  type DeviceFacts,
  type DiagnoseOptions,
  diagnose,
  type Finding,
  findingTable,
  type PreflightPorts,
  refuseIfBlocked,
  singleBufferMtu,
  verdict,
} from '../../src/loader/preflight/index.ts';
import { recordedFacts } from '../support/preflight.ts';
import { thrownBy } from '../support/thrown.ts';

interface Case {
  title: string;
  device: string;
  host?: string;
  options?: Partial<DiagnoseOptions>;
  /** Codes in the order in which they are shown. */
  codes: string[];
}

const okVirtio = ['virtio_offloads_off', 'virtio_rx_queues_grow'];

const cases: Case[] = [
  { title: 'a default QEMU device of 32 queues is fine', device: 'virtio-32-queues', codes: okVirtio },
  {
    title: 'the same on Linux 6.18',
    device: 'virtio-32-queues-linux-6.18',
    host: 'linux-6.18',
    codes: okVirtio,
  },
  {
    title: 'all queues in use: XDP transmission would share them, which is no harm here',
    device: 'virtio-all-queues-in-use',
    codes: ['virtio_offloads_off', 'virtio_xdp_tx_locked'],
  },
  {
    title: 'receive offloads that the guest cannot switch off',
    device: 'virtio-offloads-fixed',
    codes: ['virtio_offloads_fixed', 'virtio_rx_queues_grow'],
  },
  {
    title: 'no control queue: offloads are fixed and there is one queue',
    device: 'virtio-no-control-queue',
    codes: ['virtio_offloads_fixed', 'virtio_no_control_queue', 'virtio_xdp_tx_locked', 'single_queue'],
  },
  {
    title: 'a device without multiqueue',
    device: 'virtio-mq-off',
    codes: ['virtio_offloads_off', 'virtio_xdp_tx_locked', 'single_queue'],
  },
  {
    title: 'jumbo frames before Linux 6.3',
    device: 'virtio-mtu-9000',
    codes: ['mtu_too_large', ...okVirtio],
  },
  {
    title: 'jumbo frames with a driver that has frags',
    device: 'virtio-mtu-9000-linux-6.18',
    host: 'linux-6.18',
    codes: okVirtio,
  },
  {
    title: 'jumbo frames in generic mode',
    device: 'virtio-mtu-9000',
    options: { mode: 'generic' },
    codes: ['generic_mode'],
  },
  { title: 'an MTU near the limit', device: 'virtio-mtu-3500', codes: ['mtu_near_limit', ...okVirtio] },
  {
    title: 'big packets by receive offloads',
    device: 'virtio-big-packets',
    codes: ['virtio_big_packets', ...okVirtio],
  },
  {
    title: 'big packets by the MTU',
    device: 'virtio-big-packets-by-mtu',
    codes: ['virtio_big_packets', 'virtio_rx_queues_grow'],
  },
  { title: 'small buffers without offloads', device: 'virtio-small-buffers', codes: ['virtio_rx_queues_grow'] },
  { title: 'a legacy device', device: 'virtio-legacy', codes: ['virtio_header_split', ...okVirtio] },
  { title: 'a device with RSS', device: 'virtio-rss', codes: [...okVirtio, 'virtio_rss_lost'] },
  { title: 'RSS in generic mode is kept', device: 'virtio-rss', options: { mode: 'generic' }, codes: ['generic_mode'] },
  {
    title: 'features that cannot be read',
    device: 'virtio-features-hidden',
    codes: ['virtio_features_unknown', 'virtio_rx_queues_grow'],
  },
  {
    title: 'as many queues as are in use',
    device: 'virtio-32-queues',
    options: { queues: 8 },
    codes: okVirtio,
  },
  {
    title: 'more queues than are in use',
    device: 'virtio-32-queues',
    options: { queues: 32 },
    codes: ['queues_too_few', ...okVirtio],
  },
  {
    title: 'more queues than are in use, generic mode',
    device: 'virtio-32-queues',
    options: { queues: 9, mode: 'generic' },
    codes: ['queues_too_few', 'generic_mode'],
  },

  {
    title: 'this dataplane attached already',
    device: 'virtio-ours',
    codes: ['already_attached', 'virtio_offloads_off'],
  },
  {
    title: 'a program that only bears our name',
    device: 'virtio-look-alike',
    codes: ['foreign_xdp', 'virtio_offloads_off'],
  },
  { title: 'a foreign link', device: 'virtio-foreign-link', codes: ['foreign_xdp', 'virtio_offloads_off'] },
  { title: 'a foreign program by netlink', device: 'virtio-foreign-netlink', codes: ['foreign_xdp', ...okVirtio] },

  {
    title: 'ena with all channels and jumbo frames',
    device: 'ena-all-channels',
    codes: ['driver_queues_reserved', 'mtu_too_large'],
  },
  { title: 'ena prepared for XDP', device: 'ena-half-channels', host: 'linux-6.18', codes: [] },
  { title: 'mlx5 with LRO', device: 'mlx5-lro', host: 'linux-6.18', codes: ['lro_refused'] },
  { title: 'ice with hardware GRO and jumbo frames', device: 'ice-gro-hw-jumbo', codes: ['mtu_unproven', 'lro_on'] },
  {
    title: 'a driver without native XDP',
    device: 'e1000-linux-6.18',
    host: 'linux-6.18',
    codes: ['native_unsupported', 'single_queue'],
  },
  {
    title: 'the same driver in generic mode',
    device: 'e1000-linux-6.18',
    host: 'linux-6.18',
    options: { mode: 'generic' },
    codes: ['generic_mode', 'single_queue'],
  },
  { title: 'an unknown driver', device: 'unknown-driver', codes: ['native_unknown', 'device_down'] },

  { title: 'veth with 32 queues', device: 'veth-32-queues', host: 'linux-6.18', codes: ['veth_peer_offloads'] },
  {
    title: 'veth with fewer receive queues than its peer sends on',
    device: 'veth-few-rx-queues',
    host: 'linux-6.18',
    codes: ['veth_peer_queues', 'veth_peer_offloads'],
  },
  {
    title: 'the same with the peer out of sight',
    device: 'veth-few-rx-queues-peer-away',
    host: 'linux-6.18',
    codes: ['veth_peer_queues', 'veth_peer_offloads', 'device_down'],
  },
  { title: 'veth with a jumbo peer', device: 'veth-jumbo-peer', codes: ['veth_peer_offloads'] },
  {
    title: 'veth with a jumbo peer on Linux 5.10',
    device: 'veth-jumbo-peer',
    host: 'debian-11',
    codes: ['kernel_too_old', 'veth_peer_mtu', 'veth_peer_offloads'],
  },
  {
    title: 'veth with one queue',
    device: 'veth-one-queue',
    host: 'linux-6.18',
    codes: ['veth_peer_offloads', 'single_queue'],
  },

  { title: 'the loopback', device: 'loopback', codes: ['device_loopback'] },
  { title: 'a tunnel without Ethernet', device: 'wireguard', codes: ['device_not_ethernet'] },
  { title: 'a device that does not exist', device: 'missing', host: 'no-capabilities', codes: ['device_missing'] },

  {
    title: 'an ordinary user',
    device: 'virtio-32-queues',
    host: 'no-capabilities',
    codes: ['cap_net_admin_missing', 'cap_bpf_missing', 'cap_perfmon_missing', 'cap_sys_admin_missing', ...okVirtio],
  },
  {
    title: 'a service with three capabilities that cannot mount bpffs',
    device: 'virtio-foreign-unseen',
    host: 'ambient-capabilities',
    codes: ['bpffs_forbidden', 'foreign_xdp', 'cap_sys_admin_missing', 'virtio_offloads_off'],
  },
  {
    title: 'root of a user namespace',
    device: 'virtio-32-queues',
    host: 'user-namespace',
    codes: ['user_namespace', ...okVirtio],
  },
  {
    title: 'bpf(2) forbidden by seccomp',
    device: 'virtio-32-queues',
    host: 'seccomp',
    codes: ['bpf_refused', ...okVirtio],
  },
  {
    title: 'a shell of ip netns exec',
    device: 'veth-32-queues',
    host: 'netns-exec',
    codes: ['bpffs_private', 'veth_peer_offloads'],
  },
  {
    title: 'a shell with mounts of its own',
    device: 'veth-32-queues',
    host: 'private-mounts',
    codes: ['bpffs_private', 'veth_peer_offloads'],
  },
  {
    title: 'Linux 5.10',
    device: 'virtio-all-queues-in-use',
    host: 'debian-11',
    codes: ['kernel_too_old', 'virtio_tx_rings', 'virtio_offloads_off'],
  },
  {
    title: 'Linux 5.10 with a limit on locked memory',
    device: 'virtio-32-queues',
    host: 'debian-11-service',
    codes: ['kernel_too_old', 'memlock_low', ...okVirtio],
  },
  {
    title: 'Linux 5.10 that may not be asked',
    device: 'virtio-32-queues',
    host: 'old-5.10-no-rights',
    codes: [
      'cap_net_admin_missing',
      'cap_bpf_missing',
      'cap_perfmon_missing',
      'kernel_too_old',
      'memlock_low',
      'cap_sys_admin_missing',
      ...okVirtio,
    ],
  },
  {
    title: 'an enterprise kernel with everything backported',
    device: 'virtio-32-queues',
    host: 'backported-5.14',
    codes: ['kernel_untested', ...okVirtio],
  },
  {
    title: 'a self-built kernel on one CPU',
    device: 'virtio-mq-off',
    host: 'bare',
    codes: [
      'kernel_feature_missing',
      'btf_missing',
      'bpffs_missing',
      'jit_off',
      'single_cpu',
      'virtio_offloads_off',
      'virtio_xdp_tx_locked',
      'single_queue',
    ],
  },
];

function findingsOf({ device, host = 'debian-12', options = {} }: Omit<Case, 'title' | 'codes'>): Finding[] {
  return diagnose(recordedFacts(device, host), { mode: 'native', ...options });
}

function only(code: string, findings: readonly Finding[]): Finding {
  const found = findings.filter((finding) => finding.code === code);
  assert.equal(found.length, 1, `${code} in ${findings.map((finding) => finding.code).join(' ')}`);
  return found[0]!;
}

describe('preflight on recorded machines', () => {
  for (const { title, codes, ...where } of cases) {
    it(`${title}: ${codes.join(', ') || 'nothing'}`, () => {
      assert.deepEqual(
        findingsOf(where).map(({ code }) => code),
        codes,
      );
    });
  }

  it('every finding of the table occurs in one of these cases', () => {
    const seen = new Set(cases.flatMap(({ codes }) => codes));
    assert.deepEqual([...seen].sort(), Object.keys(findingTable).sort());
  });

  it('a finding that blocks or degrades always says what to do', () => {
    const silent = cases
      .flatMap((where) => findingsOf(where))
      .filter(({ severity, remedy }) => severity !== 'info' && remedy === null);
    assert.deepEqual(
      silent.map(({ code, message }) => `${code}: ${message}`),
      ['single_queue: ens4 receives on one queue.', 'single_queue: ens4 receives on one queue.'],
    );
  });

  it('facts that were stored as JSON give the same findings', () => {
    for (const { device, host = 'debian-12', options = {} } of cases) {
      const facts = recordedFacts(device, host);
      const stored = JSON.parse(JSON.stringify(facts)) as DeviceFacts;
      const all = { mode: 'native', ...options } as const;
      assert.deepEqual(diagnose(stored, all), diagnose(facts, all), device);
    }
  });
});

describe('what preflight tells to do', () => {
  it('names every fixed receive offload, for QEMU and libvirt, and the hypervisor as the one to act', () => {
    const found = only('virtio_offloads_fixed', findingsOf({ device: 'virtio-offloads-fixed' }));
    assert.equal(found.whoMustChange, 'hypervisor');
    assert.match(found.message, /^eth0 has guest_csum, guest_tso4, guest_tso6, guest_ecn, guest_ufo on/);
    assert.match(found.remedy!, /ctrl_guest_offloads=on \(the default\)/);
    assert.match(found.remedy!, /guest_csum=off,guest_tso4=off,guest_tso6=off,guest_ecn=off,guest_ufo=off/);
    assert.match(found.remedy!, /<guest csum='off' tso4='off'/);
  });

  it('asks for the control queue where it is missing', () => {
    const found = only('virtio_offloads_fixed', findingsOf({ device: 'virtio-no-control-queue' }));
    assert.match(found.remedy!, /ctrl_vq=on,ctrl_guest_offloads=on/);
  });

  it('does not believe in control of offloads without a control queue, which would stop the guest', () => {
    const facts = recordedFacts('virtio-no-control-queue', 'debian-12');
    const CTRL_GUEST_OFFLOADS = 2;
    const features = facts.virtioFeatures!.split('').with(CTRL_GUEST_OFFLOADS, '1').join('');
    const found = only('virtio_offloads_fixed', diagnose({ ...facts, virtioFeatures: features }, { mode: 'native' }));
    assert.match(found.remedy!, /ctrl_vq=on/);
  });

  it('gives the ethtool command where the device has more queues, and the hypervisor option where not', () => {
    const where = { device: 'virtio-32-queues' };
    const guest = only('queues_too_few', findingsOf({ ...where, options: { queues: 16 } }));
    assert.deepEqual([guest.whoMustChange, guest.remedy], ['guest', 'ethtool -L eth0 combined 16']);
    assert.match(guest.message, /uses 8 receive queues; 16 were asked for/);
    const host = only('queues_too_few', findingsOf({ ...where, options: { queues: 48 } }));
    assert.equal(host.whoMustChange, 'hypervisor');
    assert.match(host.remedy!, /queues=48 -device virtio-net-pci,…,mq=on,vectors=98/);
  });

  it('detaches first where the queues of an attached device are too few', () => {
    const found = only('queues_too_few', findingsOf({ device: 'virtio-ours', options: { queues: 16 } }));
    assert.equal(found.remedy, 'vnicctl detach eth0; ethtool -L eth0 combined 16');
  });

  it('says by how much receive queues grow', () => {
    const found = only('virtio_rx_queues_grow', findingsOf({ device: 'virtio-32-queues' }));
    assert.match(found.message, /from 8 to 16/);
  });

  it('halves the channels of ena', () => {
    const found = only('driver_queues_reserved', findingsOf({ device: 'ena-all-channels' }));
    assert.equal(found.remedy, 'ethtool -L ens5 combined 4');
  });

  it('names the owner of a foreign link: program, id, link, process and pin', () => {
    const found = only('foreign_xdp', findingsOf({ device: 'virtio-foreign-link' }));
    assert.match(
      found.message,
      /xdp_filter, id 77, native mode, attached by link 5, held by process 812 \(xdp-filterd\)/,
    );
    assert.match(found.message, /pinned at \/sys\/fs\/bpf\/filter\/link\.$/);
    assert.match(found.remedy!, /process 812, xdp-filterd.*bpftool link detach id 5/);
    assert.deepEqual(found.details, {
      mode: 'native',
      program: 'xdp_filter',
      programId: 77,
      tag: '8899aabbccddeeff',
      linkId: 5,
      holders: [{ pid: 812, command: 'xdp-filterd' }],
      pins: ['/sys/fs/bpf/filter/link'],
    });
  });

  it('gives the ip command that takes a netlink attachment off, in its own mode', () => {
    const found = only('foreign_xdp', findingsOf({ device: 'virtio-foreign-netlink' }));
    assert.match(found.message, /xdp_drop, id 78, generic mode, attached by netlink/);
    assert.equal(found.remedy, 'If nothing needs it: ip link set dev eth0 xdpgeneric off');
  });

  it('does not claim to know who attached what it may not see', () => {
    const found = only('foreign_xdp', findingsOf({ device: 'virtio-foreign-unseen', host: 'ambient-capabilities' }));
    assert.match(found.message, /name not visible, id 79, native mode, attached by somebody who may not be seen/);
  });

  it('says what a kernel lacks, or that it could not be asked', () => {
    const lacks = only('kernel_too_old', findingsOf({ device: 'virtio-32-queues', host: 'debian-11' }));
    assert.equal(lacks.message, 'Linux 5.10.0-35-amd64 is older than 6.1. It lacks multi-buffer XDP (Linux 5.18).');
    const silent = only('kernel_too_old', findingsOf({ device: 'virtio-32-queues', host: 'old-5.10-no-rights' }));
    assert.match(silent.message, /It may lack XDP programs .*, and could not be asked\.$/);
  });

  it('has the limit of one page for other page sizes, too', () => {
    assert.equal(singleBufferMtu(4096), 3506);
    assert.equal(singleBufferMtu(65536), 64946);
  });
});

describe('the verdict of preflight', () => {
  it('is ok, degraded or blocked', () => {
    assert.equal(verdict(findingsOf({ device: 'virtio-32-queues' })), 'ok');
    assert.equal(verdict(findingsOf({ device: 'virtio-rss' })), 'degraded');
    assert.equal(verdict(findingsOf({ device: 'virtio-mtu-9000' })), 'blocked');
    assert.equal(verdict([]), 'ok');
  });

  it('lets a degraded device through', () => {
    refuseIfBlocked(findingsOf({ device: 'virtio-rss' }));
  });

  const refusals: { device: string; host?: string; code: keyof typeof errorTable; exitCode: number }[] = [
    { device: 'missing', code: 'not_found', exitCode: 4 },
    { device: 'virtio-32-queues', host: 'no-capabilities', code: 'not_permitted', exitCode: 5 },
    { device: 'virtio-32-queues', host: 'user-namespace', code: 'not_permitted', exitCode: 5 },
    { device: 'virtio-foreign-link', code: 'conflict', exitCode: 6 },
    { device: 'virtio-mtu-9000', code: 'preflight_refused', exitCode: 3 },
    { device: 'loopback', code: 'preflight_refused', exitCode: 3 },
  ];
  for (const { device, host, code, exitCode } of refusals) {
    it(`refuses ${device}${host === undefined ? '' : ` on ${host}`} with ${code}, exit code ${exitCode}`, () => {
      const findings = findingsOf({ device, ...(host === undefined ? {} : { host }) });
      const error = thrownBy(() => refuseIfBlocked(findings));
      assert.deepEqual([error.code, error.exitCode], [code, exitCode]);
      assert.ok(error.message.startsWith(findings[0]!.message));
      assert.equal(error.remedy, findings[0]!.remedy);
    });
  }

  it('carries all that blocks, and says how many more there are', () => {
    const error = thrownBy(() => refuseIfBlocked(findingsOf({ device: 'ena-all-channels' })));
    assert.match(error.message, /half of them at most\. \(1 more finding blocks it, too\.\)$/);
    const findings = error.details['findings'] as Finding[];
    assert.deepEqual(
      findings.map(({ code }) => code),
      ['driver_queues_reserved', 'mtu_too_large'],
    );
  });
});

describe('gathering', () => {
  function changed(change: Partial<PreflightPorts>): (ports: PreflightPorts) => PreflightPorts {
    return (ports) => ({ ...ports, ...change });
  }

  it('never hands an option or a path to ip as a device name', () => {
    const commands: string[] = [];
    for (const device of ['-force', '../../etc', 'a b', '', 'x'.repeat(200)]) {
      const facts = recordedFacts(
        'missing',
        'debian-12',
        (ports) => ({
          ...ports,
          run: (command, args) => {
            commands.push([command, ...args].join(' '));
            return ports.run(command, args);
          },
        }),
        device,
      );
      assert.equal(facts.link, null);
    }
    assert.deepEqual(
      commands.filter((command) => command.startsWith('ip ')),
      [],
    );
  });

  it('says so when ip is not installed', () => {
    const error = thrownBy(() =>
      recordedFacts(
        'virtio-32-queues',
        'debian-12',
        changed({ run: () => ({ status: null, stdout: '', stderr: '' }) }),
      ),
    );
    assert.match(error.message, /ip is not installed/);
    assert.equal(error.remedy, 'apt-get install iproute2');
  });

  it('passes on what ip says of a failure that is not about the name', () => {
    const failure = { status: 2, stdout: '', stderr: 'Cannot open netlink socket: Permission denied\n' };
    const error = thrownBy(() => recordedFacts('virtio-32-queues', 'debian-12', changed({ run: () => failure })));
    assert.match(error.message, /Cannot open netlink socket: Permission denied/);
  });

  it('believes no probe that was not permitted', () => {
    const facts = recordedFacts('virtio-32-queues', 'no-capabilities', (ports) => ({
      ...ports,
      kernel: { ...ports.kernel, bpfWorks: () => false, hasFeature: () => false },
    }));
    assert.equal(facts.host.bpfWorks, null);
    assert.ok(Object.values(facts.host.features).every((answer) => answer === null));
  });

  it('works without ethtool', () => {
    const facts = recordedFacts('mlx5-lro', 'linux-6.18', (ports) => ({
      ...ports,
      run: (command, args) =>
        command === 'ethtool' ? { status: null, stdout: '', stderr: '' } : ports.run(command, args),
    }));
    assert.equal(facts.link?.offloads.groHw, null);
    assert.equal(facts.link?.offloads.lro, true);
  });

  it('reads CPUs as drivers count them', () => {
    const facts = recordedFacts('virtio-32-queues', 'debian-12', (ports) => ({
      ...ports,
      files: {
        ...ports.files,
        read: (file) =>
          ({ '/sys/devices/system/cpu/possible': '0-3,8-11\n', '/sys/devices/system/cpu/online': '0,2-3\n' })[file] ??
          ports.files.read(file),
      },
    }));
    assert.deepEqual([facts.host.cpuIds, facts.host.onlineCpus], [12, 3]);
  });
});
