// SPDX-License-Identifier: Apache-2.0
/** The daemon over a device that carries traffic: what it does must not be felt by a packet. */
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Dataplane } from '../../../src/app/dataplane.ts';
import { PinFolder } from '../../../src/loader/pins.ts';
import type { TestDaemon } from '../../support/daemon.ts';
import { longestDelayMs, monotonicMs, observingLoop } from '../../support/loop-delay.ts';
import { attachChecker, type CheckReport } from '../checker.ts';
import { makeFlows, type RigFlow } from '../flows.ts';
import { type GeneratorReport, startGenerator } from '../generator.ts';
import type { Rig } from '../topology.ts';
import { calmDown } from '../zone-run.ts';
import { deviceInput } from './setting.ts';
import { type Counted, readCounted } from './upgrade.ts';

export const deviceOf = (rig: Rig): string => `${rig.device}@${rig.netns}`;
const urlOf = (rig: Rig, rest = ''): string => `/api/v1/devices/${encodeURIComponent(deviceOf(rig))}${rest}`;

/** As a user would attach it, with the queue left before each frame for the checker. */
export async function attachByDaemon(rig: Rig, daemon: TestDaemon, options: { maxFlows?: number } = {}): Promise<void> {
  const body = { name: rig.device, netns: rig.netns, deliverMetadata: true, ...deviceInput(rig), ...options };
  await daemon.ask('POST', '/api/v1/devices', { body });
}

export interface LifeResult {
  sent: GeneratorReport;
  report: CheckReport;
  /** In the order in which they were read. */
  counted: { when: string; counted: Counted }[];
}

/** Sends while `steps` happen one after another, `pauseMs` before, between and after them. */
export async function checkLife(
  rig: Rig,
  steps: readonly { name: string; perform: () => Promise<void> }[],
  options: { flows: number; ratePps: number; pauseMs: number },
): Promise<LifeResult> {
  const flows = makeFlows({ azs: rig.azs, host: rig.host, count: options.flows });
  using checker = attachChecker(rig, { flows });
  const pins = new PinFolder(rig.native, { name: rig.device, netns: rig.netns });
  const look = (when: string) => {
    using dataplane = Dataplane.open(rig.native, pins);
    return { when, counted: readCounted(dataplane) };
  };
  const counted = [look('before')];
  const generator = await startGenerator(rig, { flows, ratePps: options.ratePps, durationMs: 60_000 });
  await sleep(options.pauseMs);
  for (const { name, perform } of steps) {
    await perform();
    counted.push(look(name));
    await sleep(options.pauseMs);
  }
  await calmDown(generator, rig.azs.length);
  const sent = await generator.stop();
  await checker.settled(sent.sent);
  counted.push(look('after'));
  return { sent, report: checker.report(sent.sentByFlow), counted };
}

export interface Scrape {
  series: number;
  ms: number;
}

/** One scrape as Prometheus makes it. */
export async function scrape(daemon: TestDaemon): Promise<Scrape> {
  const start = performance.now();
  const { status, text } = await daemon.send('GET', '/metrics');
  const ms = performance.now() - start;
  if (status !== 200) throw new Error(`the scrape was answered with ${status}`);
  return { series: seriesIn(text), ms };
}

export function seriesIn(text: string): number {
  return text.split('\n').filter((line) => line !== '' && !line.startsWith('#')).length;
}

/** Rules of many shapes that together send every flow to one queue; most of them match nothing that is sent. */
function ruleSet(flows: readonly RigFlow[], count: number, queue: number): Record<string, unknown>[] {
  const rules: Record<string, unknown>[] = [
    { id: 1, priority: 10, match: { src: '10.0.0.0/8', proto: 'udp', dstPort: 7000 }, action: 'pass', queues: [queue] },
    { id: 2, priority: 10, match: { src: 'fd00::/8' }, action: 'pass', queues: [queue] },
  ];
  // One rule for each of some flows, by their whole address, at the end of the set.
  const own = flows.slice(0, Math.min(1000, flows.length)).map(({ src }, index) => ({
    id: count - index,
    priority: 20,
    match: { src, proto: 'udp' },
    action: 'pass',
    queues: [queue],
  }));
  for (let id = 3; rules.length + own.length < count; id++) {
    rules.push({
      id,
      priority: id % 7,
      match: {
        src: `172.${16 + (id >> 16)}.${(id >> 8) & 255}.${id & 255}`,
        proto: id % 2 === 0 ? 'tcp' : 'udp',
        dstPort: id % 50_000,
      },
      action: id % 3 === 0 ? 'drop' : 'pass',
    });
  }
  return [...rules, ...own];
}

