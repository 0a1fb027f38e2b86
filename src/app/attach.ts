// SPDX-License-Identifier: Apache-2.0
/**
 * Attaching as data: planAttach() says what would be done, performAttach() does it and undoes it in reverse when a step
 * fails. The last step is the one store that makes a table active; until then every packet passes. Killed before it, the
 * attach counts as never done: the next command finds no active table and removes what is there.
 */
import { VnicError } from '../errors.ts';
import { attachClsactEgress, detachClsactEgress } from '../loader/clsact.ts';
import { raiseCpumapThreads } from '../loader/cpumap-threads.ts';
import { Ethtool } from '../loader/ethtool.ts';
import type { Fd } from '../loader/fd.ts';
import type { Native } from '../loader/ffi/index.ts';
import { attachTcxEgress, attachXdp } from '../loader/link.ts';
import { inNetns } from '../loader/netns.ts';
import type { PinFolder } from '../loader/pins.ts';
import { DeviceSettings } from '../loader/settings/device-settings.ts';
import { VnicControl } from '../maps/generated/abi.ts';
import { withUsable } from '../steering/queues.ts';
import type { Lever } from '../steering/redirect.ts';
import { planRss } from '../steering/rss-plan.ts';
import { writeTables } from './az-steering.ts';
import { configureWatch } from './az-watch.ts';
import { writeBfdSessions } from './bfd-sessions.ts';
import { Dataplane } from './dataplane.ts';
import type { DeviceModel } from './device-model.ts';
import { setOf } from './kernel-losses.ts';
import { formerOf, leverChanges, restoreSettings, writeSettings } from './levers.ts';
import { canShape, qdiscKinds } from './machine.ts';
import type { DataplaneSettings, EgressHook, RecordDraft, RecordStore, RedirectRecord } from './record.ts';
import { leverOf, rssQueueLimit } from './redirecting.ts';
import { configureRtt } from './rtt.ts';
import { type PreparedRules, RuleStore } from './rule-store.ts';
import { TableStore } from './table-store.ts';

export const LINK_XDP = 'link_xdp';
export const LINK_EGRESS = 'link_egress';

export type AttachAction =
  | { kind: 'load'; queues: number; maxFlows: number; maxRules: number }
  | { kind: 'fill-cpumap'; cpus: number[]; packets: number }
  | { kind: 'load-rules'; rules: number; azs: number }
  | { kind: 'write-table'; usableQueues: number }
  | { kind: 'pin'; folder: string }
  | { kind: 'attach-egress'; hook: EgressHook; ifindex: number }
  | { kind: 'attach-xdp'; mode: 'native' | 'generic'; ifindex: number }
  | { kind: 'tell-device'; lever: Lever }
  | { kind: 'save-record' }
  | { kind: 'activate' };

export function describeAction(action: AttachAction): string {
  switch (action.kind) {
    case 'load':
      return `load the BPF programs for ${action.queues} queues, ${action.maxFlows} flows, ${action.maxRules} rules`;
    case 'fill-cpumap':
      return `make CPUMAP entries of ${action.packets} packets for CPUs ${action.cpus.join(', ')}`;
    case 'load-rules':
      return `load ${action.rules} rules and ${action.azs} AZs`;
    case 'write-table':
      return `write the steering table over ${action.usableQueues} queues`;
    case 'pin':
      return `pin maps and programs in ${action.folder}`;
    case 'attach-egress':
      return `attach the egress program by ${action.hook} to interface ${action.ifindex}`;
    case 'attach-xdp':
      return `attach the XDP root program (${action.mode}) to interface ${action.ifindex}`;
    case 'tell-device':
      return action.lever === 'rss'
        ? 'set the RSS table, so that the device spreads packets over the queues that are in use'
        : 'clear XPS, so that the egress program chooses transmit queues and the device follows them';
    case 'save-record':
      return 'save the device record';
    case 'activate':
      return 'make the rules and the steering table active';
  }
}

export interface AttachInput {
  record: RecordDraft;
  model: DeviceModel;
  ifindex: number;
}

