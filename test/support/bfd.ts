// SPDX-License-Identifier: Apache-2.0
/** A BFD peer for tests: packets by RFC 5880, section 4.1, written and read without the product's help. */
import assert from 'node:assert/strict';
import { bfdStatus, writeBfdSessions } from '../../src/app/bfd-sessions.ts';
import type { Fd } from '../../src/loader/fd.ts';
import { BpfObject } from '../../src/loader/object.ts';
import type { VnicBfdSession } from '../../src/maps/generated/abi.ts';
import type { AzBfd, AzConfig } from '../../src/steering/azs.ts';
import { compileTestProgram } from './compile.ts';
import { PacketRunner, TestDataplane } from './dataplane.ts';
import { type PacketBuilder, packet } from './packet.ts';
import { concat, u32 } from './packet-bytes.ts';

/** Of a packet and of a session. */
export const State = { adminDown: 0, down: 1, init: 2, up: 3 } as const;
export const stateNames = ['AdminDown', 'Down', 'Init', 'Up'] as const;
/** Bits of the second byte. */
export const Flag = { poll: 0x20, final: 0x10, independent: 0x08, auth: 0x04, demand: 0x02, multipoint: 0x01 } as const;

export interface BfdFields {
  version?: number;
  diag?: number;
  state?: number;
  flags?: number;
  detectMult?: number;
  length?: number;
  myDiscr?: number;
  yourDiscr?: number;
  minTxUs?: number;
  minRxUs?: number;
  minEchoRxUs?: number;
}

export function bfdPayload(fields: BfdFields = {}): Uint8Array {
  return concat(
    Uint8Array.of(
      ((fields.version ?? 1) << 5) | (fields.diag ?? 0),
      ((fields.state ?? State.down) << 6) | (fields.flags ?? 0),
      fields.detectMult ?? 3,
      fields.length ?? 24,
    ),
    u32(fields.myDiscr ?? 0x11223344),
    u32(fields.yourDiscr ?? 0),
    u32(fields.minTxUs ?? 1_000_000),
    u32(fields.minRxUs ?? 50_000),
    u32(fields.minEchoRxUs ?? 0),
  );
}

export function readBfdPayload(bytes: Uint8Array): Required<BfdFields> {
  assert.equal(bytes.length, 24);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  return {
    version: bytes[0]! >> 5,
    diag: bytes[0]! & 31,
    state: bytes[1]! >> 6,
    flags: bytes[1]! & 63,
    detectMult: bytes[2]!,
    length: bytes[3]!,
    myDiscr: view.getUint32(4),
    yourDiscr: view.getUint32(8),
    minTxUs: view.getUint32(12),
    minRxUs: view.getUint32(16),
    minEchoRxUs: view.getUint32(20),
  };
}

export interface BfdPath {
  peer: string;
  local: string;
  port?: number;
  ttl?: number;
  sport?: number;
  /** Outer first. */
  vlans?: readonly number[];
  /** Of the UDP header; default: right. */
  checksum?: number;
}

export const path4: BfdPath = { peer: '10.1.0.2', local: '10.0.0.9' };
export const path6: BfdPath = { peer: 'fd00:a::2', local: 'fd00::9' };

/** Ethernet with the path's tags. */
export function bfdStart(path: BfdPath, macs: { src?: string; dst?: string } = {}): PacketBuilder {
  const tags = path.vlans ?? [];
  return tags.reduce(
    (frame, id, index) => frame.vlan(id, index < tags.length - 1 ? { tpid: 0x88a8, priority: 6 } : { priority: 3 }),
    packet().ethernet({ src: '02:00:00:00:00:01', dst: '02:00:00:00:00:02', ...macs }),
  );
}

function withUdp(start: PacketBuilder, path: BfdPath, payload: Uint8Array): Uint8Array {
  const { peer: src, local: dst, ttl = 255, port = 3784, sport = 50_001, checksum } = path;
  const network = src.includes(':') ? start.ipv6({ src, dst, hopLimit: ttl }) : start.ipv4({ src, dst, ttl });
  const udp = { sport, dport: port };
  const frame = network.udp(udp).payload(payload).build();
  if (checksum !== undefined) {
    const at = frame.length - payload.length - 2;
    frame.set([checksum >> 8, checksum & 0xff], at);
  }
  return frame;
}

/** A control packet that the peer sends. */
export function bfdFrame(path: BfdPath, fields: BfdFields = {}, trailing = 0): Uint8Array {
  return withUdp(bfdStart(path), path, concat(bfdPayload(fields), new Uint8Array(trailing)));
}

