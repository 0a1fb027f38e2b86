// SPDX-License-Identifier: Apache-2.0
/** Dataplanes that are loaded and not attached, and what runs packets through them. */
import { Dataplane } from '../../src/app/dataplane.ts';
import { DeviceModel } from '../../src/app/device-model.ts';
import { onlineCpus } from '../../src/app/machine.ts';
import { RuleStore } from '../../src/app/rule-store.ts';
import { TableStore } from '../../src/app/table-store.ts';
import { parseDevice } from '../../src/config/device.ts';
import { raiseCpumapThreads } from '../../src/loader/cpumap-threads.ts';
import type { Fd } from '../../src/loader/fd.ts';
import type { Native } from '../../src/loader/ffi/index.ts';
import { BpfObject } from '../../src/loader/object.ts';
import { BpfMap } from '../../src/maps/map.ts';
import { ProgArray } from '../../src/maps/prog-array.ts';

import { parseRules } from '../../src/steering/rules/parse.ts';
import { MappedElements, structFields } from '../rig/mapped.ts';
import { randomSource } from '../support/random.ts';
import { fillRules, type PacketCase } from './cases.ts';

const QUEUES = 32;
const ORDER = 1 << 20;
const NEW_FLOWS = 1;

export const azs = [
  { name: 'az-a', queues: '0-10', prefixes: ['10.1.0.0/16', 'fd00:a::/32'] },
  { name: 'az-b', queues: '11-21', prefixes: ['10.2.0.0/16'] },
  { name: 'az-c', queues: '22-31', prefixes: ['10.3.0.0/16'] },
];

/** What a dataplane is loaded with. */
export interface DataplaneSetting extends Pick<PacketCase, 'rules' | 'fill' | 'maxFlows' | 'isSteered'> {
  queues?: number;
  azs?: readonly unknown[];
  /** CPU of every queue; default: as planned. */
  cpu?: number;
  latencySampleShift?: number;
}

/** @param objectFile another build of the programs, to compare with */
export function loadDataplane(native: Native, setting: DataplaneSetting, objectFile?: string): Dataplane {
  const {
    rules = [],
    fill = 0,
    maxFlows = 131_072,
    isSteered = true,
    queues = QUEUES,
    latencySampleShift = 6,
  } = setting;
  const config = parseDevice('bench', { azs: setting.azs ?? azs });
  const all = parseRules([...rules, ...fillRules(fill)]);
  const model = DeviceModel.plan({ ...config, rules: all }, queues, onlineCpus());
  const cpus = model.topology.queues.map((queue) => setting.cpu ?? queue.cpu);
  const size = {
    queues,
    maxFlows,
    maxRules: 131_072,
    hashSeed: 1,
    deliverMetadata: false,
    latencySampleShift,
    replay: false,
  };
  const dataplane = Dataplane.create(native, size, objectFile);
  for (const cpu of new Set(cpus)) dataplane.cpus.set(cpu, { qsize: 4096, progFd: dataplane.program('vnic_cpu') });
  raiseCpumapThreads(dataplane.cpus.map.id);
  dataplane.setQueueCpus(cpus);
  const store = new RuleStore(dataplane);
  store.activate(store.prepare(all, config.azs));
  if (isSteered) new TableStore(dataplane).commit(model.homeState().current);
  return dataplane;
}

/** Flow of each packet in turn. Zipf: the k-th is met in proportion to 1 / k. */
export function flowOrder(flows: number, mix: 'uniform' | 'heavy-tailed', length: number): Uint32Array {
  const random = randomSource(7);
  const draw = (): number => random() / 2 ** 32;
  // The k-th flow has the share ln((k + 1) / k) / ln(flows + 1), so a uniform number is a power of (flows + 1).
  const next =
    mix === 'uniform'
      ? () => Math.floor(draw() * flows)
      : () => Math.min(flows - 1, Math.floor((flows + 1) ** draw()) - 1);
  return Uint32Array.from({ length }, next);
}

/** A program that makes one packet into those of many flows and gives it on; without `next` it passes. */
export class Spread implements Disposable {
  readonly program: Fd;
  readonly #object: BpfObject;

  constructor(native: Native, floorObject: string, { flows = 1, mix = 'uniform' }: PacketCase, next?: Fd) {
    this.#object = BpfObject.load(native, floorObject, {
      maps: { vnic_flow_sets: { maxEntries: 1 }, bench_lru: { maxEntries: 64 } },
    });
    this.program = this.#object.programFd('bench_spread_flows');
    const fields = structFields(this.#object, 'bench_spread');
    using control = this.#object.mapFd('bench_spread');
    const spread = new MappedElements(native, control, 1, fields.size);
    if (flows === 'new') {
      spread.setU32(0, fields.at('mode'), NEW_FLOWS);
    } else {
      using fd = this.#object.mapFd('bench_order');
      const order = new MappedElements(native, fd, ORDER, 8);
      flowOrder(flows, mix, ORDER).forEach((flow, index) => {
        order.setU64(index, 0, BigInt(flow));
      });
      order.close();
    }
    spread.close();
    if (next !== undefined) new ProgArray(native, BpfMap.fromFd(native, this.#object.mapFd('bench_next'))).set(0, next);
  }

  [Symbol.dispose](): void {
    this.program.close();
    this.#object.close();
  }
}
