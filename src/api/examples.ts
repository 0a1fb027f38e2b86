// SPDX-License-Identifier: Apache-2.0
/** Examples that the OpenAPI document carries. */

export const exampleRule = {
  id: 7,
  priority: 100,
  match: { src: '10.1.0.0/16', proto: 'udp', dstPort: 53 },
  action: 'pass',
  limit: { rate: '10mbit', burst: '64kb', scope: 'flow' },
};
