// SPDX-License-Identifier: Apache-2.0
/** What the host and the process's rights mean for attaching. Pure. */
import { type HostFacts, type KernelFeature, kernelAtLeast } from '../facts.ts';
import { type Finding, finding } from '../finding.ts';
import type { FindingCode } from '../finding-table.ts';

const capabilityCodes: readonly (readonly [
  code: FindingCode,
  capability: string,
  fact: 'bpf' | 'netAdmin' | 'perfmon',
])[] = [
  ['cap_net_admin_missing', 'CAP_NET_ADMIN', 'netAdmin'],
  ['cap_bpf_missing', 'CAP_BPF', 'bpf'],
  ['cap_perfmon_missing', 'CAP_PERFMON', 'perfmon'],
];

const ALL_CAPABILITIES = 'CAP_NET_ADMIN CAP_BPF CAP_PERFMON CAP_SYS_ADMIN';
const setcapNames = ALL_CAPABILITIES.toLowerCase().replaceAll(' ', ',');
const grantRemedy =
  `Run it with sudo; or give the runtime the capabilities: setcap ${setcapNames}+ep "$(readlink -f "$(command -v node)")"; ` +
  `or in a systemd unit: AmbientCapabilities=${ALL_CAPABILITIES}`;

/** What each probed feature is called, and what it is for. */
const featureNames: Readonly<Record<KernelFeature, string>> = {
  xdp: 'XDP programs (CONFIG_BPF_SYSCALL, CONFIG_NET)',
  schedCls: 'tc programs (CONFIG_NET_CLS_BPF)',
  progArray: 'BPF_MAP_TYPE_PROG_ARRAY',
  cpumap: 'BPF_MAP_TYPE_CPUMAP (CONFIG_BPF_SYSCALL, CONFIG_NET)',
  lpmTrie: 'BPF_MAP_TYPE_LPM_TRIE',
  arrayOfMaps: 'BPF_MAP_TYPE_ARRAY_OF_MAPS',
  ringbuf: 'BPF_MAP_TYPE_RINGBUF (Linux 5.8)',
  xdpFrags: 'multi-buffer XDP (Linux 5.18)',
};

/** Enough for the default tables; below it a map of 100,000 flows does not fit. */
const MEMLOCK_NEEDED_BYTES = 256 * 1024 * 1024;

function rightsFindings(host: HostFacts): Finding[] {
  const { capabilities } = host;
  if (!host.initialUserNamespace) {
    return [
      finding(
        'user_namespace',
        'This process is in a user namespace; bpf(2) counts capabilities of the first one only.',
        'Run it outside the container, or in one without a user namespace of its own (podman: sudo podman run --privileged).',
        { source: 'kernel/bpf/syscall.c' },
      ),
    ];
  }
  const findings = capabilityCodes
    .filter(([, , fact]) => !capabilities[fact])
    .map(([code, capability]) => finding(code, `${capability} is missing.`, grantRemedy, { details: { capability } }));
  if (!capabilities.sysAdmin) {
    findings.push(
      finding(
        'cap_sys_admin_missing',
        'CAP_SYS_ADMIN is missing: programs and links of others cannot be named, --netns cannot be used.',
        grantRemedy,
        { details: { capability: 'CAP_SYS_ADMIN' } },
      ),
    );
  }
  if (host.bpfWorks === false) {
    findings.push(
      finding(
        'bpf_refused',
        'The kernel refuses to make a BPF map although CAP_BPF is there.',
        'Allow bpf(2) for this process: in a container start it with --security-opt seccomp=unconfined and --cap-add BPF; see also /sys/kernel/security/lockdown and: dmesg | grep -i denied',
      ),
    );
  }
  return findings;
}

