// SPDX-License-Identifier: Apache-2.0
/** The kernel's watch of AZs (bpf/watch.h): what it is told to look at, and what it did. */
import type { DeviceConfig } from '../config/device.ts';
import { VnicError } from '../errors.ts';
import { runSyscallProgram } from '../loader/program.ts';
import { VnicAzWatch, VnicDeadman, VnicLoss, VnicWatch } from '../maps/generated/abi.ts';
import { type AzConfig, defaultSilenceFloorPps } from '../steering/azs.ts';
import type { Dataplane } from './dataplane.ts';
import type { FailedAz } from './record.ts';

const TICK_NS = 1_000_000n;
/** A watch that did not tick for so long stands still. */
const STOPPED_AFTER_NS = 2_000_000_000n;

const { offsets } = VnicWatch;

export type LossCause = 'silence' | 'bfd';

/** @param loss `enum vnic_loss` */
export function lossCause(loss: number): LossCause | null {
  if (loss === VnicLoss.silence) return 'silence';
  return loss === VnicLoss.bfd ? 'bfd' : null;
}

/** Whether there is anything that only the kernel sees. */
export function needsWatch({ azs, failover }: Pick<DeviceConfig, 'azs' | 'failover'>): boolean {
  return failover.deadman === 'pass' || azs.some(({ silenceMs, bfd }) => silenceMs !== undefined || bfd !== undefined);
}

export function isWatching({ watch }: Dataplane, now = process.hrtime.bigint()): boolean {
  const tickAtNs = watch.u64(0, offsets.tickAtNs);
  return tickAtNs !== 0n && now - tickAtNs < STOPPED_AFTER_NS;
}

/**
 * Tells the watch what to look at, and starts or stops it. An AZ that is another one than before, or is to be listened to
 * in another way, is got to know anew. @param earlier the AZs that it was last told of, by position
 */
export function configureWatch(
  dataplane: Dataplane,
  config: Pick<DeviceConfig, 'azs' | 'failover'>,
  earlier: readonly AzConfig[] = [],
): void {
  const { watch } = dataplane;
  const { azs, failover } = config;
  const { azs: rows } = watch.read(0);
  for (const row of rows.keys()) {
    if (row === 0) continue;
    const wanted = azSettings(azs[row - 1]);
    const isKnown = azs[row - 1]?.name === earlier[row - 1]?.name && sameSettings(wanted, rows[row]!);
    if (!isKnown) watchRow(dataplane, row, wanted);
  }
  watch.put(0, {
    tickNs: TICK_NS,
    deadmanNs: BigInt(failover.deadmanMs) * 1_000_000n,
    deadman: failover.deadman === 'pass' ? VnicDeadman.pass : VnicDeadman.hold,
  });
  if (needsWatch(config)) startWatch(dataplane);
  else watch.storeU32(0, offsets.stop, 1);
}

/** Also gives a watch that runs the program of this dataplane. */
export function startWatch(dataplane: Dataplane): void {
  dataplane.watch.storeU32(0, offsets.stop, 0);
  const returned = runSyscallProgram(dataplane.native, dataplane.program('vnic_watch_start'));
  if (returned === 0) return;
  throw new VnicError('kernel_refused', `The timer that watches AZs cannot be started (${returned}).`, {
    remedy: 'It needs Linux 5.15 or later; leave out silence_ms and bfd to go on without.',
  });
}

/** Tells the watch that user space looks after the device. Gives for how long it had not been told, in ms; 0: it was in time. */
export function beat({ watch }: Dataplane, now = process.hrtime.bigint()): number {
  const staleSinceNs = watch.u64(0, offsets.staleSinceNs);
  const lastNs = watch.u64(0, offsets.heartbeatNs);
  watch.storeU64(0, offsets.heartbeatNs, now);
  return staleSinceNs === 0n || lastNs === 0n || staleSinceNs < lastNs ? 0 : Number((now - lastNs) / 1_000_000n);
}

/** Why the watch would take an AZ out of use if there were a table for that; null: it would not. */
export function refusedLoss({ watch }: Dataplane, row: number): LossCause | null {
  return lossCause(watch.u32(0, offsets.azs + row * VnicAzWatch.size + VnicAzWatch.offsets.refused));
}

/** Nobody looks after the device any more, and that is as it should be. */
export function endHeartbeat({ watch }: Dataplane): void {
  watch.storeU64(0, offsets.heartbeatNs, 0n);
}

type AzSettings = Pick<VnicAzWatch, 'silenceNs' | 'floorPackets' | 'bfdQuorum'>;

function azSettings(az: AzConfig | undefined): AzSettings {
  const { silenceMs, silenceFloorPps, bfd } = az ?? {};
  const floorPps = silenceMs === undefined ? 0 : (silenceFloorPps ?? defaultSilenceFloorPps(silenceMs));
  return {
    silenceNs: BigInt(silenceMs ?? 0) * 1_000_000n,
    floorPackets: BigInt(Math.max(1, Math.round((floorPps * (silenceMs ?? 0)) / 1000))),
    bfdQuorum: bfd?.quorum ?? 0,
  };
}

function sameSettings(wanted: AzSettings, there: AzSettings): boolean {
  const { silenceNs, floorPackets, bfdQuorum } = there;
  return wanted.silenceNs === silenceNs && wanted.floorPackets === floorPackets && wanted.bfdQuorum === bfdQuorum;
}

/** Off first: the watch may be looking. */
function watchRow({ watch }: Dataplane, row: number, settings: AzSettings): void {
  const at = offsets.azs + row * VnicAzWatch.size;
  const put = (field: keyof typeof VnicAzWatch.offsets, value: bigint): void =>
    watch.storeU64(0, at + VnicAzWatch.offsets[field], value);
  put('silenceNs', 0n);
  watch.storeU32(0, at + VnicAzWatch.offsets.bfdQuorum, 0);
  watch.bytes(0).fill(0, at, at + VnicAzWatch.size);
  put('floorPackets', settings.floorPackets);
  watch.storeU32(0, at + VnicAzWatch.offsets.bfdQuorum, settings.bfdQuorum);
  put('silenceNs', settings.silenceNs);
}

/** What the watch wrote down when it took an AZ out of use. */
export interface Loss {
  row: number;
  failed: Omit<FailedAz, 'name'>;
  tableBefore: number;
  tableAfter: number;
  /** Since the AZ's last sign of life. */
  silentMs: number;
}

/** Null: it was not the watch that took it out of use. */
export function lossOf({ watch }: Dataplane, row: number): Loss | null {
  const az = watch.read(0).azs[row];
  const own = lossCause(az?.loss ?? VnicLoss.none);
  if (az === undefined || own === null) return null;
  const silentMs = Math.round(Number(az.lostAfterNs) / 1000) / 1000;
  const agoMs = Number(process.hrtime.bigint() - az.lostNs) / 1e6;
  const heard = `nothing came from it for ${silentMs.toFixed(1)} ms`;
  const before = `${az.lastWindowPackets} packets in ${Number(az.silenceNs) / 1e6} ms before`;
  const sign = own === 'bfd' ? `fewer than ${az.bfdQuorum} BFD sessions are up` : `${heard}, ${before}`;
  const isStale = az.lostStale === 1;
  return {
    row,
    failed: {
      cause: isStale ? 'deadman' : own,
      since: new Date(Date.now() - agoMs).toISOString(),
      evidence: isStale ? `${sign}; the daemon's heartbeat was stale` : sign,
    },
    tableBefore: az.tableBefore,
    tableAfter: az.tableAfter,
    silentMs,
  };
}
