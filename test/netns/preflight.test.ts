// SPDX-License-Identifier: Apache-2.0
/** Preflight against the real kernel: what it says of a device, and whether the kernel agrees when it is tried anyway. */
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, readdirSync, readlinkSync, rmSync } from 'node:fs';
import { constants, release } from 'node:os';
import path from 'node:path';
import type { Fd } from '../../src/loader/fd.ts';
import { loadNative, type Native } from '../../src/loader/ffi/index.ts';
import { attachXdp, linkInfo, type XdpMode } from '../../src/loader/link.ts';
import { inNetns } from '../../src/loader/netns.ts';
import { BpfObject } from '../../src/loader/object.ts';
import {
  type DeviceFacts,
  type DiagnoseOptions,
  diagnose,
  type Finding,
  gatherFacts,
  kernelAtLeast,
  refuseIfBlocked,
  singleBufferMtu,
  verdict,
} from '../../src/loader/preflight/index.ts';
import { programInfo } from '../../src/loader/program.ts';
import { compileTestProgram } from '../support/compile.ts';
import { requireRoot } from '../support/ffi.ts';
import { skip } from '../support/skip.ts';
import { thrownBy } from '../support/thrown.ts';

const { errno } = constants;

const NAMESPACE = `vnic-pf-${process.pid}`;
const OTHER_NAMESPACE = `vnic-pf-other-${process.pid}`;
const PINS = `/sys/fs/bpf/vnic-pf-${process.pid}`;
const OUR_PINS = `${PINS}/ours`;
const PREFLIGHT = path.join(import.meta.dirname, '../../src/loader/preflight/index.ts');
const FFI = path.join(import.meta.dirname, '../../src/loader/ffi/index.ts');

