// SPDX-License-Identifier: Apache-2.0
/** Loads the dataplane, explains and runs one packet, and prints what came of it. Argument: an object file. */
import { makePrefix, parseAddress } from '../../src/steering/rules/prefix.ts';
import { TestDataplane } from './dataplane.ts';
import { udpFrame } from './packet.ts';

const frame = udpFrame('10.1.2.3', '10.0.0.2', 4000, 53);
using test = new TestDataplane({ maxFlows: 64 }, process.argv[2]);
test.setRules([
  {
    id: 7,
    priority: 0,
    direction: 'ingress',
    match: { src: makePrefix(parseAddress('10.1.0.0'), 112), proto: 17 },
    action: 'drop',
    shadow: false,
  },
]);
const { ruleId, dropped, frameBytes } = test.explain(frame);
const action = test.ingress(frame);
console.log(
  JSON.stringify({
    adapter: test.native.adapter,
    ruleId,
    dropped,
    frameBytes,
    action,
    flows: [...test.flows().keys()],
  }),
);
