// SPDX-License-Identifier: Apache-2.0
/** Upgrades under traffic: programs replaced back and forth while every packet is accounted for. */
import { getPriority, setPriority } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { Controller } from '../../../src/app/controller.ts';
import { Dataplane } from '../../../src/app/dataplane.ts';
import type { DataplaneSettings } from '../../../src/app/record.ts';
import { type UpgradeReport, upgradeDataplane } from '../../../src/app/upgrade.ts';
import { VnicCpuStats, VnicDrop } from '../../../src/maps/generated/abi.ts';
import { attachChecker } from '../checker.ts';
import { makeFlows } from '../flows.ts';
import { startGenerator } from '../generator.ts';
import { ports, type Setting } from './setting.ts';

/** As the generator's. */
const upgradeNice = -15;

export interface UpgradeRun {
  report: UpgradeReport;
  durationMs: number;
}

export interface UpgradeResult {
  sent: number;
  lost: number;
  reordered: number;
  duplicates: number;
  packetsPerSecond: number;
  upgrades: UpgradeRun[];
  /** Before the traffic, before and after each upgrade, and after the traffic. */
  counted: Counted[];
}

/** The machine's lock may be held by other tests for a while. */
const LOCK_TIMEOUT_MS = 120_000;

function patientController({ rig, stateFolder }: Setting): Controller {
  return new Controller({ native: rig.native, stateFolder, lockTimeoutMs: LOCK_TIMEOUT_MS });
}

export function settingsOf(setting: Setting): DataplaneSettings {
  return patientController(setting).withDevice(setting.device, (device) => device.record.settings);
}

/** One upgrade as the product does it: under the lock, with the record's settings. */
export function upgrade(setting: Setting, objectFile: string): UpgradeRun {
  const controller = patientController(setting);
  const settings = settingsOf(setting);
  return controller.locked(() => {
    const start = performance.now();
    const pins = controller.pins(setting.device);
    const report = upgradeDataplane({ native: controller.native, pins, settings, objectFile });
    return { report, durationMs: performance.now() - start };
  });
}

/** The memory in which the programs count: every word but one only grows. */
export interface Counted {
  words: BigUint64Array[];
  /** By rules and limits. */
  drops: bigint;
  flowsCreated: bigint;
  received: bigint;
}

export function counted(setting: Setting): Counted {
  const { controller, device } = setting;
  using dataplane = Dataplane.open(controller.native, controller.pins(device));
  return readCounted(dataplane);
}

export function readCounted(dataplane: Dataplane): Counted {
  const { cpuStats, queueStats, ruleStates, ruleCells, latency } = dataplane;
  const ofCpus = cpuStats.asBigUint64().slice();
  const wordsOfCpu = VnicCpuStats.size / 8;
  const sum = (offset: number, words = 1): bigint =>
    ofCpus.reduce((total, value, index) => {
      const word = (index % wordsOfCpu) - offset / 8;
      return word >= 0 && word < words ? total + value : total;
    }, 0n);
  // The low half of jiffies beside a count that begins again.
  const clockWord = VnicCpuStats.offsets.clockJiffy / 8;
  return {
    words: [
      ofCpus.map((value, index) => (index % wordsOfCpu === clockWord ? 0n : value)),
      ...[queueStats, ruleStates, ruleCells, latency].map((array) => array.asBigUint64().slice()),
    ],
    drops: sum(VnicCpuStats.offsets.drops, VnicDrop.reasons),
    flowsCreated: sum(VnicCpuStats.offsets.flowsCreated),
    received: sum(VnicCpuStats.offsets.received),
  };
}

/** Sends for as long as the upgrades take, and `pauseMs` before, between and after them. */
export async function checkUpgrades(
  setting: Setting,
  objectFiles: readonly string[],
  options: { flows: number; ratePps: number; pauseMs: number },
): Promise<UpgradeResult> {
  const { rig } = setting;
  const flows = makeFlows({ azs: rig.azs, host: rig.host, count: options.flows, dport: ports.plain });
  using checker = attachChecker(rig, { flows });
  const seen = [counted(setting)];
  const generator = await startGenerator(rig, { flows, ratePps: options.ratePps, durationMs: 240_000 });
  const upgrades: UpgradeRun[] = [];
  // Generator and CPUMAP threads come before ordinary processes: at full rate loading would take as long as they leave.
  const ordinary = getPriority();
  setPriority(upgradeNice);
  try {
    await sleep(options.pauseMs);
    for (const file of objectFiles) {
      seen.push(counted(setting));
      upgrades.push(upgrade(setting, file));
      seen.push(counted(setting));
      await sleep(options.pauseMs);
    }
  } finally {
    setPriority(ordinary);
  }
  const sent = await generator.stop();
  await checker.settled(sent.sent);
  seen.push(counted(setting));
  const report = checker.report(sent.sentByFlow);
  return {
    sent: sent.sent,
    lost: report.lost,
    reordered: report.reordered,
    duplicates: report.duplicates,
    packetsPerSecond: (sent.sent * 1000) / sent.elapsedMs,
    upgrades,
    counted: seen,
  };
}
