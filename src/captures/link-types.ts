// SPDX-License-Identifier: Apache-2.0
/**
 * Link types (https://www.tcpdump.org/linktypes.html) and their conversion to Ethernet, which is what an
 * XDP program sees.
 */

import { VnicError } from '../errors.ts';

export const linkTypes = {
  null: 0,
  ethernet: 1,
  rawBsd: 12,
  rawOpenBsd: 14,
  raw: 101,
  loop: 108,
  linuxSll: 113,
  ipv4: 228,
  ipv6: 229,
  linuxSll2: 276,
} as const;

const names: Readonly<Record<number, string>> = {
  0: 'NULL',
  1: 'ETHERNET',
  3: 'AX25',
  6: 'IEEE802_5',
  7: 'ARCNET_BSD',
  8: 'SLIP',
  9: 'PPP',
  10: 'FDDI',
  12: 'RAW',
  14: 'RAW',
  50: 'PPP_HDLC',
  51: 'PPP_ETHER',
  100: 'ATM_RFC1483',
  101: 'RAW',
  104: 'C_HDLC',
  105: 'IEEE802_11',
  107: 'FRELAY',
  108: 'LOOP',
  113: 'LINUX_SLL',
  114: 'LTALK',
  117: 'PFLOG',
  119: 'IEEE802_11_PRISM',
  122: 'IP_OVER_FC',
  123: 'SUNATM',
  127: 'IEEE802_11_RADIOTAP',
  129: 'ARCNET_LINUX',
  138: 'APPLE_IP_OVER_IEEE1394',
  143: 'DOCSIS',
  144: 'LINUX_IRDA',
  163: 'IEEE802_11_AVS',
  166: 'PPP_PPPD',
  187: 'BLUETOOTH_HCI_H4',
  189: 'USB_LINUX',
  192: 'PPI',
  195: 'IEEE802_15_4_WITHFCS',
  197: 'ERF',
  201: 'BLUETOOTH_HCI_H4_WITH_PHDR',
  220: 'USB_LINUX_MMAPPED',
  224: 'FC_2',
  227: 'CAN_SOCKETCAN',
  228: 'IPV4',
  229: 'IPV6',
  230: 'IEEE802_15_4_NOFCS',
  239: 'NFLOG',
  247: 'INFINIBAND',
  249: 'USBPCAP',
  253: 'NETLINK',
  254: 'BLUETOOTH_LINUX_MONITOR',
  258: 'PKTAP',
  271: 'VSOCK',
  276: 'LINUX_SLL2',
};

/** E.g. "IEEE802_11 (105)". */
export function linkTypeName(linkType: number): string {
  const user = linkType >= 147 && linkType <= 162 ? `USER${linkType - 147}` : undefined;
  return `${names[linkType] ?? user ?? 'unknown'} (${linkType})`;
}

const ethernetBytes = 14;
const etherTypeIpv4 = 0x0800;
const etherTypeIpv6 = 0x86dd;
/** Reserved by IEEE 802, stands for "no protocol that is known here". */
const etherTypeNone = 0xffff;

/** Address families of BSD loopback headers: IPv6 has another number on each system. */
const familyIpv4 = 2;
const familiesIpv6: readonly number[] = [10, 24, 28, 30];

interface Conversion {
  /** Length of the capture's own link header, which the Ethernet header replaces. */
  headerBytes: number;
  etherType(data: Uint8Array, littleEndian: boolean): number;
}

function etherTypeOfVersion(data: Uint8Array): number {
  const version = (data[0] ?? 0) >> 4;
  if (version === 4) return etherTypeIpv4;
  return version === 6 ? etherTypeIpv6 : etherTypeNone;
}

function etherTypeOfFamily(family: number): number {
  if (family === familyIpv4) return etherTypeIpv4;
  return familiesIpv6.includes(family) ? etherTypeIpv6 : etherTypeNone;
}

const bigEndian16 = (data: Uint8Array, at: number): number => (data[at]! << 8) | data[at + 1]!;

const rawIp: Conversion = { headerBytes: 0, etherType: etherTypeOfVersion };

const conversions: Readonly<Record<number, Conversion>> = {
  [linkTypes.raw]: rawIp,
  [linkTypes.rawBsd]: rawIp,
  [linkTypes.rawOpenBsd]: rawIp,
  [linkTypes.ipv4]: { headerBytes: 0, etherType: () => etherTypeIpv4 },
  [linkTypes.ipv6]: { headerBytes: 0, etherType: () => etherTypeIpv6 },
  // The family is in the byte order of the machine that captured, which need not be the one that wrote the file.
  [linkTypes.null]: {
    headerBytes: 4,
    etherType: (data) => etherTypeOfFamily(data[0] === 0 && data[1] === 0 ? bigEndian16(data, 2) : data[0]!),
  },
  [linkTypes.loop]: { headerBytes: 4, etherType: (data) => etherTypeOfFamily(bigEndian16(data, 2)) },
  [linkTypes.linuxSll]: { headerBytes: 16, etherType: (data) => bigEndian16(data, 14) },
  [linkTypes.linuxSll2]: { headerBytes: 20, etherType: (data) => bigEndian16(data, 0) },
};

/** True if frames of this link type can be given to the dataplane. */
export function isConvertible(linkType: number): boolean {
  return linkType === linkTypes.ethernet || conversions[linkType] !== undefined;
}

export function unsupportedLinkType(file: string, linkType: number): VnicError {
  return new VnicError('invalid_capture', `${file}: link type ${linkTypeName(linkType)} cannot be read`, {
    remedy:
      'capture on an Ethernet or IP interface; link types ETHERNET, RAW, IPV4, IPV6, NULL, LOOP, LINUX_SLL and LINUX_SLL2 can be read',
    details: { file, linkType },
  });
}

/**
 * The packet behind an Ethernet header. A packet that is shorter than its own link header gives an empty frame.
 * `addedBytes` depends on the link type only. Throws invalid_capture for other link types.
 */
export function toEthernet(
  file: string,
  linkType: number,
  data: Uint8Array,
  littleEndian: boolean,
): { ethernet: Uint8Array; addedBytes: number } {
  if (linkType === linkTypes.ethernet) return { ethernet: data, addedBytes: 0 };
  const conversion = conversions[linkType];
  if (conversion === undefined) throw unsupportedLinkType(file, linkType);
  const addedBytes = ethernetBytes - conversion.headerBytes;
  if (data.length < conversion.headerBytes) return { ethernet: new Uint8Array(0), addedBytes };
  const etherType = conversion.etherType(data, littleEndian);
  const ethernet = new Uint8Array(data.length + addedBytes);
  ethernet[12] = etherType >> 8;
  ethernet[13] = etherType & 0xff;
  ethernet.set(data.subarray(conversion.headerBytes), ethernetBytes);
  return { ethernet, addedBytes };
}
