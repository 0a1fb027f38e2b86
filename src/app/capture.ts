// SPDX-License-Identifier: Apache-2.0
/**
 * Packets as the dataplane sees them (bpf/capture.h). A capture is a session of whoever began it: it lasts as long as its
 * packets are asked for. All of its state is in the kernel's maps, so each call can come from another process.
 */
import { randomInt } from 'node:crypto';
import { VnicError } from '../errors.ts';
import {
  VnicCapture,
  VnicCaptured,
  VnicControl,
  VnicDrop,
  VnicLookLimits,
  VnicNone,
  VnicOutcome,
  VnicUnparsed,
  VnicVerdictFlag,
} from '../maps/generated/abi.ts';
import { dropReasons, snakeCase } from '../telemetry/counters.ts';
import type { Dataplane } from './dataplane.ts';

/** The programs stop a capture whose packets were not asked for during this time. */
export const CAPTURE_LEASE_MS = 5000;
export const CAPTURE_MAX_SNAPLEN = VnicLookLimits.captureBytes;
/** What a list of packets may hold at once, in bytes: the ring can hold half of it. */
const READ_BYTES = 2 << 20;
const NS_PER_MS = 1_000_000n;

export interface CaptureRequest {
  /** Null: any, and packets without a rule. */
  rule: number | null;
  /** Row of an AZ; null: any. */
  azRow: number | null;
  snaplen: number;
  /** Null: no bound. */
  count: number | null;
  packetsPerSecond: number;
}

export interface CapturedPacket {
  /** CLOCK_MONOTONIC */
  timeNs: bigint;
  wireBytes: number;
  outcome: 'pass' | 'drop' | 'limit' | 'unparsed';
  /** Of a drop, or why there is no flow; null: passed. */
  reason: string | null;
  rule: number | null;
  /** Row; 0: none is known. */
  az: number;
  queue: number | null;
  rxQueue: number;
  isShadow: boolean;
  data: Uint8Array;
}

export interface CaptureCounters {
  matched: bigint;
  captured: bigint;
  /** Matched, but more came than the rate allows. */
  overAllowance: bigint;
  /** Matched, but earlier packets had not been read yet. */
  ringFull: bigint;
}

export interface CaptureRead extends CaptureCounters {
  packets: CapturedPacket[];
  /** The lease ran out before this read: packets are missing. */
  wasInterrupted: boolean;
  /** All packets that were asked for have been captured. */
  isComplete: boolean;
}

const { offsets } = VnicCapture;
const captureSwitch = VnicControl.offsets.capture;

/** Gives the session. Throws `conflict` where somebody else captures. */
export function startCapture(dataplane: Dataplane, request: CaptureRequest, now = process.hrtime.bigint()): number {
  const { capture, control } = dataplane;
  const lease = capture.u64(0, offsets.leaseNs);
  if (control.u32(0, captureSwitch) !== 0 && now < lease) {
    throw new VnicError('conflict', 'Another capture runs on the device.', {
      remedy: `Wait until it is done. One that was killed ends by itself after ${CAPTURE_LEASE_MS / 1000} s.`,
    });
  }
  control.storeU32(0, captureSwitch, 0);
  dataplane.captured.drain();
  const session = randomInt(1, 2 ** 32);
  const most = request.count === null ? 2n ** 63n : BigInt(request.count);
  const burst = BigInt(request.packetsPerSecond);
  capture.write(0, {
    session,
    snaplen: request.snaplen,
    ruleId: request.rule ?? 0,
    az: request.azRow ?? VnicLookLimits.captureAnyAz,
    leaseNs: now + BigInt(CAPTURE_LEASE_MS) * NS_PER_MS,
    allowance: burst < most ? burst : most,
    most,
    packetsPerSecond: request.packetsPerSecond,
  });
  control.storeU32(0, captureSwitch, 1);
  return session;
}

/** Packets since the read before, and the lease anew. Throws `conflict` for a session that is over. */
export function readCapture(dataplane: Dataplane, session: number, now = process.hrtime.bigint()): CaptureRead {
  const { capture, control } = dataplane;
  requireSession(dataplane, session);
  const state = capture.read(0);
  const wasInterrupted = control.u32(0, captureSwitch) === 0 || now >= state.leaseNs;
  const packets: CapturedPacket[] = [];
  let bytes = 0;
  for (const record of dataplane.captured.records()) {
    const about = VnicCaptured.decode(record);
    if (about.session === session) packets.push(packetOf(about, record));
    bytes += record.length;
    if (bytes >= READ_BYTES) break;
  }
  const counters = countersOf(capture);
  renew(dataplane, state, counters.captured, now);
  if (wasInterrupted) control.storeU32(0, captureSwitch, 1);
  return { packets, ...counters, wasInterrupted, isComplete: counters.captured >= state.most };
}