describe('preflight on devices of this kernel', () => {
  let native: Native;
  let object: BpfObject;
  let open: Fd[];

  function ip(command: string, namespace = NAMESPACE): string {
    return execFileSync('ip', ['-n', namespace, ...command.split(' ')], { encoding: 'utf8' });
  }

  function inside(command: string, namespace = NAMESPACE) {
    return spawnSync('nsenter', [`--net=/run/netns/${namespace}`, 'sh', '-ec', command], { encoding: 'utf8' });
  }

  /** Does what a finding says, word for word. */
  function perform(remedy: string | null): void {
    const command = remedy?.replace(/^.*if nothing needs it: /i, '') ?? '';
    const result = inside(command);
    assert.equal(result.status, 0, `${command}: ${result.stderr}`);
  }

  function facts(device = 'pf0', namespace = NAMESPACE): DeviceFacts {
    return inNetns(native, namespace, () => gatherFacts(native, device, { pinFolder: OUR_PINS }));
  }

  function findings(options: Partial<DiagnoseOptions> = {}, device = 'pf0', namespace = NAMESPACE): Finding[] {
    return diagnose(facts(device, namespace), { mode: 'native', ...options });
  }

  function codes(options: Partial<DiagnoseOptions> = {}, device = 'pf0'): string[] {
    return findings(options, device).map(({ code }) => code);
  }

  function only(code: string, list: readonly Finding[]): Finding {
    const found = list.filter((finding) => finding.code === code);
    assert.equal(found.length, 1, `${code} in ${list.map((finding) => finding.code).join(' ')}`);
    return found[0]!;
  }

  /** Attaches by a link that lasts until the test ends. */
  function attach(program: string, device = 'pf0', mode: XdpMode = 'native', namespace = NAMESPACE): Fd {
    const { link } = facts(device, namespace);
    assert.ok(link);
    using fd = object.programFd(program);
    const attached = inNetns(native, namespace, () => attachXdp(native, fd, link.ifindex, mode));
    open.push(attached);
    return attached;
  }

  /** The number, because two names share that of EOPNOTSUPP. */
  function errnoOf(action: () => unknown): unknown {
    return thrownBy(action).details['errnoNumber'];
  }

  function kernelTellsXdpFeatures(): boolean {
    return kernelAtLeast(release(), 6, 3);
  }

  /** BPF objects and sockets that this process has open. */
  function openDescriptors(): string[] {
    const folder = '/proc/self/fd';
    return readdirSync(folder)
      .flatMap((fd) => {
        try {
          return [readlinkSync(path.join(folder, fd))];
        } catch {
          return []; // the descriptor that listed the folder
        }
      })
      .filter((target) => /bpf|socket/.test(target))
      .sort();
  }

  function addPair(queues: number, namespace = NAMESPACE): void {
    ip(
      `link add pf0 numtxqueues ${queues} numrxqueues ${queues} type veth peer name pf1 numtxqueues ${queues} numrxqueues ${queues}`,
      namespace,
    );
    ip('link set pf0 up', namespace);
    ip('link set pf1 up', namespace);
  }

  function pin(fd: Fd, file: string): void {
    mkdirSync(path.dirname(file), { recursive: true });
    native.check(native.libbpf.bpf_obj_pin(fd.value, file), 'bpf_obj_pin', file);
  }

  before(function () {
    requireRoot(this);
    native = loadNative();
    object = BpfObject.load(native, compileTestProgram('preflight'));
  });

  beforeEach(() => {
    open = [];
    execFileSync('ip', ['netns', 'add', NAMESPACE]);
    addPair(4);
  });

  afterEach(() => {
    for (const fd of open) fd.close();
    rmSync(PINS, { recursive: true, force: true });
    for (const name of [NAMESPACE, OTHER_NAMESPACE]) spawnSync('ip', ['netns', 'del', name]);
  });

  after(() => (object as BpfObject | undefined)?.close());

  it('finds a veth pair of 32 queues fine, and the kernel takes the program', () => {
    ip('link del pf0');
    addPair(32);
    const list = findings({ queues: 32 });
    assert.deepEqual(
      list.map(({ code }) => code),
      ['veth_peer_offloads'],
    );
    assert.equal(verdict(list), 'ok');
    refuseIfBlocked(list);
    attach('pf_frags');
    assert.equal(facts('pf1').link?.offloads.tso, false, 'segmentation offload of the peer, as foretold');
  });

  it('learns XDP features from every kernel that tells them', () => {
    const { link } = facts();
    // enum netdev_xdp_act: basic, redirect and more than one buffer
    const expected = kernelTellsXdpFeatures() ? 0b100011 : null;
    assert.equal(link?.xdpFeatures ?? null, expected);
  });

  it('reads the device as ip and ethtool show it', () => {
    ip('link set pf0 mtu 1400');
    const { link } = facts();
    assert.ok(link);
    assert.deepEqual(
      { name: link.name, driver: link.driver, kind: link.kind, mtu: link.mtu, up: link.up },
      { name: 'pf0', driver: 'veth', kind: 'veth', mtu: 1400, up: true },
    );
    assert.deepEqual(link.channels, { maxRx: 4, maxTx: 4, maxCombined: 0, rx: 4, tx: 4, combined: 0 });
    assert.deepEqual(link.peer, { name: 'pf1', mtu: 1500, txQueues: 4 });
    assert.deepEqual([link.offloads.tso, link.offloads.gso, link.offloads.lro], [true, true, false]);
    inside('ethtool -K pf0 gro on tso off');
    const changed = facts().link?.offloads;
    assert.deepEqual([changed?.gro, changed?.tso], [true, false]);
  });

  it('knows a device by its alternative name, and says when it is down', () => {
    ip('link property add dev pf0 altname a-very-long-name-of-a-device');
    ip('link set pf0 down');
    const list = findings({}, 'a-very-long-name-of-a-device');
    assert.match(only('device_down', list).message, /^pf0 is down/);
    perform(only('device_down', list).remedy);
    assert.deepEqual(codes(), ['veth_peer_offloads']);
  });

  it('refuses a device that does not exist: not found', () => {
    assert.deepEqual(codes({}, 'pf9'), ['device_missing']);
    assert.equal(thrownBy(() => refuseIfBlocked(findings({}, 'pf9'))).code, 'not_found');
  });

  it('refuses the loopback, as the kernel does in native mode', () => {
    ip('link set lo up');
    assert.deepEqual(codes({}, 'lo'), ['device_loopback']);
    assert.equal(
      errnoOf(() => attach('pf_frags', 'lo')),
      errno.EOPNOTSUPP,
    );
  });

  it('knows that a bridge has no native XDP, and that generic XDP works', () => {
    ip('link add pfbr type bridge');
    ip('link set pfbr up');
    assert.ok(codes({}, 'pfbr').includes(kernelTellsXdpFeatures() ? 'native_unsupported' : 'native_unknown'));
    assert.equal(
      errnoOf(() => attach('pf_frags', 'pfbr')),
      errno.EOPNOTSUPP,
    );
    const generic = findings({ mode: 'generic' }, 'pfbr');
    assert.equal(verdict(generic), 'degraded');
    only('generic_mode', generic);
    attach('pf_frags', 'pfbr', 'generic');
  });

  it('names a program attached by netlink, gives the command that takes it off, and the kernel agrees', () => {
    ip(`link set dev pf0 xdpdrv obj ${compileTestProgram('preflight')} program pf_one_buffer`);
    const [shown] = JSON.parse(ip('-j -d link show pf0')) as { xdp: { prog: { id: number; tag: string } } }[];
    const found = only('foreign_xdp', findings());
    assert.equal(found.details?.['program'], 'pf_one_buffer');
    assert.equal(found.details['programId'], shown!.xdp.prog.id);
    assert.equal(found.details['tag'], shown!.xdp.prog.tag);
    assert.equal(found.details['linkId'], null);
    assert.match(found.message, /native mode, attached by netlink/);
    assert.equal(thrownBy(() => refuseIfBlocked([found])).code, 'conflict');
    assert.equal(
      errnoOf(() => attach('pf_frags')),
      errno.EBUSY,
    );
    perform(found.remedy);
    assert.deepEqual(codes(), ['veth_peer_offloads']);
    attach('pf_frags');
  });

  it('names a generic program that stands in the way of a native one', () => {
    ip(`link set dev pf0 xdpgeneric obj ${compileTestProgram('preflight')} program pf_one_buffer`);
    const found = only('foreign_xdp', findings());
    assert.equal(found.details?.['mode'], 'generic');
    assert.equal(
      errnoOf(() => attach('pf_frags')),
      errno.EEXIST,
    );
    perform(found.remedy);
    attach('pf_frags');
  });

  it('names a program attached by a link: link, process and pin; netlink cannot replace it', () => {
    const link = attach('pf_one_buffer');
    pin(link, `${PINS}/theirs/link`);
    using program = object.programFd('pf_one_buffer');
    const found = only('foreign_xdp', findings());
    const { id: linkId } = linkInfo(native, link);
    assert.equal(found.details?.['linkId'], linkId);
    assert.equal(found.details['programId'], programInfo(native, program).id);
    assert.deepEqual(found.details['pins'], [`${PINS}/theirs/link`]);
    const holders = found.details['holders'] as { pid: number; command: string }[];
    assert.ok(
      holders.some(({ pid }) => pid === process.pid),
      JSON.stringify(holders),
    );
    const netlink = inside(`ip link set dev pf0 xdpdrv obj ${compileTestProgram('preflight')} program pf_frags`);
    assert.match(netlink.stderr, /busy|can't replace active BPF XDP link/i);
    assert.equal(
      errnoOf(() => attach('pf_frags')),
      errno.EBUSY,
    );
    perform(found.remedy);
    assert.deepEqual(codes(), ['veth_peer_offloads']);
  });

  it('knows its own program by name and pinned link; the name alone is not enough', () => {
    const link = attach('vnic_root');
    assert.ok(codes().includes('foreign_xdp'), 'not pinned');
    pin(link, `${PINS}/elsewhere/link`);
    assert.ok(codes().includes('foreign_xdp'), 'pinned elsewhere');
    pin(link, `${OUR_PINS}/link`);
    const list = findings();
    assert.equal(only('already_attached', list).details?.['linkId'], linkInfo(native, link).id);
    assert.equal(verdict(list), 'ok');
  });

  it('does not take a link of another namespace for one of a device with the same index', () => {
    execFileSync('ip', ['netns', 'add', OTHER_NAMESPACE]);
    addPair(4, OTHER_NAMESPACE);
    assert.equal(facts().link?.ifindex, facts('pf0', OTHER_NAMESPACE).link?.ifindex);
    const here = attach('pf_frags');
    const there = attach('pf_one_buffer', 'pf0', 'native', OTHER_NAMESPACE);
    assert.equal(only('foreign_xdp', findings()).details?.['linkId'], linkInfo(native, here).id);
    const other = only('foreign_xdp', findings({}, 'pf0', OTHER_NAMESPACE));
    assert.equal(other.details?.['linkId'], linkInfo(native, there).id);
  });

  it('has the kernel’s limit of one page: it holds for one buffer, and not for frags', () => {
    const limit = singleBufferMtu(facts().host.pageSizeBytes);
    ip(`link set pf1 mtu ${limit + 1}`);
    assert.equal(
      errnoOf(() => attach('pf_one_buffer')),
      errno.ERANGE,
    );
    assert.deepEqual(codes(), ['veth_peer_offloads'], 'the dataplane has frags');
    attach('pf_frags').close();
    ip(`link set pf1 mtu ${limit}`);
    attach('pf_one_buffer');
  });

  it('finds too few receive queues for the peer; the command given cures it', () => {
    inside('ethtool -L pf0 rx 2');
    const found = only('veth_peer_queues', findings());
    assert.equal(verdict([found]), 'blocked');
    assert.equal(
      errnoOf(() => attach('pf_frags')),
      errno.ENOSPC,
    );
    perform(found.remedy);
    assert.deepEqual(codes(), ['veth_peer_offloads']);
    attach('pf_frags');
  });

  it('finds the same when the peer is in another namespace', function () {
    if (!kernelTellsXdpFeatures())
      skip(this, 'before Linux 6.3 nothing tells what the peer of another namespace needs');
    execFileSync('ip', ['netns', 'add', OTHER_NAMESPACE]);
    ip(`link set pf1 netns ${OTHER_NAMESPACE}`);
    assert.deepEqual(codes(), ['veth_peer_offloads']);
    inside('ethtool -L pf0 rx 2');
    assert.equal(facts().link?.peer, null);
    assert.match(only('veth_peer_queues', findings()).message, /its peer in another namespace sends on more/);
    assert.equal(
      errnoOf(() => attach('pf_frags')),
      errno.ENOSPC,
    );
  });

  it('refuses more queues than are in use; the command given cures it', () => {
    inside('ethtool -L pf0 rx 4 tx 4; ethtool -L pf1 rx 2 tx 2; ethtool -L pf0 rx 2 tx 2');
    const found = only('queues_too_few', findings({ queues: 4 }));
    assert.match(found.message, /uses 2 receive queues; 4 were asked for/);
    perform(found.remedy);
    assert.deepEqual(codes({ queues: 4 }), ['veth_peer_offloads']);
  });

  it('changes nothing on the device and leaves no descriptor open', () => {
    attach('pf_one_buffer');
    const before = ip('-j -d link show');
    const descriptors = openDescriptors();
    findings();
    findings({ mode: 'generic' }, 'lo');
    assert.equal(ip('-j -d link show'), before);
    assert.deepEqual(openDescriptors(), descriptors);
  });

  describe('in a process with fewer rights', () => {
    /** Codes that a child process finds, and whether the kernel lets it make a map. */
    function childFindings(command: string): { codes: string[]; mapErrno: number } {
      const script = `
        const { diagnose, gatherFacts } = await import('${PREFLIGHT}');
        const { loadNative } = await import('${FFI}');
        const native = loadNative();
        const facts = gatherFacts(native, 'pf0', { pinFolder: '${OUR_PINS}' });
        const codes = diagnose(facts, { mode: 'native' }).map(({ code }) => code);
        const map = native.libbpf.bpf_map_create(1, 'pf', 4, 4, 1, null);
        console.log(JSON.stringify({ codes, mapErrno: Math.min(map, 0) }));`;
      const [program, ...args]: [string, ...string[]] = [
        'env',
        ...command.split(' '),
        process.execPath,
        '--input-type=module',
        '-e',
        script,
      ];
      return JSON.parse(execFileSync(program, args, { encoding: 'utf8' })) as { codes: string[]; mapErrno: number };
    }

    const enter = () => `nsenter --net=/run/netns/${NAMESPACE}`;

    it('with all rights finds nothing (so the others prove something)', () => {
      assert.deepEqual(childFindings(enter()), { codes: ['veth_peer_offloads'], mapErrno: 0 });
    });

    it('names each missing capability, and the kernel refuses', () => {
      const result = childFindings(`${enter()} setpriv --bounding-set=-all --inh-caps=-all`);
      assert.deepEqual(result.codes.slice(0, 3), ['cap_net_admin_missing', 'cap_bpf_missing', 'cap_perfmon_missing']);
      assert.ok(result.codes.includes('cap_sys_admin_missing'));
      assert.equal(result.mapErrno, -1);
    });

    it('believes what may be probed: with CAP_BPF and CAP_NET_ADMIN no feature is missing', () => {
      const result = childFindings(`${enter()} setpriv --bounding-set=-sys_admin --inh-caps=-all`);
      assert.deepEqual(result, { codes: ['cap_sys_admin_missing', 'veth_peer_offloads'], mapErrno: 0 });
    });

    it('tells a user namespace, whose capabilities the kernel does not count', () => {
      const result = childFindings(`${enter()} unshare --user --map-root-user`);
      assert.equal(result.codes[0], 'user_namespace');
      assert.equal(result.mapErrno, -1);
    });

    it('tells that ip netns exec hides bpffs', () => {
      assert.equal(childFindings(`ip netns exec ${NAMESPACE}`).codes[0], 'bpffs_private');
    });
  });
});