export function planAttach({ record, model, ifindex }: AttachInput, folder: string): AttachAction[] {
  const { settings } = record;
  const lever = record.redirect === undefined ? null : leverOf(record.redirect);
  const usable = model.homeState(record.failedAzs.map((az) => az.name)).current.usableQueues;
  return [
    { kind: 'load', queues: settings.queues, maxFlows: settings.maxFlows, maxRules: settings.maxRules },
    { kind: 'fill-cpumap', cpus: [...new Set(settings.queueCpus)], packets: settings.cpuQueueSize },
    { kind: 'load-rules', rules: model.rules.length, azs: model.azs.length },
    { kind: 'write-table', usableQueues: usable.toString(2).replaceAll('0', '').length },
    { kind: 'pin', folder },
    ...(settings.egress === 'off' ? [] : [{ kind: 'attach-egress', hook: settings.egress, ifindex } as const]),
    { kind: 'attach-xdp', mode: settings.mode, ifindex },
    // Behind XDP: virtio_net forgets its RSS table when it takes a program.
    ...(lever === null ? [] : [{ kind: 'tell-device', lever } as const]),
    { kind: 'save-record' },
    { kind: 'activate' },
  ];
}

export interface AttachPorts {
  native: Native;
  pins: PinFolder;
  records: RecordStore;
}

/** State that the steps hand on. */
interface Work {
  dataplane?: Dataplane;
  rules?: PreparedRules;
  table?: number;
  record: RecordDraft;
}

/**
 * Performs the plan. What a failed step leaves is undone in reverse; then the error is thrown.
 * The caller closes the dataplane that is returned.
 */
export function performAttach(input: AttachInput, actions: readonly AttachAction[], ports: AttachPorts): Dataplane {
  const work: Work = { record: input.record };
  const undo: (() => void)[] = [];
  try {
    for (const action of actions) perform(action, input, work, ports, undo);
  } catch (error) {
    undoAll(undo.reverse(), error);
    throw error;
  }
  return loaded(work);
}

/** A step that cannot be undone does not keep the others from it. */
function undoAll(steps: readonly (() => void)[], cause: unknown): void {
  const failures: unknown[] = [];
  for (const step of steps) {
    try {
      step();
    } catch (error) {
      failures.push(error);
    }
  }
  if (failures.length === 0) return;
  throw new VnicError(
    'failed',
    `Attaching failed (${String(cause)}), and so did undoing it: ${failures.map(String).join('; ')}`,
    {
      remedy: 'Look at what is left: vnicctl status',
      cause,
    },
  );
}

function loaded(work: Work): Dataplane {
  if (work.dataplane === undefined) throw new VnicError('failed', 'An attach plan must begin by loading the programs.');
  return work.dataplane;
}

function perform(action: AttachAction, input: AttachInput, work: Work, ports: AttachPorts, undo: (() => void)[]): void {
  const { native, pins, records } = ports;
  const { settings, device } = input.record;
  switch (action.kind) {
    case 'load': {
      const dataplane = Dataplane.create(native, {
        queues: settings.queues,
        maxFlows: settings.maxFlows,
        maxRules: settings.maxRules,
        hashSeed: settings.hashSeed,
        deliverMetadata: settings.deliverMetadata,
        replay: false,
      });
      work.dataplane = dataplane;
      undo.push(() => dataplane.close());
      return;
    }
    case 'fill-cpumap': {
      fillCpumap(loaded(work), settings);
      return;
    }
    case 'load-rules': {
      const store = new RuleStore(loaded(work));
      const { rules, azs } = input.model;
      work.rules = store.prepare(rules, azs, canShape(native, device, rules));
      work.record = { ...work.record, ruleGeneration: work.rules.generation };
      return;
    }
    case 'write-table': {
      const { config } = input.model;
      const { failedAzs, homeMoves } = input.record;
      const dataplane = loaded(work);
      const state = input.model.homeState(
        failedAzs.map((az) => az.name),
        homeMoves,
      );
      work.table = writeTables(new TableStore(dataplane), state, config.failover);
      writeBfdSessions(dataplane, config.azs);
      configureWatch(dataplane, config);
      configureRtt(dataplane, config.rttSample, settings.egress);
      return;
    }
    case 'pin':
      undo.push(() => pins.remove());
      pins.create();
      loaded(work).pin(pins);
      return;
    case 'attach-egress': {
      const program = loaded(work).program('vnic_egress');
      inNetns(native, device.netns, () => {
        if (action.hook === 'tcx') {
          pinLink(pins, attachTcxEgress(native, program, action.ifindex), LINK_EGRESS);
          return;
        }
        // Who clears away after a kill must know whose the qdisc is, and so before it is there.
        const clsactMade = !qdiscKinds(device.name).includes('clsact');
        const stage = (made: boolean): void => {
          work.record = { ...work.record, clsactMade: made };
          records.stage(work.record);
        };
        undo.push(() => records.dropStaged(device));
        stage(clsactMade);
        undo.push(() =>
          inNetns(native, device.netns, () => detachClsactEgress(native, action.ifindex, work.record.clsactMade)),
        );
        const made = attachClsactEgress(native, program, action.ifindex);
        // Somebody was faster.
        if (made !== clsactMade) stage(made);
      });
      return;
    }
    case 'attach-xdp': {
      const program = loaded(work).program('vnic_root');
      const link = inNetns(native, device.netns, () => attachXdp(native, program, action.ifindex, action.mode));
      pinLink(pins, link, LINK_XDP);
      return;
    }
    case 'tell-device':
      tellDevice(action.lever, input, work, ports, undo);
      return;
    case 'save-record':
      undo.push(() => records.dropStaged(device));
      records.stage(work.record);
      return;
    case 'activate':
      if (work.rules === undefined || work.table === undefined) {
        throw new VnicError('failed', 'An attach plan must load rules and a table before it activates them.');
      }
      new RuleStore(loaded(work)).activate(work.rules);
      passDirect(loaded(work), work.record.redirect);
      new TableStore(loaded(work)).activate(work.table, { lostAzs: setOf(input.model, input.record.failedAzs) });
      records.promote(device);
      return;
  }
}

