// SPDX-License-Identifier: Apache-2.0
/** From facts to findings. Pure: the same facts give the same findings on every machine. */
import type { DeviceFacts, LinkFacts } from './facts.ts';
import { type Finding, finding } from './finding.ts';
import { attachedFindings } from './rules/attached.ts';
import { driverFindings } from './rules/driver.ts';
import { hostFindings } from './rules/host.ts';
import { queueFindings } from './rules/queues.ts';
import { virtioFindings } from './rules/virtio.ts';

export interface DiagnoseOptions {
  readonly mode: 'native' | 'generic';
  /** Number of queues asked for. */
  readonly queues?: number;
}

function kindFindings({ name, linkType, kind }: LinkFacts): Finding[] {
  if (linkType === 'loopback') {
    return [
      finding(
        'device_loopback',
        `${name} is the loopback device.`,
        'Name an Ethernet device; list them with: ip -br link',
      ),
    ];
  }
  if (linkType !== 'ether') {
    return [
      finding(
        'device_not_ethernet',
        `${name} is no Ethernet device (link type ${linkType}${kind === null ? '' : `, ${kind}`}).`,
        'Name the Ethernet device that carries its packets.',
      ),
    ];
  }
  return [];
}

function genericFindings({ name }: LinkFacts): Finding[] {
  return [
    finding(
      'generic_mode',
      `Generic XDP on ${name} runs after a socket buffer was built for each packet.`,
      `For full speed: vnicctl attach ${name} --mode native`,
      { source: 'net/core/dev.c: netif_receive_generic_xdp' },
    ),
  ];
}

/** Findings that block come first, otherwise from the device over the host to the driver. */
export function diagnose(facts: DeviceFacts, options: DiagnoseOptions): Finding[] {
  const { link } = facts;
  if (link === null) {
    return [
      finding(
        'device_missing',
        `There is no device ${facts.device} in this network namespace.`,
        'List the devices with: ip -br link; name one of another network namespace with --netns NAME',
      ),
    ];
  }
  const known = { ...facts, link };
  const kind = kindFindings(link);
  const findings = [
    ...kind,
    ...hostFindings(facts.host),
    ...attachedFindings(link, facts.attached),
    ...(kind.length > 0 ? [] : deviceFindings(known, options)),
  ];
  return findings.sort((a, b) => Number(b.severity === 'blocks') - Number(a.severity === 'blocks'));
}

function deviceFindings(facts: DeviceFacts & { link: LinkFacts }, { mode, queues }: DiagnoseOptions): Finding[] {
  const { link } = facts;
  const findings = mode === 'native' ? driverFindings(facts) : genericFindings(link);
  if (mode === 'native' && link.driver === 'virtio_net') findings.push(...virtioFindings(facts));
  findings.push(...queueFindings(facts, queues));
  if (!link.up) {
    findings.push(finding('device_down', `${link.name} is down.`, `ip link set dev ${link.name} up`));
  }
  return findings;
}
