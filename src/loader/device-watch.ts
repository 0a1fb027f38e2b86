// SPDX-License-Identifier: Apache-2.0
/**
 * Which network devices exist, cheap enough to ask again and again: one rtnetlink dump (rtnetlink(7)), no process
 * started. A socket is opened for each look, because one that is kept would keep its namespace alive.
 */
import { VnicError } from '../errors.ts';
import { hostLittleEndian, readText } from '../maps/codec.ts';
import { Ifinfomsg, Libc, Netlink, Nlmsghdr, Rtattr } from '../maps/generated/host.ts';
import { Fd } from './fd.ts';
import { errnoName, type Native } from './ffi/index.ts';
import { inNetns } from './netns.ts';

export interface Link {
  /** A device that was deleted and came back has another index. */
  ifindex: number;
  /** Link-layer address in lower case with colons; null for a device that has none. */
  mac: string | null;
}

/** The kernel fills at most 32 KiB at once (net/netlink/af_netlink.c, netlink_recvmsg). Nothing here waits, so one will do. */
const answer = new Uint8Array(new ArrayBuffer(32 * 1024));
const answerView = new DataView(answer.buffer);
/** A dump during which devices came or went is taken again. */
const MOST_DUMPS = 10;

/**
 * The devices of a network namespace by name, whether up or down; null is the namespace of this process.
 * Throws `not_found` when the namespace is gone, `kernel_refused` when the kernel does not answer.
 */
export function linksIn(native: Native, netns: string | null): Map<string, Link> {
  try {
    return inNetns(native, netns, () => listLinks(native));
  } catch (error) {
    if (netns !== null && isVanished(error)) {
      throw new VnicError('not_found', `The network namespace ${netns} is gone.`, {
        remedy: 'List them with: ip netns list',
        details: { netns },
        cause: error,
      });
    }
    throw error;
  }
}

/** Deleted between a look and the switch to it, or a file in /run/netns that no namespace is mounted on any more. */
function isVanished(error: unknown): boolean {
  if (!(error instanceof VnicError)) return false;
  const { call, errno } = error.details;
  return (call === 'open' && errno === 'ENOENT') || (call === 'setns' && errno === 'EINVAL');
}

function listLinks(native: Native): Map<string, Link> {
  for (let dump = 1; dump <= MOST_DUMPS; dump++) {
    const links = dumpLinks(native);
    if (links !== null) return links;
  }
  throw new VnicError('kernel_refused', `The network devices changed during each of ${MOST_DUMPS} looks at them.`, {
    remedy: 'Look again when fewer devices come and go.',
  });
}

/** Null when the kernel says that devices came or went meanwhile, so that some may be missing. */
function dumpLinks(native: Native): Map<string, Link> | null {
  const { libc } = native;
  const type = Libc.sockRaw | Libc.sockCloexec;
  using socket = new Fd(native, native.check(libc.socket(Libc.afNetlink, type, Netlink.route), 'socket'));
  // Without an address a netlink message goes to the kernel.
  native.check(libc.sendto(socket.value, dumpRequest, dumpRequest.length, 0, null, 0), 'sendto', 'rtnetlink');

  const links = new Map<string, Link>();
  for (;;) {
    // The kernel has each part ready before it is asked for; with MSG_TRUNC the length is that of the whole part.
    const flags = Libc.msgDontwait | Libc.msgTrunc;
    const length = native.check(libc.recv(socket.value, answer, answer.length, flags), 'recv', 'rtnetlink');
    const part = readLinks(answerView, length);
    if (part.interrupted) return null;
    for (const [name, link] of part.links) links.set(name, link);
    if (part.done) return links;
  }
}

