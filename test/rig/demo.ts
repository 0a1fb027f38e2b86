// SPDX-License-Identifier: Apache-2.0
/**
 * `make demo`: the product on its own rig. Every claim is measured by a checker behind the dataplane; the exit code is 0
 * only if all of them hold. Touches no device but those that it makes.
 */
import { execFileSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { TestDaemon } from '../support/daemon.ts';
import { failoverPictures } from './demo-failover.ts';
import { checkLife, deviceOf, type Scrape, scrape } from './scenarios/daemon.ts';
import { checkLimits, type LimitsResult } from './scenarios/limits.ts';
import { deviceInput, Setting } from './scenarios/setting.ts';
import { checkSteering, type SteeringResult } from './scenarios/steering.ts';
import { checkZoneFailover, type ZoneFailover } from './scenarios/zone-failover.ts';
import { startSockets } from './sockets.ts';
import { createRig, type Rig } from './topology.ts';
import { ZoneWasSilent } from './zone-run.ts';

const FLOWS = 10_000;
/** Of those, in the failover: from addresses of no zone, so that they use the queues of all. */
const OUTSIDE_FLOWS = 2000;
const STEERED_PACKETS = 1_200_000;
const RATE_PPS = 700_000;
const FAILED_AZ = 'az-b';
const LEAST_FAILOVER_PPS = 500_000;
const FAILOVER_ATTEMPTS = 3;
const SILENCE_MS = 20;
const LONGEST_DETECTION_MS = SILENCE_MS + 5;
const OUTAGE_MS = 1200;
const SETTLE_MS = 1000;
const LIMIT_TOLERANCE = 0.01;

const root = path.join(import.meta.dirname, '../..');
const startedMs = performance.now();
let ok = true;

const say = (text = ''): void => console.log(text);
const number = (value: number): string => Math.round(value).toLocaleString('en-US');
const percent = (share: number, digits = 3): string => `${(100 * share).toFixed(digits)} %`;

/** Prints a claim and whether it held. */
function claim(text: string, held: boolean): void {
  say(`  ${held ? 'ok  ' : 'FAIL'} ${text}`);
  if (!held) ok = false;
}

function heading(text: string): void {
  say(`\n${text}\n${'-'.repeat(text.length)}`);
}

function showTopology(rig: Rig): void {
  say('vnicctl demo: a 32-queue device, three availability zones, live traffic');
  say('Everything runs in network namespaces made for it; no device of this machine is touched.\n');
  say('  az-a 10.1.0.0/16  --+');
  say('  az-b 10.2.0.0/16  --+-- fabric --[ vnic0, 32 queues: XDP dataplane ]-- host 10.100.0.2');
  say('  az-c 10.3.0.0/16  --+');
  say(`\n  namespaces: ${rig.namespaces.join(' ')}`);
}

/** A command as its user would type it, and what it printed. With a daemon, it is the daemon that does it. */
function vnicctl(setting: Setting, args: string[], daemon?: TestDaemon): void {
  say(`\n$ vnicctl ${args.join(' ')}`);
  const output = execFileSync(path.join(root, 'bin/vnicctl'), ['--netns', setting.rig.netns, ...args], {
    encoding: 'utf8',
    env: {
      ...process.env,
      VNIC_STATE_DIR: setting.stateFolder,
      NO_COLOR: '1',
      ...(daemon && { VNIC_SOCKET: daemon.socket }),
    },
  });
  say(output.trimEnd());
}

async function showSockets(rig: Rig): Promise<void> {
  heading('Ordinary sockets pass through the dataplane');
  const tcp = await startSockets(rig, { az: 'az-a', protocol: 'tcp', connections: 4, messagesPerSecond: 200 });
  const udp = await startSockets(rig, { az: 'az-c', protocol: 'udp', port: 9001, messagesPerSecond: 500 });
  await sleep(1000);
  const [tcpReport, udpReport] = [await tcp.stop(), await udp.stop()];
  for (const [what, { client, server }] of [
    ['TCP, az-a', tcpReport],
    ['UDP, az-c', udpReport],
  ] as const) {
    const there = server.receivedBytes === client.sentBytes;
    const back = client.receivedBytes === server.sentBytes;
    claim(
      `${what}: ${number(server.receivedBytes)} of ${number(client.sentBytes)} bytes arrived, ` +
        `${number(client.receivedBytes)} of ${number(server.sentBytes)} came back`,
      there && back && client.sentBytes > 0,
    );
  }
}

function showSteering(result: SteeringResult): void {
  heading('Steering: every packet meets the queue that the table names');
  claim(
    `${number(result.packets)} packets of ${number(result.flows)} flows at ${number(result.packetsPerSecond)} packets/s`,
    result.packets >= 1_000_000,
  );
  claim(
    `on a wrong queue: ${result.wrongQueue}, on a wrong CPU: ${result.wrongCpu}, lost: ${result.lost}, reordered: ${result.reordered}`,
    result.wrongQueue === 0 &&
      result.wrongCpu === 0 &&
      result.noMetadata === 0 &&
      result.lost === 0 &&
      result.reordered === 0,
  );
  say(`       buckets of the fullest queue over the mean: ${result.maxOverMean.toFixed(3)}`);
}

function showLimits(result: LimitsResult): void {
  heading('Limits and drops');
  for (const limit of result.limits) {
    const share = limit.scope === 'rule' ? `${limit.flows} flows together` : `each of ${limit.flows} flows`;
    claim(
      `rule ${limit.rule}, ${limit.scope} scope: ${(limit.measuredBps / 1e6).toFixed(2)} Mbit/s for ${share}, ` +
        `${(limit.configuredBps / 1e6).toFixed(0)} asked (off by ${percent(limit.errorRatio, 2)})`,
      limit.errorRatio <= LIMIT_TOLERANCE,
    );
  }
  claim(
    `rule 10 drops: ${number(result.droppedReceived)} of ${number(result.droppedSent)} packets came through`,
    result.droppedReceived === 0 && result.droppedSent > 0,
  );
}

/** From now on the zone's silence is taken for its death. Not before: other phases end all traffic at once. */
async function watchSilence(rig: Rig, daemon: TestDaemon): Promise<void> {
  const { azs } = deviceInput(rig) as { azs: { name: string }[] };
  // Another attempt is no zone that flaps.
  const also = { silence_ms: SILENCE_MS, flap: { penalty: 0 } };
  const body = { ...azs.find(({ name }) => name === FAILED_AZ), ...also };
  await daemon.ask('PUT', `/api/v1/devices/${encodeURIComponent(deviceOf(rig))}/azs/${FAILED_AZ}`, { body });
}

/** Again when other work on the machine kept the generator from its rate; every figure is of one run. */
async function loseZoneUnderLoad(rig: Rig): Promise<ZoneFailover> {
  const options = {
    az: FAILED_AZ,
    flows: FLOWS,
    outsideFlows: OUTSIDE_FLOWS,
    ratePps: RATE_PPS,
    outageMs: OUTAGE_MS,
    settleMs: SETTLE_MS,
  };
  const again = (why: string): void => say(`\n  (${why}: the machine is busy; once more)`);
  for (let attempt = 1; ; attempt++) {
    const isLast = attempt === FAILOVER_ATTEMPTS;
    try {
      const result = await checkZoneFailover(rig, options);
      const { packetsPerSecond, loss } = result;
      if (isLast || (packetsPerSecond >= LEAST_FAILOVER_PPS && loss.detectMs <= LONGEST_DETECTION_MS)) return result;
      again(`only ${number(packetsPerSecond)} packets/s, seen after ${loss.detectMs.toFixed(1)} ms`);
    } catch (error) {
      if (isLast || !(error instanceof ZoneWasSilent)) throw error;
      again(error.message);
    }
  }
}

function showFailover(result: ZoneFailover, azLetters: string): void {
  const { loss, az } = result;
  const { harm, change, recovery } = loss;
  heading(`${az} dies under ${number(result.packetsPerSecond)} packets/s; nobody tells the product`);
  say(failoverPictures(result, azLetters));
  say();
  claim(
    `at least ${number(LEAST_FAILOVER_PPS)} packets/s, the dead zone's missing`,
    result.packetsPerSecond >= LEAST_FAILOVER_PPS,
  );
  claim(
    `seen by the kernel ${loss.detectMs.toFixed(1)} ms after its last packet (silence_ms ${SILENCE_MS}), ` +
      `switched in ${loss.commitUs.toFixed(1)} us`,
    loss.cause === 'silence' && loss.detectMs <= LONGEST_DETECTION_MS,
  );
  claim(
    `${number(change.moved)} buckets moved, ${number(change.onLost)} were on the failed queues, collateral ${change.collateral}`,
    change.moved === change.onLost && change.collateral === 0,
  );
  claim(
    `${number(harm.survivingFlows)} flows on other queues: ${harm.lostSurviving} packets lost, ${harm.reorderedSurviving} reordered`,
    harm.lostSurviving === 0 && harm.reorderedSurviving === 0 && harm.survivingFlows > 0,
  );
  say(
    `       ${number(harm.movedFlows)} living flows of no zone on its queues: ${harm.lostMoved} packets lost, ${harm.reorderedMoved} reordered`,
  );
  claim(
    `${number(result.lost)} of ${number(result.sent)} packets lost: continuity ${percent(1 - result.lost / result.sent, 4)}`,
    result.lost / result.sent <= 1e-5,
  );
  claim(`flows on a queue that no table named: ${result.strayFlows}`, result.strayFlows === 0);
  claim(
    `sends again; in use ${number(loss.recoverMs)} ms later, by the former table (${number(recovery.buckets)} buckets)`,
    loss.isHomeAgain && recovery.buckets === change.moved,
  );
  claim(
    `${number(recovery.inOrder)} flows went home in order, ${recovery.risked} could have been reordered, ${recovery.reordered} packets were`,
    recovery.risked === 0 && recovery.reordered === 0,
  );
}

interface DaemonResult {
  sent: number;
  lost: number;
  reordered: number;
  packetsPerSecond: number;
  scrape: Scrape;
}

/** The daemon takes over what vnicctl attached, and dies and comes back under load. */
async function killDaemon(rig: Rig, daemon: TestDaemon): Promise<DaemonResult> {
  const { sent, report: seen } = await checkLife(
    rig,
    [
      { name: 'kill -9', perform: () => daemon.kill() },
      { name: 'restart', perform: () => daemon.run() },
    ],
    { flows: FLOWS, ratePps: RATE_PPS, pauseMs: 500 },
  );
  return {
    sent: sent.sent,
    lost: seen.lost,
    reordered: seen.reordered,
    packetsPerSecond: (sent.sent * 1000) / sent.elapsedMs,
    scrape: await scrape(daemon),
  };
}

function showDaemon(result: DaemonResult): void {
  heading(`The daemon is killed and started again, under ${number(result.packetsPerSecond)} packets/s`);
  claim(
    `${number(result.lost)} of ${number(result.sent)} packets lost, ${number(result.reordered)} reordered`,
    result.lost === 0 && result.reordered === 0 && result.sent > 0,
  );
  claim(
    `a scrape of ${number(result.scrape.series)} series takes ${result.scrape.ms.toFixed(1)} ms`,
    result.scrape.ms < 1000 && result.scrape.series > 0,
  );
}

interface Results {
  steering: SteeringResult;
  limits: LimitsResult;
  failover: ZoneFailover;
  daemon: DaemonResult;
}

function report(rig: Rig, { steering, limits, failover, daemon }: Results): unknown {
  const { loss } = failover;
  return {
    device: rig.device,
    driver: 'veth',
    mode: 'native',
    queues: rig.queues,
    azs: rig.azs.map((az) => az.name),
    steering: {
      packets: steering.packets,
      wrong_queue: steering.wrongQueue,
      lost: steering.lost,
      reordered: steering.reordered,
      max_over_mean: steering.maxOverMean,
    },
    limiter: limits.limits.map((limit) => ({
      rule: limit.rule,
      scope: limit.scope,
      configured_bps: limit.configuredBps,
      measured_bps: limit.measuredBps,
      error_ratio: limit.errorRatio,
    })),
    failover: {
      az: failover.az,
      cause: loss.cause,
      detect_ms: loss.detectMs,
      commit_us: loss.commitUs,
      packets_per_second: failover.packetsPerSecond,
      buckets_on_failed: loss.change.onLost,
      buckets_moved: loss.change.moved,
      collateral: loss.change.collateral,
      sent: failover.sent,
      lost: failover.lost,
      lost_surviving: loss.harm.lostSurviving,
      reordered_surviving: loss.harm.reorderedSurviving,
      continuity: 1 - failover.lost / failover.sent,
    },
    recovery: {
      moved: loss.recovery.buckets,
      lost: loss.recovery.lost,
      reordered: loss.recovery.reordered,
      reorder_risk_moves: loss.recovery.risked,
      moves_in_order: loss.recovery.inOrder,
      after_ms: loss.recoverMs,
    },
    daemon_kill: { sent: daemon.sent, lost: daemon.lost },
    scrape: daemon.scrape,
    duration_s: (performance.now() - startedMs) / 1000,
    ok,
  };
}

async function waitForInterrupt(setting: Setting, daemon: TestDaemon): Promise<void> {
  say(`\nKEEP=1: the rig and its daemon stay. Look at them with`);
  say(`  bin/vnicctl --socket ${daemon.socket} --netns ${setting.rig.netns} status ${setting.rig.device}`);
  say(`  ${daemon.baseUrl}/`);
  say('Ctrl-C ends it and removes everything.');
  await new Promise<void>((resolve) => {
    const timer = setInterval(() => {}, 1 << 30);
    process.once('SIGINT', () => {
      clearInterval(timer);
      resolve();
    });
  });
}

const rig = createRig({ id: 'demo' });
const setting = new Setting(rig);
let daemon: TestDaemon | undefined;
try {
  showTopology(rig);
  const configFile = path.join(setting.stateFolder, 'vnic.yaml');
  setting.writeConfig(configFile);
  vnicctl(setting, ['attach', rig.device, '--config', configFile, '--deliver-metadata']);
  await showSockets(rig);
  const steering = await checkSteering(setting, { flows: FLOWS, packets: STEERED_PACKETS, ratePps: RATE_PPS });
  showSteering(steering);
  const limits = await checkLimits(setting);
  showLimits(limits);
  vnicctl(setting, ['rule', 'list']);
  const azLetters = setting.azLetters();
  daemon = await TestDaemon.start({ stateFolder: setting.stateFolder });
  await watchSilence(rig, daemon);
  const failover = await loseZoneUnderLoad(rig);
  showFailover(failover, azLetters);
  vnicctl(setting, ['az', 'list'], daemon);
  const killed = await killDaemon(rig, daemon);
  showDaemon(killed);
  const result = report(rig, { steering, limits, failover, daemon: killed });
  const folder = path.join(root, 'out/demo');
  mkdirSync(folder, { recursive: true });
  writeFileSync(path.join(folder, 'report.json'), `${JSON.stringify(result, null, 2)}\n`);
  const seconds = ((performance.now() - startedMs) / 1000).toFixed(0);
  say(`\n${ok ? 'Every claim held.' : 'NOT every claim held.'} ${seconds} s; figures in out/demo/report.json`);
  if (process.env['KEEP'] === '1') await waitForInterrupt(setting, daemon);
} finally {
  await daemon?.[Symbol.asyncDispose]();
  setting.dispose();
  rig.dispose();
}
process.exitCode = ok ? 0 : 1;