export interface SwitchResult {
  rules: number;
  /** From sending the request to its answer, of each switch. */
  putMs: number[];
  /** Longest that the daemon's main thread was kept from answering meanwhile. */
  eventLoopLagMs: number;
  sent: number;
  lost: number;
  /** Packets that went to a queue which neither set names: they met no set, or a part of one. */
  halfSet: number;
  packetsPerSecond: number;
  /** Packets on each of the two sets' queues. */
  onQueues: [number, number];
}

const SET_QUEUES = [5, 6] as const;

/**
 * Switches between two sets of `rules` rules by one PUT each, `switches` times, while every flow is watched. Starts the
 * daemon again, so that it tells of its event loop.
 */
export async function checkRuleSetSwitch(
  rig: Rig,
  daemon: TestDaemon,
  options: { rules: number; switches: number; flows: number; ratePps: number },
): Promise<SwitchResult> {
  const loop = path.join(daemon.folder, 'loop');
  await daemon.stop();
  await daemon.run(observingLoop('main', loop));
  const flows = makeFlows({ azs: rig.azs, host: rig.host, count: options.flows });
  const sets = SET_QUEUES.map((queue) => JSON.stringify(ruleSet(flows, options.rules, queue)));
  const put = async (set: string): Promise<number> => {
    const start = performance.now();
    await daemon.ask('PUT', urlOf(rig, '/rules'), { body: set });
    return performance.now() - start;
  };
  await put(sets[0]!);
  using checker = attachChecker(rig, { flows });
  const both = SET_QUEUES.reduce((mask, queue) => mask | (1n << BigInt(queue)), 0n);
  for (const flow of flows) checker.expect(flow.id, { queues: both });
  const generator = await startGenerator(rig, { flows, ratePps: options.ratePps, durationMs: 120_000 });
  const startMs = monotonicMs();
  const putMs: number[] = [];
  for (let index = 1; index <= options.switches; index++) {
    await sleep(200);
    putMs.push(await put(sets[index % 2]!));
  }
  const endMs = monotonicMs();
  await sleep(200);
  const eventLoopLagMs = longestDelayMs(loop, startMs, endMs);
  const sent = await generator.stop();
  await checker.settled(sent.sent);
  const report = checker.report(sent.sentByFlow);
  return {
    rules: options.rules,
    putMs,
    eventLoopLagMs,
    sent: sent.sent,
    lost: report.lost,
    halfSet: report.wrongQueue,
    packetsPerSecond: (sent.sent * 1000) / sent.elapsedMs,
    onQueues: [report.perQueue[SET_QUEUES[0]]?.packets ?? 0, report.perQueue[SET_QUEUES[1]]?.packets ?? 0],
  };
}

export interface EffectResult {
  /** From the answer to the first packet that met the new rule, of each change; negative: the packet was earlier. */
  effectMs: number[];
  /** From sending the request to its answer. */
  answerMs: number[];
}

/**
 * A flow is dropped by a rule; another rule lets it pass. The first packet that arrives met the new rule: when it was
 * made is known to within the time between two packets of the flow.
 */
export async function checkOneRule(
  rig: Rig,
  daemon: TestDaemon,
  options: { changes: number; ratePps: number },
): Promise<EffectResult> {
  const result: EffectResult = { effectMs: [], answerMs: [] };
  for (let change = 0; change < options.changes; change++) {
    const dport = 8000 + change;
    const [flow] = makeFlows({ azs: rig.azs, host: rig.host, count: 1, dport, ipv6Every: 0 });
    if (flow === undefined) throw new Error('there is no flow');
    const drop = { priority: 50, match: { proto: 'udp', dstPort: dport }, action: 'drop' };
    await daemon.ask('PUT', urlOf(rig, `/rules/${300_000 + change}`), { body: drop });
    using checker = attachChecker(rig, { flows: [flow] });
    const generator = await startGenerator(rig, { flows: [flow], ratePps: options.ratePps, durationMs: 10_000 });
    await sleep(100);
    if (checker.received() > 0) throw new Error('the rule that drops the flow is not in effect');
    const pass = { priority: 60, match: { src: `${flow.src}/32`, proto: 'udp', dstPort: dport }, action: 'pass' };
    const start = process.hrtime.bigint();
    await daemon.ask('PUT', urlOf(rig, `/rules/${400_000 + change}`), { body: pass });
    const answered = process.hrtime.bigint();
    await sleep(100);
    await generator.stop();
    const [seen] = checker.report().flows;
    if (seen === undefined || seen.received === 0) throw new Error('the flow does not pass');
    const madeNs = Number(seen.firstNs - answered) - seen.meanTransitNs;
    result.effectMs.push(madeNs / 1e6);
    result.answerMs.push(Number(answered - start) / 1e6);
  }
  return result;
}
