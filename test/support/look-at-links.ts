// SPDX-License-Identifier: Apache-2.0
/** A worker thread that looks at the devices of a namespace `looks` times and answers with their names each time. */
import { parentPort, workerData } from 'node:worker_threads';
import { linksIn } from '../../src/loader/device-watch.ts';
import { type AdapterName, loadNative } from '../../src/loader/ffi/index.ts';

const { adapter, netns, looks } = workerData as { adapter: AdapterName; netns: string; looks: number };
const native = loadNative({ adapter });
const seen = new Set<string>();
for (let look = 0; look < looks; look++) seen.add([...linksIn(native, netns).keys()].toSorted().join(' '));
parentPort!.postMessage([...seen]);
