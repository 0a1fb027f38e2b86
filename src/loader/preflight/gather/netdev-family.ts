// SPDX-License-Identifier: Apache-2.0
/**
 * Asks the generic netlink family `netdev` what XDP support a device has (Linux 6.3), without attaching anything.
 * Source: Documentation/netlink/specs/netdev.yaml, include/uapi/linux/{netlink,genetlink,netdev}.h
 */
import { readSync, writeSync } from 'node:fs';
import { hostLittleEndian } from '../../../maps/codec.ts';
import { Libc } from '../../../maps/generated/host.ts';
import { Fd } from '../../fd.ts';
import type { Native } from '../../ffi/index.ts';

const AF_NETLINK = 16;
const NETLINK_GENERIC = 16;
const SOCK_NONBLOCK = 0o4000;

const NLM_F_REQUEST = 1;
const NLMSG_ERROR = 2;
const MESSAGE_HEADER_BYTES = 16;
const GENERIC_HEADER_BYTES = 4;
const ATTRIBUTE_HEADER_BYTES = 4;
const ATTRIBUTE_TYPE_MASK = 0x3fff;

const GENL_ID_CTRL = 16;
const CTRL_CMD_GETFAMILY = 3;
const CTRL_ATTR_FAMILY_ID = 1;
const CTRL_ATTR_FAMILY_NAME = 2;
const NETDEV_CMD_DEV_GET = 1;
const NETDEV_A_DEV_IFINDEX = 1;
const NETDEV_A_DEV_XDP_FEATURES = 3;

/** A request with one attribute. */
export function encodeRequest(family: number, command: number, type: number, value: Uint8Array): Uint8Array {
  const attributeBytes = ATTRIBUTE_HEADER_BYTES + value.length;
  const bytes = new Uint8Array(
    MESSAGE_HEADER_BYTES + GENERIC_HEADER_BYTES + align(attributeBytes), // the padding is part of the message
  );
  const view = new DataView(bytes.buffer);
  let at = 0;
  const u32 = (number: number) => {
    view.setUint32(at, number, hostLittleEndian);
    at += 4;
  };
  const u16 = (number: number) => {
    view.setUint16(at, number, hostLittleEndian);
    at += 2;
  };
  u32(bytes.length);
  u16(family);
  u16(NLM_F_REQUEST);
  u32(1); // sequence number
  u32(0); // sender: the kernel fills it in
  bytes.set([command, 1], at); // command and its version
  at += GENERIC_HEADER_BYTES;
  u16(attributeBytes);
  u16(type);
  bytes.set(value, at);
  return bytes;
}

/** The attributes of one answer by type; null for an error message. */
export function decodeAnswer(bytes: Uint8Array): Map<number, DataView> | null {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes.length < MESSAGE_HEADER_BYTES || view.getUint16(4, hostLittleEndian) === NLMSG_ERROR) return null;
  const end = Math.min(view.getUint32(0, hostLittleEndian), bytes.length);
  const attributes = new Map<number, DataView>();
  let at = MESSAGE_HEADER_BYTES + GENERIC_HEADER_BYTES;
  while (at + ATTRIBUTE_HEADER_BYTES <= end) {
    const length = view.getUint16(at, hostLittleEndian);
    if (length < ATTRIBUTE_HEADER_BYTES || at + length > end) break;
    const type = view.getUint16(at + 2, hostLittleEndian) & ATTRIBUTE_TYPE_MASK;
    const start = bytes.byteOffset + at + ATTRIBUTE_HEADER_BYTES;
    attributes.set(type, new DataView(bytes.buffer, start, length - ATTRIBUTE_HEADER_BYTES));
    at += align(length);
  }
  return attributes;
}

function align(length: number): number {
  return (length + 3) & ~3;
}

function ask(socket: Fd, request: Uint8Array): Map<number, DataView> | null {
  writeSync(socket.value, request);
  // The kernel has answered before the write returns; nothing to read is an error, not a reason to wait.
  const answer = new Uint8Array(8192);
  const length = readSync(socket.value, answer);
  return decodeAnswer(answer.subarray(0, length));
}

/** `enum netdev_xdp_act` of a device; null where the kernel cannot be asked. */
export function queryXdpFeatures(native: Native, ifindex: number): number | null {
  const type = Libc.sockDgram | Libc.sockCloexec | SOCK_NONBLOCK;
  const descriptor = native.libc.socket(AF_NETLINK, type, NETLINK_GENERIC);
  if (descriptor < 0) return null;
  using socket = new Fd(native, descriptor);
  try {
    const name = Buffer.from('netdev\0');
    const family = ask(socket, encodeRequest(GENL_ID_CTRL, CTRL_CMD_GETFAMILY, CTRL_ATTR_FAMILY_NAME, name))
      ?.get(CTRL_ATTR_FAMILY_ID)
      ?.getUint16(0, hostLittleEndian);
    if (family === undefined) return null;
    const index = new Uint8Array(Uint32Array.of(ifindex).buffer);
    const features = ask(socket, encodeRequest(family, NETDEV_CMD_DEV_GET, NETDEV_A_DEV_IFINDEX, index))
      ?.get(NETDEV_A_DEV_XDP_FEATURES)
      ?.getBigUint64(0, hostLittleEndian);
    return features === undefined ? null : Number(features);
  } catch {
    return null; // The socket refused: an answer from the driver list has to do.
  }
}
