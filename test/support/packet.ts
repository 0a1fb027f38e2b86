// SPDX-License-Identifier: Apache-2.0
/**
 * Builds packets layer by layer, outermost first:
 *   packet().ethernet().vlan(5).ipv4({ dst: '10.0.0.9' }).udp({ dport: 53 }).payload(20).build()
 * Types, lengths and checksums are right unless a field is given; a given field is taken as it is.
 */

import { concat, filler } from './packet-bytes.ts';
import type { Layer, Surroundings } from './packet-layers.ts';
import * as layers from './packet-layers.ts';

export class PacketBuilder {
  readonly #layers: readonly Layer[];
  readonly #cuts: readonly ((frame: Uint8Array) => Uint8Array)[];

  constructor(stack: readonly Layer[] = [], cuts: readonly ((frame: Uint8Array) => Uint8Array)[] = []) {
    this.#layers = stack;
    this.#cuts = cuts;
  }

  /** A builder is never changed, so one can be the start of several packets. */
  #with(layer: Layer): PacketBuilder {
    return new PacketBuilder([...this.#layers, layer], this.#cuts);
  }

  ethernet(fields: layers.EthernetFields = {}): PacketBuilder {
    return this.#with(layers.ethernetLayer(fields));
  }

  vlan(id: number, fields: layers.VlanFields = {}): PacketBuilder {
    return this.#with(layers.vlanLayer(id, fields));
  }

  ipv4(fields: layers.Ipv4Fields = {}): PacketBuilder {
    return this.#with(layers.ipv4Layer(fields));
  }

  ipv6(fields: layers.Ipv6Fields = {}): PacketBuilder {
    return this.#with(layers.ipv6Layer(fields));
  }

  hopByHop(fields: layers.ExtensionFields = {}): PacketBuilder {
    return this.#with(layers.extensionLayer(0, fields));
  }

  routing(fields: layers.ExtensionFields = {}): PacketBuilder {
    return this.#with(layers.extensionLayer(43, fields));
  }

  destination(fields: layers.ExtensionFields = {}): PacketBuilder {
    return this.#with(layers.extensionLayer(60, fields));
  }

  mobility(fields: layers.ExtensionFields = {}): PacketBuilder {
    return this.#with(layers.extensionLayer(135, fields));
  }

  hip(fields: layers.ExtensionFields = {}): PacketBuilder {
    return this.#with(layers.extensionLayer(139, fields));
  }

  shim6(fields: layers.ExtensionFields = {}): PacketBuilder {
    return this.#with(layers.extensionLayer(140, fields));
  }

  ah(fields: layers.ExtensionFields = {}): PacketBuilder {
    return this.#with(layers.ahLayer(fields));
  }

  fragment(fields: layers.FragmentFields = {}): PacketBuilder {
    return this.#with(layers.fragmentLayer(fields));
  }

  tcp(fields: layers.TcpFields = {}): PacketBuilder {
    return this.#with(layers.tcpLayer(fields));
  }

  udp(fields: layers.UdpFields = {}): PacketBuilder {
    return this.#with(layers.udpLayer(fields));
  }

  udpLite(fields: layers.PortFields = {}): PacketBuilder {
    return this.#with(layers.udpLiteLayer(fields));
  }

  dccp(fields: layers.PortFields = {}): PacketBuilder {
    return this.#with(layers.dccpLayer(fields));
  }

  sctp(fields: layers.PortFields = {}): PacketBuilder {
    return this.#with(layers.sctpLayer(fields));
  }

  icmp(fields: layers.IcmpFields = {}): PacketBuilder {
    return this.#with(layers.icmpLayer(fields));
  }

  icmpv6(fields: layers.IcmpFields = {}): PacketBuilder {
    return this.#with(layers.icmpv6Layer(fields));
  }

  gre(fields: { type?: number } = {}): PacketBuilder {
    return this.#with(layers.greLayer(fields));
  }

  esp(fields: { spi?: number; sequence?: number } = {}): PacketBuilder {
    return this.#with(layers.espLayer(fields));
  }

  arp(fields: layers.ArpFields = {}): PacketBuilder {
    return this.#with(layers.arpLayer(fields));
  }

  /** IEEE 802.3: the Ethernet type field holds a length; the payload begins with an LLC header. */
  llc(data: Uint8Array = filler(35)): PacketBuilder {
    const header = Uint8Array.of(0x42, 0x42, 0x03);
    return this.#with(layers.bytesLayer(concat(header, data), { etherType: header.length + data.length }));
  }

  /** Any EtherType. */
  etherType(type: number, content: Uint8Array = new Uint8Array(0)): PacketBuilder {
    return this.#with(layers.bytesLayer(content, { etherType: type }));
  }

  /** Any IP protocol. */
  protocol(number: number, content: Uint8Array = new Uint8Array(0)): PacketBuilder {
    return this.#with(layers.bytesLayer(content, { protocol: number }));
  }

  /** A count of filler bytes, or the bytes themselves. */
  payload(content: number | Uint8Array): PacketBuilder {
    return this.#with(layers.bytesLayer(typeof content === 'number' ? filler(content) : content));
  }

  /** Zero bytes after the packet, up to `frameBytes`: Ethernet padding. */
  padTo(frameBytes: number): PacketBuilder {
    const pad = (frame: Uint8Array): Uint8Array =>
      concat(frame, new Uint8Array(Math.max(0, frameBytes - frame.length)));
    return new PacketBuilder(this.#layers, [...this.#cuts, pad]);
  }

  /** Only the first bytes of the frame. */
  truncate(frameBytes: number): PacketBuilder {
    return new PacketBuilder(this.#layers, [...this.#cuts, (frame) => frame.slice(0, frameBytes)]);
  }

  build(): Uint8Array {
    let bytes: Uint8Array = new Uint8Array(0);
    for (let index = this.#layers.length - 1; index >= 0; index -= 1) {
      bytes = this.#layers[index]!.encode(bytes, this.#surroundings(index));
    }
    return this.#cuts.reduce((frame, cut) => cut(frame), bytes);
  }

  #surroundings(index: number): Surroundings {
    const inner = this.#layers[index + 1];
    const outside = this.#layers.slice(0, index).findLast((layer) => layer.pseudoHeader !== undefined);
    return {
      innerEtherType: inner?.etherType,
      innerProtocol: inner?.protocol,
      pseudoHeader: outside?.pseudoHeader,
    };
  }
}

export function packet(): PacketBuilder {
  return new PacketBuilder();
}

/** The default frame that most tests need: Ethernet, IPv4, UDP. */
export function udpFrame(src: string, dst: string, sport: number, dport: number, payloadBytes = 18): Uint8Array {
  const start = packet().ethernet();
  const network = src.includes(':') ? start.ipv6({ src, dst }) : start.ipv4({ src, dst });
  return network.udp({ sport, dport }).payload(payloadBytes).build();
}