function kernelFindings(host: HostFacts): Finding[] {
  const { kernelRelease, features, btf } = host;
  const findings: Finding[] = [];
  const names = Object.keys(featureNames) as KernelFeature[];
  const missing = names.filter((name) => features[name] === false);
  const unproven = names.filter((name) => features[name] !== true);
  const upgrade = 'Install a kernel 6.1 or newer (Debian 12, Ubuntu 24.04 or later) and boot it.';
  if (!kernelAtLeast(kernelRelease, 6, 1)) {
    const details = { kernelRelease, missing, unproven };
    if (unproven.length === 0) {
      findings.push(
        finding('kernel_untested', `Linux ${kernelRelease} is older than 6.1, the oldest that is tested.`, upgrade, {
          details,
        }),
      );
    } else {
      const what = unproven.map((name) => featureNames[name]).join(', ');
      const text =
        missing.length > 0
          ? `It lacks ${missing.map((name) => featureNames[name]).join(', ')}.`
          : `It may lack ${what}, and could not be asked.`;
      findings.push(
        finding('kernel_too_old', `Linux ${kernelRelease} is older than 6.1. ${text}`, upgrade, { details }),
      );
    }
  } else {
    for (const feature of missing) {
      findings.push(
        finding(
          'kernel_feature_missing',
          `Linux ${kernelRelease} was built without ${featureNames[feature]}.`,
          'Boot a kernel of the distribution, or build this one with the option named.',
          { details: { feature } },
        ),
      );
    }
  }
  if (!btf) {
    findings.push(
      finding(
        'btf_missing',
        'There is no /sys/kernel/btf/vmlinux.',
        'Boot a kernel built with CONFIG_DEBUG_INFO_BTF=y (those of Debian and Ubuntu are).',
      ),
    );
  }
  return findings;
}

function bpffsFindings(host: HostFacts): Finding[] {
  if (host.bpffsMounted) return [];
  const message = 'No BPF file system is mounted at /sys/fs/bpf.';
  if (host.privateMounts === true) {
    return [
      finding(
        'bpffs_private',
        `${message} This shell has mounts of its own (ip netns exec does that); pins would end with it.`,
        'Leave that shell and use --netns NAME, or enter the namespace with: nsenter --net=/run/netns/NAME bash',
      ),
    ];
  }
  const mount = 'mount -t bpf bpf /sys/fs/bpf';
  if (!host.capabilities.sysAdmin) return [finding('bpffs_forbidden', message, `sudo ${mount}`)];
  return [finding('bpffs_missing', `${message} Attaching mounts it.`, mount)];
}

function speedFindings(host: HostFacts): Finding[] {
  const findings: Finding[] = [];
  if (host.jitEnable === 0) {
    findings.push(
      finding('jit_off', 'The BPF compiler is off: programs are interpreted.', 'sysctl -w net.core.bpf_jit_enable=1'),
    );
  }
  if (host.onlineCpus === 1) {
    findings.push(
      finding(
        'single_cpu',
        'One CPU is online: there is nothing to steer flows to.',
        'QEMU: -smp N; libvirt: <vcpu>N</vcpu>',
      ),
    );
  }
  return findings;
}

function memlockFindings(host: HostFacts): Finding[] {
  const { memlockBytes, kernelRelease, capabilities } = host;
  const counts = !kernelAtLeast(kernelRelease, 5, 11) && !capabilities.sysResource;
  if (!counts || memlockBytes === null || memlockBytes === 'unlimited' || memlockBytes >= MEMLOCK_NEEDED_BYTES)
    return [];
  return [
    finding(
      'memlock_low',
      `The limit of locked memory is ${memlockBytes} bytes, and Linux ${kernelRelease} counts maps as such.`,
      'ulimit -l unlimited; in a systemd unit: LimitMEMLOCK=infinity',
    ),
  ];
}

export function hostFindings(host: HostFacts): Finding[] {
  return [
    ...rightsFindings(host),
    ...kernelFindings(host),
    ...memlockFindings(host),
    ...bpffsFindings(host),
    ...speedFindings(host),
  ];
}