/** A bucket of one second's packets that fills with time. */
function renew({ capture }: Dataplane, state: VnicCapture, captured: bigint, now: bigint): void {
  const renewedNs = state.leaseNs - BigInt(CAPTURE_LEASE_MS) * NS_PER_MS;
  const perSecond = BigInt(state.packetsPerSecond);
  const grown = state.allowance + (perSecond * (now - renewedNs)) / 1_000_000_000n;
  const bounds = [grown, captured + perSecond, state.most];
  capture.storeU64(
    0,
    offsets.allowance,
    bounds.reduce((least, bound) => (bound < least ? bound : least)),
  );
  capture.storeU64(0, offsets.leaseNs, now + BigInt(CAPTURE_LEASE_MS) * NS_PER_MS);
}

/** What was captured. Null for a session that is over: nothing is done to another one. */
export function stopCapture({ capture, control }: Dataplane, session: number): CaptureCounters | null {
  if (session === 0 || capture.u32(0, offsets.session) !== session) return null;
  control.storeU32(0, captureSwitch, 0);
  capture.storeU64(0, offsets.leaseNs, 0n);
  capture.storeU32(0, offsets.session, 0);
  return countersOf(capture);
}

/**
 * Ends a capture of which nobody asks for packets any more. The programs stopped it when its lease ran out; whoever was
 * only held up may go on for as long again. Null: there is none.
 */
export function endAbandonedCapture(dataplane: Dataplane, now = process.hrtime.bigint()): CaptureCounters | null {
  const { capture } = dataplane;
  const abandonedNs = capture.u64(0, offsets.leaseNs) + BigInt(CAPTURE_LEASE_MS) * NS_PER_MS;
  return now < abandonedNs ? null : stopCapture(dataplane, capture.u32(0, offsets.session));
}

/** For the event about it. */
export function captureEnded(reason: 'stopped' | 'abandoned', counters: CaptureCounters): Record<string, unknown> {
  return { reason, ...Object.fromEntries(Object.entries(counters).map(([name, value]) => [name, Number(value)])) };
}

function countersOf(capture: Dataplane['capture']): CaptureCounters {
  return {
    matched: capture.u64(0, offsets.matched),
    captured: capture.u64(0, offsets.captured),
    overAllowance: capture.u64(0, offsets.overAllowance),
    ringFull: capture.u64(0, offsets.ringFull),
  };
}

function requireSession({ capture }: Dataplane, session: number): void {
  if (session !== 0 && capture.u32(0, offsets.session) === session) return;
  throw new VnicError('conflict', 'This capture is over: somebody stopped it, or began another.', {
    remedy: 'Begin a new one.',
  });
}

const unparsedNames: Readonly<Record<number, string>> = Object.fromEntries(
  Object.entries(VnicUnparsed).map(([name, value]) => [value, snakeCase(name)]),
);

function packetOf(about: VnicCaptured, record: Uint8Array): CapturedPacket {
  const isDrop = about.outcome === VnicOutcome.drop;
  const isUnparsed = about.outcome === VnicOutcome.unparsed;
  const dropKind = about.reason === VnicDrop.rule ? 'drop' : 'limit';
  return {
    timeNs: about.timeNs,
    wireBytes: about.wireBytes,
    outcome: isUnparsed ? 'unparsed' : isDrop ? dropKind : 'pass',
    reason: isUnparsed
      ? (unparsedNames[about.reason] ?? 'unknown')
      : isDrop
        ? (dropReasons[about.reason] ?? 'unknown')
        : null,
    rule: about.ruleId === 0 ? null : about.ruleId,
    az: about.az,
    queue: about.queue === VnicNone.noQueue ? null : about.queue,
    rxQueue: about.rxQueue,
    isShadow: (about.flags & VnicVerdictFlag.shadow) !== 0,
    data: record.subarray(VnicCaptured.size, VnicCaptured.size + about.keptBytes),
  };
}