/** RTM_GETLINK for all devices, without their counters. */
const dumpRequest = ((): Uint8Array => {
  const maskAt = Nlmsghdr.size + Ifinfomsg.size;
  const bytes = new Uint8Array(maskAt + Rtattr.size + 4);
  const view = new DataView(bytes.buffer);
  const nlmsgFlags = Netlink.request | Netlink.dump;
  Nlmsghdr.write(view, 0, { nlmsgLen: bytes.length, nlmsgType: Netlink.getLink, nlmsgFlags });
  Rtattr.write(view, maskAt, { rtaLen: Rtattr.size + 4, rtaType: Netlink.linkExtraMask });
  view.setUint32(maskAt + Rtattr.size, Netlink.skipStats, hostLittleEndian);
  return bytes;
})();

export interface LinksPart {
  links: [name: string, link: Link][];
  /** The last part of the dump. */
  done: boolean;
  interrupted: boolean;
}

/**
 * Reads one part of a dump of links, `length` bytes of netlink messages at the start of `view`. Throws `kernel_refused`
 * for the error that the kernel answered with, or for a part that is cut off.
 */
export function readLinks(view: DataView, length: number): LinksPart {
  if (length > view.byteLength) throw cutOff();
  const part: LinksPart = { links: [], done: false, interrupted: false };
  for (let at = 0; at < length; ) {
    if (length - at < Nlmsghdr.size) throw cutOff();
    const { nlmsgLen, nlmsgType, nlmsgFlags } = Nlmsghdr.read(view, at);
    const end = at + nlmsgLen;
    if (nlmsgLen < Nlmsghdr.size || end > length) throw cutOff();
    if ((nlmsgFlags & Netlink.dumpInterrupted) !== 0) part.interrupted = true;
    if (nlmsgType === Netlink.newLink) part.links.push(readLink(view, at + Nlmsghdr.size, end));
    if (nlmsgType === Netlink.done || nlmsgType === Netlink.error) {
      refuseError(view, at + Nlmsghdr.size, end);
      part.done = true;
    }
    at += align(nlmsgLen);
  }
  return part;
}

/** A link has some forty attributes, and two are wanted: the others are stepped over without an object for each. */
function readLink(view: DataView, start: number, end: number): [name: string, link: Link] {
  if (end - start < Ifinfomsg.size) throw cutOff();
  const ifindex = view.getInt32(start + Ifinfomsg.offsets.ifiIndex, hostLittleEndian);
  let name = '';
  let mac: string | null = null;
  for (let at = start + Ifinfomsg.size; at < end; ) {
    if (end - at < Rtattr.size) throw cutOff();
    const length = view.getUint16(at + Rtattr.offsets.rtaLen, hostLittleEndian);
    const type = view.getUint16(at + Rtattr.offsets.rtaType, hostLittleEndian);
    if (length < Rtattr.size || at + length > end) throw cutOff();
    if (type === Netlink.linkName) name = readText(view, at + Rtattr.size, length - Rtattr.size);
    if (type === Netlink.linkAddress) mac = readAddress(view, at + Rtattr.size, length - Rtattr.size);
    at += align(length);
  }
  return [name, { ifindex, mac }];
}

function readAddress(view: DataView, at: number, length: number): string | null {
  if (length === 0) return null;
  return Buffer.from(view.buffer, view.byteOffset + at, length)
    .toString('hex')
    .replace(/..(?=.)/g, '$&:');
}

/** Both NLMSG_DONE and NLMSG_ERROR carry a negative errno, or 0. */
function refuseError(view: DataView, at: number, end: number): void {
  if (end - at < 4) throw cutOff();
  const errno = -view.getInt32(at, hostLittleEndian);
  if (errno === 0) return;
  const name = errnoName(errno);
  throw new VnicError('kernel_refused', `rtnetlink does not list the network devices: ${name}.`, {
    details: { errno: name, errnoNumber: errno, call: 'recv' },
  });
}

function align(length: number): number {
  return Math.ceil(length / Netlink.alignTo) * Netlink.alignTo;
}

function cutOff(): VnicError {
  return new VnicError('kernel_refused', 'rtnetlink answered with a message that is cut off.', {
    remedy: 'Try again; if it stays, please report it with the kernel version.',
  });
}
