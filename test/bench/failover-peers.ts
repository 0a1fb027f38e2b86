// SPDX-License-Identifier: Apache-2.0
/** How soon it is seen that a zone's hosts do not answer: probes of the daemon, and BFD in the kernel. */
import { setTimeout as sleep } from 'node:timers/promises';
import { waitFor } from '../rig/kernel-view.ts';
import { BfdPeer, hasBfdd } from '../support/bfd-peer.ts';
import { type DistributionResult, distribution } from './distribution.ts';
import { AZ, type FailoverSetting, MARGIN_MS, startRun } from './failover-setting.ts';

/** The generator comes before all else on its CPU, which is no part of what is measured here. */
const PROBED_RATE_PPS = 100_000;
const probe = { interval_ms: 100, timeout_ms: 100, fall: 3, rise: 3 } as const;
const bfd = { intervalMs: 50, detectMult: 3 } as const;

export async function probes(setting: FailoverSetting, repetitions: number): Promise<DistributionResult> {
  const { rig } = setting;
  await setting.configure({ probe: { type: 'icmp', target: rig.az(AZ).ipv4, ...probe } });
  const row = rig.az(AZ).index;
  const promise = probe.fall * probe.interval_ms + probe.timeout_ms;
  using run = await startRun(setting, PROBED_RATE_PPS);
  // So that probes alone can tell: the zone has nothing to say for a while before it dies.
  await run.cut(AZ);
  const detectMs: number[] = [];
  for (let repetition = 0; repetition < repetitions; repetition++) {
    await setting.probesAnswer(AZ);
    const cut = await rig.preparedCut(AZ);
    // Anywhere between two probes.
    await sleep(Math.random() * probe.interval_ms);
    const before = run.view.activeTable();
    const cutNs = cut();
    const seen = await waitFor(`probes do not see that ${AZ} is lost`, () => run.view.isLost(row));
    const leftNs = run.view.leftNs(before);
    detectMs.push(Number((leftNs > cutNs ? leftNs : seen.atNs) - cutNs) / 1e6);
    rig.restoreAz(AZ);
    await waitFor(`${AZ} answers and is not in use`, () => !run.view.isLost(row));
  }
  await run.restore(AZ);
  await run.end();
  return distribution(detectMs, {
    name: `probes: ${probe.fall} x ${probe.interval_ms} ms + ${probe.timeout_ms} ms, ICMP, daemon`,
    unit: 'ms',
    promise,
    method: `Detection by probes: the link of a zone that sends nothing is taken down at the fabric, while the others send ${PROBED_RATE_PPS} packets/s; from right before a waiting process was told to do it, to when the table was left (tables[].left_ns).`,
  });
}

/** A real peer dies, its zone's other traffic goes on. */
export async function bfdSessions(setting: FailoverSetting, repetitions: number): Promise<DistributionResult[]> {
  if (!hasBfdd) {
    console.log('  (BFD is not measured: FRR, the peer, is not there; make deps fetches it)');
    return [];
  }
  const { rig } = setting;
  const az = rig.az(AZ);
  const row = az.index;
  await setting.configure({ bfd: { peers: [az.ipv4], interval_ms: bfd.intervalMs, detect_mult: bfd.detectMult } });
  const { intervalMs, detectMult } = bfd;
  const times = `detect-multiplier ${detectMult}\nreceive-interval ${intervalMs}\ntransmit-interval ${intervalMs}`;
  await using peer = await BfdPeer.start(az.netns, `peer ${rig.host.ipv4}\n${times}`);
  using run = await startRun(setting, PROBED_RATE_PPS);
  const beyondMs: number[] = [];
  const sinceKillMs: number[] = [];
  for (let repetition = 0; repetition < repetitions; repetition++) {
    await waitFor(`${AZ}'s BFD session is not up`, () => run.view.az(row).bfdArmed === 1 && !run.view.isLost(row));
    await waitFor(`no table is prepared for losing ${AZ}`, () => run.view.hasStandby(row));
    // The times of RFC 5880 are agreed on a while after the session is up; and anywhere between two packets.
    await sleep(500 + Math.random() * intervalMs);
    const { losses } = run.view.az(row);
    const killNs = process.hrtime.bigint();
    await peer.kill();
    await waitFor(`BFD does not see that ${AZ} is lost`, () => run.view.az(row).losses > losses);
    const { lostNs } = run.view.az(row);
    const [session] = run.view.bfdSessions(row);
    if (session === undefined) throw new Error('the BFD session is gone');
    const agreedMs = Number(session.detectNs) / 1e6;
    const heardAgoMs = Number(killNs - session.lastRxNs) / 1e6;
    if (agreedMs !== intervalMs * detectMult || heardAgoMs < -5 || heardAgoMs > 2 * intervalMs) {
      throw new Error(`detection time ${agreedMs} ms, last packet ${heardAgoMs} ms before the peer was killed`);
    }
    beyondMs.push(Number(lostNs - session.lastRxNs) / 1e6);
    sinceKillMs.push(Number(lostNs - killNs) / 1e6);
    await peer.run();
  }
  await waitFor(`${AZ}'s BFD session is up and the zone not in use`, () => !run.view.isLost(row));
  await run.end();
  const method = `Detection by BFD: FRR's bfdd in the zone, ${intervalMs} ms x ${detectMult}, is killed (kill -9) while all zones send ${PROBED_RATE_PPS} packets/s; to watch.azs[].lost_ns. Last packet: when the session's last control packet was taken, which must be at most two intervals before the kill.`;
  const name = `BFD, ${intervalMs} ms x ${detectMult}`;
  return [
    distribution(beyondMs, {
      name: `${name}: from the last packet`,
      unit: 'ms',
      promise: intervalMs * detectMult + MARGIN_MS,
      method,
    }),
    distribution(sinceKillMs, {
      name: `${name}: from the kill`,
      unit: 'ms',
      promise: intervalMs * detectMult + MARGIN_MS,
      method,
    }),
  ];
}
