// SPDX-License-Identifier: Apache-2.0
/** The machine is the one that was asked for: what the other suites find there means something. */
import assert from 'node:assert/strict';
import { onlineCpus } from '../../../src/app/machine.ts';
import { loadNative } from '../../../src/loader/ffi/index.ts';
import { channelsOf } from '../../../src/loader/preflight/gather/ethtool.ts';
import { machineNames } from '../harness/machines.ts';
import type { Suite } from './checks.ts';
import { nicsOf, readLinkFile } from './nics.ts';

export const suite: Suite = {
  title: 'the machine',
  machines: machineNames,
  short: [],
  checks: [
    {
      title: 'has its CPUs, dealt to its NUMA nodes',
      run({ machine: { cpus, numaNodes = 1 } }) {
        const perNode = Object.groupBy(onlineCpus(), ({ numaNode }) => numaNode);
        const counts = Object.entries(perNode).map(([node, list = []]) => [Number(node), list.length]);
        const each = Math.floor(cpus / numaNodes);
        const expected = Array.from({ length: numaNodes }, (_, node) => [
          node,
          node === numaNodes - 1 ? cpus - node * each : each,
        ]);
        assert.deepEqual(counts, expected);
      },
    },
    {
      title: 'has its NICs, each with its queues and on its NUMA node',
      run({ machine }) {
        const native = loadNative();
        const found = nicsOf(machine).map(({ options, device }) => ({
          name: options.name,
          queues: channelsOf(native, device)?.maxCombined ?? 1,
          numaNode: Number(readLinkFile(device, 'device/../numa_node')),
        }));
        const expected = machine.nics.map(({ name, queues, numaNode = -1 }) => ({ name, queues, numaNode }));
        assert.deepEqual(found, expected);
      },
    },
  ],
};
