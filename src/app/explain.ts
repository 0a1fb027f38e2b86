// SPDX-License-Identifier: Apache-2.0
/** What the loaded dataplane would do with a packet: asked of the program itself, without any side effect. */
import { VnicError } from '../errors.ts';
import { ProgramRunner } from '../loader/program.ts';
import { VnicDirection, VnicLimits, VnicNone, VnicVerdictFlag } from '../maps/generated/abi.ts';
import { formatAddress } from '../steering/rules/prefix.ts';
import { unparsedReasons } from '../telemetry/counters.ts';
import type { Dataplane } from './dataplane.ts';
import { decodeVerdict, type FlowNames } from './flows.ts';

/** That the kernel takes for a run of a program, in one page. */
export const MAX_FRAME_BYTES = 3520;

export interface Explanation {
  parsed: boolean;
  /** Why it could not be parsed, or null. */
  unparsed: string | null;
  src: string;
  dst: string;
  srcPort: number;
  dstPort: number;
  proto: number;
  frameBytes: number;
  flowKnown: boolean;
  verdictCached: boolean;
  rule: number | null;
  action: 'pass' | 'drop';
  /** Where the rule has a limit. */
  limit: { scope: 'rule' | 'flow'; over: boolean; debtNs: number; shadow: boolean } | null;
  az: string | null;
  hash: number;
  bucket: number;
  /** Null: steering is off, or there is no queue. */
  table: number | null;
  queue: number | null;
  cpu: number | null;
  /** Where the flow's last packet arrived, and whether it was passed there; null: no packet of it arrived. */
  arrival: { queue: number; direct: boolean } | null;
  verdict: 'pass' | 'drop' | 'limit';
}

function arrivalOf(direction: 'ingress' | 'egress', arrival: number): Explanation['arrival'] {
  if (direction === 'egress' || arrival === VnicNone.noQueue) return null;
  const direct = (arrival & VnicLimits.arrivedDirect) !== 0;
  return { queue: arrival & ~VnicLimits.arrivedDirect, direct };
}

/** @param frame an Ethernet frame of 14 to 3,520 bytes */
export function explainFrame(
  dataplane: Dataplane,
  frame: Uint8Array,
  direction: 'ingress' | 'egress',
  names: FlowNames,
): Explanation {
  if (frame.length > MAX_FRAME_BYTES) {
    throw new VnicError('usage', `A frame of ${frame.length} bytes is too long to explain.`, {
      remedy: `Give at most ${MAX_FRAME_BYTES} bytes.`,
    });
  }
  dataplane.explanation.write(0, { direction: VnicDirection[direction] });
  new ProgramRunner(dataplane.native, dataplane.program('vnic_explain'), { maxInputBytes: MAX_FRAME_BYTES }).run(frame);
  const answer = dataplane.explanation.read(0);
  const { slot, az, flags, generation } = decodeVerdict(answer.verdict);
  const parsed = answer.unparsed === 0;
  const orNull = (value: number, none: number): number | null => (!parsed || value === none ? null : value);
  const isLimited = (flags & (VnicVerdictFlag.limitRule | VnicVerdictFlag.limitFlow)) !== 0;
  const isDropRule = (flags & VnicVerdictFlag.drop) !== 0;
  return {
    parsed,
    unparsed: parsed ? null : (unparsedReasons[answer.unparsed] ?? `reason ${answer.unparsed}`),
    src: formatAddress(answer.key.src.bytes),
    dst: formatAddress(answer.key.dst.bytes),
    srcPort: answer.key.sport,
    dstPort: answer.key.dport,
    proto: answer.key.proto,
    frameBytes: answer.frameBytes,
    flowKnown: answer.flowKnown === 1,
    verdictCached: answer.verdictCached === 1,
    rule: parsed && slot !== null ? names.ruleId(slot, generation) : null,
    action: isDropRule ? 'drop' : 'pass',
    limit: isLimited
      ? {
          scope: (flags & VnicVerdictFlag.limitFlow) !== 0 ? 'flow' : 'rule',
          over: answer.limited === 1,
          debtNs: Number(answer.limiterDebtNs),
          shadow: (flags & VnicVerdictFlag.shadow) !== 0,
        }
      : null,
    az: parsed ? names.azName(az) : null,
    hash: answer.hash,
    bucket: answer.bucket,
    table: orNull(answer.table, VnicNone.noTable),
    queue: orNull(answer.queue, VnicNone.noQueue),
    cpu: orNull(answer.cpu, VnicNone.noCpu),
    arrival: arrivalOf(direction, answer.arrival),
    verdict: answer.dropped === 0 ? 'pass' : isDropRule ? 'drop' : 'limit',
  };
}