/** What is tried and cannot be done is no reason not to attach: packets go by CPUMAP entries then. */
function tellDevice(lever: Lever, input: AttachInput, work: Work, ports: AttachPorts, undo: (() => void)[]): void {
  const { native, records } = ports;
  const { device } = input.record;
  const isTrial = work.record.redirect?.trial === lever;
  const before = work.record;
  try {
    using settings = new DeviceSettings(native, device);
    const changes = leverChanges(settings, lever, lever === 'rss' ? firstRss(native, input) : []);
    if (changes.size === 0) return;
    const formerSettings = formerOf(settings, changes);
    // Who clears away after a kill must know them, and so before they are changed.
    work.record = { ...work.record, formerSettings };
    undo.push(() => records.dropStaged(device));
    records.stage(work.record);
    undo.push(() => {
      using again = new DeviceSettings(native, device);
      restoreSettings(again, formerSettings, 'attached');
    });
    writeSettings(settings, changes);
  } catch (error) {
    if (!isTrial || !(error instanceof VnicError) || before.redirect === undefined) throw error;
    const { formerSettings } = work.record;
    if (formerSettings !== undefined) {
      using settings = new DeviceSettings(native, device);
      restoreSettings(settings, formerSettings, 'attached');
    }
    const reason = `${lever} cannot be tried: ${error.message}`;
    work.record = { ...before, redirect: { ...before.redirect, trial: null, reason } };
  }
}

/** Over the queues that are in use, before anything is known of flows. */
function firstRss(native: Native, { record, model }: AttachInput): number[] {
  const { name, netns } = record.device;
  const { current, azs } = model.homeState(record.failedAzs.map((az) => az.name));
  return inNetns(native, netns, () => {
    using ethtool = new Ethtool(native, name);
    const queues = withUsable(model.topology.queues, current.usableQueues);
    const size = ethtool.rssTable()?.length ?? 0;
    return planRss({ queues, azs, size, queueLimit: rssQueueLimit(ethtool), loads: new Map(), current: [] });
  });
}

function passDirect(dataplane: Dataplane, redirect: RedirectRecord | undefined): void {
  const direct = redirect !== undefined && redirect.mode !== 'cpumap';
  dataplane.control.storeU32(0, VnicControl.offsets.direct, direct ? 1 : 0);
}

/** Makes the CPUMAP entries that are not there: one that is would lose its ring if it were written again. */
export function fillCpumap(dataplane: Dataplane, { queueCpus, cpuQueueSize }: DataplaneSettings): void {
  for (const cpu of new Set(queueCpus)) {
    if (dataplane.cpus.get(cpu) !== undefined) continue;
    dataplane.cpus.set(cpu, { qsize: cpuQueueSize, progFd: dataplane.program('vnic_cpu') });
  }
  raiseCpumapThreads(dataplane.cpus.map.id);
  dataplane.setQueueCpus(queueCpus);
}

/** A link without a pin would end with this process. */
function pinLink(pins: PinFolder, link: Fd, name: string): void {
  try {
    pins.pin(link, name);
  } finally {
    link.close();
  }
}
