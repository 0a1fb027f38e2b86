// SPDX-License-Identifier: Apache-2.0
/** What the dataplane decided on a packet, as options of its block in a pcapng file (draft-ietf-opsawg-pcapng, 4.3). */
import type { BlockOption } from './write.ts';

export interface PacketVerdict {
  outcome: 'pass' | 'drop' | 'limit' | 'unparsed';
  reason: string | null;
  rule: number | null;
  az: string | null;
  queue: number | null;
  rxQueue: number;
  shadow: boolean;
}

const comment = 1;
const flags = 2;
const queueId = 6;
const verdict = 7;
const inbound = 1;
/** Kind of verdict: an action of XDP (enum xdp_action) as 64 bits. */
const xdpVerdict = 2;
const xdpDrop = 1n;
const xdpPass = 2n;
const xdpRedirect = 4n;

/** `verdict=limit reason=limit_rule rule=7 az=az-a queue=3 rx_queue=0` */
export function verdictComment(packet: PacketVerdict): string {
  const parts = [
    `verdict=${packet.outcome}`,
    ...(packet.reason === null ? [] : [`reason=${packet.reason}`]),
    ...(packet.rule === null ? [] : [`rule=${packet.rule}`]),
    ...(packet.shadow ? ['shadow'] : []),
    ...(packet.az === null ? [] : [`az=${packet.az}`]),
    ...(packet.queue === null ? [] : [`queue=${packet.queue}`]),
    `rx_queue=${packet.rxQueue}`,
  ];
  return parts.join(' ');
}

/** The comment says all of it; direction, queue and XDP action also stand in the options that pcapng has for them. */
export function verdictOptions(packet: PacketVerdict): BlockOption[] {
  const isDropped = packet.outcome === 'drop' || packet.outcome === 'limit';
  const action = isDropped ? xdpDrop : packet.queue === null ? xdpPass : xdpRedirect;
  const xdp = new Uint8Array(9);
  xdp[0] = xdpVerdict;
  new DataView(xdp.buffer).setBigInt64(1, action, true);
  return [
    { code: comment, value: new TextEncoder().encode(verdictComment(packet)) },
    { code: flags, value: u32(inbound) },
    { code: queueId, value: u32(packet.queue ?? packet.rxQueue) },
    { code: verdict, value: xdp },
  ];
}

function u32(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, value, true);
  return bytes;
}
