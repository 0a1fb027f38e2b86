// SPDX-License-Identifier: Apache-2.0
/** UDP echo: the datagram that was sent comes back (RFC 862). ICMP echo over a ping socket, or over a raw socket. */
import { randomBytes } from 'node:crypto';
import type { Socket } from 'node:dgram';
import { VnicError } from '../../errors.ts';
import { Libc } from '../../maps/generated/host.ts';
import { parseAddress } from '../../steering/rules/prefix.ts';
import type { Attempt, Settle } from '../run-probe.ts';
import { ECHO_HEADER_BYTES, echoRequest, icmpProtocol, isEchoReply, socketAddress } from './icmp.ts';
import { datagramSocket, openSocket, type SocketPlace, settleError } from './sockets.ts';
import type { Endpoint } from './tcp.ts';

const PAYLOAD_BYTES = 16;
/** Node wants a port; ping sockets have none. */
const ANY_PORT = 1;
/** The first look at a raw socket comes after 1 ms, each other one after twice as long, up to this. */
const LONGEST_POLL_MS = 16;
/** A raw socket gets every ICMP packet of its namespace. */
const MAX_PACKETS_PER_LOOK = 256;
const MAX_PACKET_BYTES = 2048;

export function attemptUdp(place: SocketPlace, { address, port }: Endpoint, settle: Settle): Attempt {
  const payload = randomBytes(PAYLOAD_BYTES);
  const isAnswer = (message: Buffer): boolean => message.equals(payload);
  return exchange(datagramSocket(place, 0), { address, port }, payload, isAnswer, settle);
}

/** Sends one datagram over a connected socket, so that ICMP errors come back as errors. */
function exchange(
  socket: Socket,
  { address, port }: Endpoint,
  datagram: Buffer,
  isAnswer: (message: Buffer) => boolean,
  settle: Settle,
): Attempt {
  let isOpen = true;
  socket.on('error', (error) => settleError(settle, error));
  socket.on('message', (message) => {
    if (isAnswer(message)) settle.answered();
  });
  socket.connect(port, address, () => {
    if (!isOpen) return;
    socket.send(datagram, (error) => {
      if (error !== null) settleError(settle, error);
    });
  });
  return {
    close: () => {
      if (isOpen) socket.close();
      isOpen = false;
    },
  };
}

/**
 * Over a ping socket where net.ipv4.ping_group_range lets this process have one (no namespace does by itself: not even
 * root is let), else over a raw socket (CAP_NET_RAW).
 */
export function attemptIcmp(place: SocketPlace, address: string, settle: Settle): Attempt {
  const payload = randomBytes(PAYLOAD_BYTES);
  const request = echoRequest(place.family, randomBytes(2).readUInt16BE(), payload);
  let socket: Socket;
  try {
    socket = datagramSocket(place, icmpProtocol(place.family));
  } catch (error) {
    if (!(error instanceof VnicError) || error.code !== 'not_permitted') throw error;
    return attemptRaw(place, address, request, payload, settle);
  }
  const isAnswer = (message: Buffer): boolean => isEchoReply(place.family, message, payload);
  return exchange(socket, { address, port: ANY_PORT }, request, isAnswer, settle);
}

function attemptRaw(place: SocketPlace, address: string, request: Buffer, payload: Buffer, settle: Settle): Attempt {
  const { native, family } = place;
  const { libc } = native;
  const fd = openSocket(place, Libc.sockRaw, icmpProtocol(family));
  const packet = Buffer.alloc(MAX_PACKET_BYTES);
  let timer: NodeJS.Timeout | undefined;
  const close = (): void => {
    clearTimeout(timer);
    fd.close();
  };

  const look = (): void => {
    for (let count = 0; count < MAX_PACKETS_PER_LOOK && !fd.closed; count++) {
      const bytes = libc.recv(fd.value, packet, packet.length, Libc.msgDontwait);
      if (bytes < 0) return;
      const message = packet.subarray(family === 4 ? ipv4HeaderBytes(packet) : 0, bytes);
      if (message.length >= ECHO_HEADER_BYTES && isEchoReply(family, message, payload)) settle.answered();
    }
  };
  const poll = (waitMs: number): void => {
    timer = setTimeout(() => {
      look();
      if (!fd.closed) poll(Math.min(waitMs * 2, LONGEST_POLL_MS));
    }, waitMs);
  };

  try {
    const to = socketAddress(family, parseAddress(address));
    native.check(libc.sendto(fd.value, request, request.length, Libc.msgDontwait, to, to.length), 'sendto', address);
    poll(1);
  } catch (error) {
    settleError(settle, error);
  }
  return { close, look };
}

/** A raw IPv4 socket gives the IP header, too; a raw IPv6 socket does not. */
function ipv4HeaderBytes(packet: Buffer): number {
  return (packet[0]! & 0xf) * 4;
}
