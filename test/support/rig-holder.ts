// SPDX-License-Identifier: Apache-2.0
/** Holds a rig with traffic until it is ended. Prints one line when the traffic runs. */
import { makeFlows } from '../rig/flows.ts';
import { startGenerator } from '../rig/generator.ts';
import { createRig } from '../rig/topology.ts';

const rig = createRig({ id: 'held', azs: 1, queues: 4 });
const flows = makeFlows({ count: 10, azs: rig.azs, host: rig.host });
const generator = await startGenerator(rig, { flows, ratePps: 10_000, durationMs: 50_000 });
console.log('ready');
await generator.finished;
