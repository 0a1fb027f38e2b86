// SPDX-License-Identifier: Apache-2.0
/** One probe of any type, from a network namespace. */
import type { Native } from '../../loader/ffi/index.ts';
import type { AzProbe, ProbeTarget } from '../../steering/azs.ts';
import { type Attempt, type ProbeResult, runProbe, type Settle } from '../run-probe.ts';
import { attemptIcmp, attemptUdp } from './datagram.ts';
import { familyOf, type SocketPlace } from './sockets.ts';
import { attemptHttp, attemptTcp } from './tcp.ts';

export interface ProbeOrder {
  /** Namespace that it leaves from; null: that of the process. */
  netns: string | null;
  probe: AzProbe;
  target: ProbeTarget;
  signal: AbortSignal;
}

/** Never rejects. */
export type Prober = (order: ProbeOrder) => Promise<ProbeResult>;

export function createProber(native: Native): Prober {
  return ({ netns, probe, target, signal }) => {
    const place: SocketPlace = { native, netns, family: familyOf(target.address) };
    const { timeoutMs } = probe;
    return runProbe((settle) => attempt(place, probe, target, settle), {
      timeoutMs,
      now: performance.now.bind(performance),
      signal,
    });
  };
}

function attempt(place: SocketPlace, probe: AzProbe, { address, port }: ProbeTarget, settle: Settle): Attempt {
  const endpoint = { address, port: port ?? 0 };
  switch (probe.type) {
    case 'icmp':
      return attemptIcmp(place, address, settle);
    case 'udp':
      return attemptUdp(place, endpoint, settle);
    case 'tcp':
      return attemptTcp(place, endpoint, settle);
    case 'http':
      return attemptHttp(place, endpoint, probe.http ?? { path: '/', status: [200, 399] }, settle);
  }
}
