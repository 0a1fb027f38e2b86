// SPDX-License-Identifier: Apache-2.0
/** `BENCH=packet`: nanoseconds of one packet through the whole ingress path, against a bare XDP_PASS. */
import { Dataplane } from '../../src/app/dataplane.ts';
import { DeviceModel } from '../../src/app/device-model.ts';
import { onlineCpus } from '../../src/app/machine.ts';
import { RuleStore } from '../../src/app/rule-store.ts';
import { TableStore } from '../../src/app/table-store.ts';
import { parseDevice } from '../../src/config/device.ts';
import type { Native } from '../../src/loader/ffi/index.ts';
import { BpfObject } from '../../src/loader/object.ts';
import { ProgramRunner } from '../../src/loader/program.ts';
import { parseRules } from '../../src/steering/rules/parse.ts';
import { fillRules, type PacketCase, packetCases } from './cases.ts';
import { type Measurement, measure, type Subject } from './measure.ts';

/** BPF_PROG_RUN patches the kernel's XDP dispatcher around each run; a short run measures what that leaves behind. */
const REPEAT = 1_000_000;
const ROUNDS = 9;
const QUEUES = 32;

export interface PacketResult extends Measurement {
  bound: number | null;
}

export function benchPackets(native: Native, floorObject: string): PacketResult[] {
  const opened: Disposable[] = [];
  try {
    const frame = packetCases[1]?.frame ?? new Uint8Array(64);
    const floorProgram = BpfObject.load(native, floorObject, { maps: { vnic_flow_sets: { maxEntries: 1 } } });
    opened.push(floorProgram);
    const peers = [
      ['flow look-up alone, kernel LRU hash', 'bench_lru_hash'],
      ['flow look-up alone, flow table', 'bench_flow_table'],
    ].map(([name = '', program = '']): Subject => {
      const peer = new ProgramRunner(native, floorProgram.programFd(program), { maxInputBytes: 2048 });
      return { name, unit: 'ns', run: () => peer.run(frame, REPEAT).durationNs };
    });
    const runner = new ProgramRunner(native, floorProgram.programFd('bench_pass'), { maxInputBytes: 2048 });
    const floor = { name: 'bare XDP_PASS', unit: 'ns', run: () => runner.run(frame, REPEAT).durationNs };
    const subjects = packetCases.map((item): Subject => {
      const dataplane = loadCase(native, item);
      opened.push(dataplane);
      const root = new ProgramRunner(native, dataplane.program('vnic_root'), { maxInputBytes: 2048 });
      return { name: item.name, unit: 'ns', run: () => root.run(item.frame, REPEAT).durationNs };
    });
    const bounds = new Map(packetCases.map(({ name, bound }) => [name, bound]));
    return measure(floor, [...peers, ...subjects], ROUNDS).map((result) => ({
      ...result,
      bound: bounds.get(result.name) ?? null,
    }));
  } finally {
    for (const item of opened) item[Symbol.dispose]();
  }
}

function loadCase(native: Native, { rules, fill = 0 }: PacketCase): Dataplane {
  const config = parseDevice('bench', {
    azs: [
      { name: 'az-a', queues: '0-10', prefixes: ['10.1.0.0/16', 'fd00:a::/32'] },
      { name: 'az-b', queues: '11-21', prefixes: ['10.2.0.0/16'] },
      { name: 'az-c', queues: '22-31', prefixes: ['10.3.0.0/16'] },
    ],
  });
  const all = parseRules([...rules, ...fillRules(fill)]);
  const model = DeviceModel.plan({ ...config, rules: all }, QUEUES, onlineCpus());
  const cpus = model.topology.queues.map((queue) => queue.cpu);
  const dataplane = Dataplane.create(native, {
    queues: QUEUES,
    maxFlows: 131_072,
    maxRules: 131_072,
    hashSeed: 1,
    deliverMetadata: false,
    latencySampleShift: 6,
    replay: false,
  });
  for (const cpu of new Set(cpus)) dataplane.cpus.set(cpu, { qsize: 512, progFd: dataplane.program('vnic_cpu') });
  dataplane.setQueueCpus(cpus);
  const store = new RuleStore(dataplane);
  store.activate(store.prepare(all, config.azs));
  new TableStore(dataplane).commit(model.homeState().current);
  return dataplane;
}
