// SPDX-License-Identifier: Apache-2.0
/** Traffic of the peer for the facts: what it sent is counted by a probe. */
import type { Guest } from './checks.ts';
import { total } from './probe.ts';
import { eventually, makeFlows } from './traffic.ts';

/** Datagrams of so many flows of each family with each AZ. Gives how many were sent. */
export async function sendFlows({ ask }: Guest, port: number, perAz: number, packets: number): Promise<number> {
  const flows = makeFlows(perAz, port);
  await ask({ do: 'open', endpoints: flows.map(({ from }) => from), echo: false });
  const { sent = 0 } = await ask({ do: 'send', flows, packets, payloadBytes: 64 });
  return sent;
}

/** Adds up what `take` gives until there is as much as was sent. */
export async function collect(take: () => Map<number, number>, sent: number): Promise<Map<number, number>> {
  const all = new Map<number, number>();
  await eventually(() => {
    for (const [index, count] of take()) all.set(index, (all.get(index) ?? 0) + count);
    return total(all) >= sent;
  });
  return all;
}