/** The whole frame with which it must be answered. */
export function answerFrame(path: BfdPath, session: number, fields: BfdFields): Uint8Array {
  const start = bfdStart(path, { src: '02:00:00:00:00:02', dst: '02:00:00:00:00:01' });
  const { peer: dst, local: src, port: dport = 3784 } = path;
  const network = src.includes(':')
    ? start.ipv6({ src, dst, hopLimit: 255, trafficClass: 0xc0 })
    : start.ipv4({ src, dst, ttl: 255, tos: 0xc0, id: 0, dontFragment: true });
  return network
    .udp({ sport: 49_152 + session, dport })
    .payload(bfdPayload({ flags: Flag.independent, ...fields }))
    .build();
}

export function bfdAz(name: string, bfd: Partial<AzBfd> = {}): AzConfig {
  const all = { peers: [path4.peer], quorum: 1, intervalMs: 50, detectMult: 3, multihop: false, ...bfd };
  return { name, queues: [0], weight: 1, prefixes: [], bfd: all };
}

export const XDP_TX = 3;
/** enum vnic_bfd_judgement */
export const Judgement = { reached: 0, enough: 1, short: 2 } as const;

/** So that the time since then, modulo 2^64, is half of all time: since 0 would be no longer than the machine has been up. */
const LONG_AGO_NS = 1n << 63n;

/** The programs with BFD sessions, and a peer's side of them. */
export class BfdBench implements Disposable {
  readonly test = new TestDataplane({ maxFlows: 64 });
  readonly #judge: PacketRunner;
  readonly #judgeProgram: Fd;
  azs: readonly AzConfig[];

  constructor(azs: readonly AzConfig[] = [bfdAz('az-a')]) {
    const { native, dataplane } = this.test;
    using object = BpfObject.load(native, compileTestProgram('bfd_judge'), {
      programs: ['bfd_judge'],
      maps: { vnic_bfd: { reuse: dataplane.bfd.map.fd } },
    });
    this.#judgeProgram = object.programFd('bfd_judge');
    this.#judge = new PacketRunner(native, this.#judgeProgram);
    this.azs = azs;
    this.configure(azs);
  }

  configure(azs: readonly AzConfig[]): void {
    this.azs = azs;
    writeBfdSessions(this.test.dataplane, azs);
  }

  session(index = 0): VnicBfdSession {
    return this.test.dataplane.bfd.read(index);
  }

  put(fields: Partial<VnicBfdSession>, index = 0): void {
    this.test.dataplane.bfd.put(index, fields);
  }

  /** As `az bfd` shows it. */
  status(nowNs?: bigint) {
    return bfdStatus(this.test.dataplane, this.azs, nowNs);
  }

  /** The XDP action, and what was sent. */
  receive(frame: Uint8Array): { action: number; frame: Uint8Array } {
    const { returnValue, output } = this.test.ingressWithOutput(frame);
    return { action: returnValue, frame: output };
  }

  /** Sends a control packet long after the last; its answer, null if there is none. */
  exchange(fields: BfdFields, path: BfdPath = path4, index = 0): Required<BfdFields> | null {
    this.put({ lastTxNs: LONG_AGO_NS }, index);
    const yourDiscr = fields.yourDiscr ?? this.session(index).localDiscr;
    const { action, frame } = this.receive(bfdFrame(path, { ...fields, yourDiscr }));
    if (action !== XDP_TX) return null;
    return readBfdPayload(frame.subarray(-24));
  }

  /** Brings a session up as a peer does. */
  bringUp(path: BfdPath = path4, index = 0, fields: BfdFields = {}): void {
    this.exchange({ ...fields, state: State.down, yourDiscr: 0 }, path, index);
    this.exchange({ ...fields, state: State.up }, path, index);
    assert.equal(this.session(index).state, State.up);
  }

  /** What the watch's timer finds at a moment. */
  judge(nowNs: bigint, row = 1, needed = 1): { expired: number; judgement: number } {
    const question = new Uint8Array(60);
    const view = new DataView(question.buffer);
    view.setBigUint64(0, nowNs, true);
    view.setUint32(8, row, true);
    view.setUint32(12, needed, true);
    const answer = this.#judge.run(question);
    return { expired: answer >> 4, judgement: answer & 15 };
  }

  [Symbol.dispose](): void {
    this.#judgeProgram.close();
    this.test.close();
  }
}
