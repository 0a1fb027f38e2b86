// SPDX-License-Identifier: Apache-2.0
/**
 * How packets come to the CPU of their queue, and whether the device does its part. Pure.
 *
 * `cpumap`: every packet is handed to the CPUMAP entry of its queue's CPU, wherever it arrived.
 * `rss`: the device's indirection table is set, and what arrives on its own queue is passed there.
 * `follow`: the device sends a flow to the receive queue by whose number it last transmitted, and what arrives on its own
 * queue is passed there.
 * In the last two the rest is handed on as with `cpumap`, so a packet is never on the wrong queue, only one hop later.
 */
import { VnicError } from '../errors.ts';

export const redirectModes = ['cpumap', 'rss', 'follow'] as const;
export type RedirectMode = (typeof redirectModes)[number];

export const redirectSettings = ['auto', ...redirectModes] as const;
/** As users ask for it. */
export type RedirectSetting = (typeof redirectSettings)[number];

/** One flow whose receive queue the device should know. */
export interface Arrival {
  /** Where the device should have sent its last packet. */
  expected: number;
  /** Where that packet arrived. */
  arrived: number;
}

export interface Obedience {
  /** Flows looked at, and those that arrived as they should. */
  flows: number;
  obeyed: number;
  verdict: 'obeys' | 'disobeys' | 'unknown';
}

/** Fewer flows, or all for one queue, may be right by chance. */
const LEAST_FLOWS = 16;
const LEAST_QUEUES = 2;
const OBEYS_FROM = 0.95;
const DISOBEYS_BELOW = 0.5;

/** What the flows say. Between obeying and not it stays unknown: a device that was just told may still be learning. */
export function judgeObedience(arrivals: readonly Arrival[]): Obedience {
  const flows = arrivals.length;
  const obeyed = arrivals.filter(({ expected, arrived }) => expected === arrived).length;
  const queues = new Set(arrivals.map(({ expected }) => expected)).size;
  const share = flows === 0 ? 0 : obeyed / flows;
  const verdict =
    !tellsEnough({ flows }) || queues < LEAST_QUEUES || (share < OBEYS_FROM && share >= DISOBEYS_BELOW)
      ? 'unknown'
      : share >= OBEYS_FROM
        ? 'obeys'
        : 'disobeys';
  return { flows, obeyed, verdict };
}

/** Whether so many flows are more than chance. */
export function tellsEnough({ flows }: Pick<Obedience, 'flows'>): boolean {
  return flows >= LEAST_FLOWS;
}

export function obedienceText({ flows, obeyed }: Obedience): string {
  return `${obeyed} of ${flows} flows arrive where they should`;
}

/** What is known of a device before it is attached. */
export interface RedirectFacts {
  mode: 'native' | 'generic';
  /** Whether the egress program runs, which chooses transmit queues. */
  egress: boolean;
  driver: string | null;
  /** Queues that are steered to. */
  queues: number;
  txQueues: number;
  /** `other`: its hash is not known here, so what the table does cannot be foreseen. */
  rss: 'none' | 'toeplitz' | 'other';
}

/** What moves packets to their queue before they are received. */
export type Lever = Exclude<RedirectMode, 'cpumap'>;

export interface RedirectChoice {
  /** What packets meet. */
  mode: RedirectMode;
  /** What is tried beside it: it begins when flows show that the device obeys. */
  trial: Lever | null;
  reason: string;
}

/** Drivers whose back ends are known to learn from what is sent: tun's flow cache, and a pair of veth by its wiring. */
const following = new Set(['virtio_net', 'veth']);

/** Null: nothing is in the way. */
function obstacle(lever: Lever, { mode, egress, queues, txQueues, rss }: RedirectFacts): string | null {
  if (mode === 'generic') return 'generic XDP runs after the receive queue was chosen and left';
  if (lever === 'rss') {
    if (rss === 'none') return 'the device has no RSS table';
    return rss === 'other' ? 'the device hashes by a function other than Toeplitz' : null;
  }
  if (!egress) return 'the egress program, which chooses transmit queues, is off';
  return txQueues < queues ? `the device has ${txQueues} transmit queues for ${queues} queues` : null;
}

const remedies: Readonly<Record<Lever, string>> = {
  rss: 'QEMU: -device virtio-net-pci,…,rss=on,hash=on; or leave it: --redirect cpumap',
  follow: 'Give it as many transmit queues as queues and an egress program, or leave it: --redirect cpumap',
};

/** Throws `preflight_refused` where what is asked for cannot work. */
export function chooseRedirect(asked: RedirectSetting, facts: RedirectFacts): RedirectChoice {
  if (asked === 'cpumap') return { mode: 'cpumap', trial: null, reason: 'the default, or asked for' };
  if (asked !== 'auto') {
    const why = obstacle(asked, facts);
    if (why === null) return { mode: asked, trial: null, reason: 'asked for' };
    throw new VnicError('preflight_refused', `Redirect mode ${asked} is not possible: ${why}.`, {
      remedy: remedies[asked],
    });
  }
  const noRss = obstacle('rss', facts);
  if (noRss === null) return tried('rss', 'the device has an RSS table');
  const noFollow = obstacle('follow', facts);
  if (noFollow !== null)
    return { mode: 'cpumap', trial: null, reason: noFollow === noRss ? noRss : `${noRss}, and ${noFollow}` };
  if (facts.driver === null || !following.has(facts.driver)) {
    const reason = `${noRss}, and back ends of ${facts.driver ?? 'this driver'} are not known to follow what is sent`;
    return { mode: 'cpumap', trial: null, reason };
  }
  return tried('follow', `${noRss}, and back ends of ${facts.driver} may follow what is sent`);
}

function tried(trial: Lever, why: string): RedirectChoice {
  return { mode: 'cpumap', trial, reason: `${why}; ${trial} begins when enough flows show that the device obeys` };
}
