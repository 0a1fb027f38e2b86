// SPDX-License-Identifier: Apache-2.0
/**
 * What stands between sender and sink of the live rig: the dataplane, and what it is held against. A peer that this
 * machine cannot run says why; nothing is estimated.
 */
import { spawn, spawnSync } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Dataplane } from '../../src/app/dataplane.ts';
import type { Fd } from '../../src/loader/fd.ts';
import { run, runInNamespace } from '../rig/namespaces.ts';
import { type LiveRig, TARGET_CPU } from './live-rig.ts';

export interface Contender {
  name: string;
  /** Puts it in place; what it returns takes it away. */
  readonly start: () => Disposable | Promise<Disposable>;
}

/** A contender, or why there is none. */
export type Peer = Contender | { name: string; reason: string };

export const isThere = (peer: Peer): peer is Contender => 'start' in peer;

export function bare(rig: LiveRig, name: string, program: Fd): Contender {
  return { name, start: () => rig.attach(program) };
}

export function ours(rig: LiveRig, name: string, dataplane: Dataplane): Contender {
  return bare(rig, name, dataplane.program('vnic_root'));
}

/** How much of what was offered passed a limit. */
export interface Limiting {
  readonly contender: Contender;
  /** Share since the last call. */
  passedShare(): number;
}

/** The words of a command that failed, the most telling line of them. */
function reasonOf(stderr: string): string {
  const lines = stderr.split('\n').filter((line) => line.trim() !== '');
  const [lacks, fails] = [/failed to find|not found/i, /error|fail/i].map((words) =>
    lines.find((line) => words.test(line)),
  );
  return (lacks ?? fails ?? lines[0] ?? 'it said nothing').trim();
}

function tried(command: string, args: readonly string[], input = ''): string | null {
  const { error, status, stderr } = spawnSync(command, args, { encoding: 'utf8', input });
  if (error !== undefined) return `${command} is not installed`;
  return status === 0 ? null : reasonOf(stderr);
}

const inside = ({ netns }: LiveRig): string[] => [`--net=/run/netns/${netns}`];

export const nftName = 'nft, dynamic set with a limit for each source';

/**
 * One token bucket for each source address, in a dynamic set at the device's ingress hook, the first that netfilter has.
 * Its own rule ends the packets that are within the limit.
 */
export function nftLimit(rig: LiveRig, packetsPerSecond: number, burst: number): Limiting | { reason: string } {
  const rules = `table netdev bench {
  set sources { type ipv4_addr; size 65536; flags dynamic,timeout; timeout 60s; }
  counter over { }
  counter within { }
  chain ingress { type filter hook ingress device ${rig.device} priority 0; policy accept;
    add @sources { ip saddr limit rate over ${packetsPerSecond}/second burst ${burst} packets } counter name over drop
    counter name within drop
  }
}
`;
  if (tried('nft', ['--version']) !== null) return { reason: 'nft is not installed' };
  const nft = (args: readonly string[], input = ''): string => run('nsenter', [...inside(rig), 'nft', ...args], input);
  const refused = tried('nsenter', [...inside(rig), 'nft', '--check', '-f', '-'], rules);
  if (refused !== null) return { reason: refused };
  let counted = { over: 0, within: 0 };
  const count = (name: string): number => {
    const text = nft(['list', 'counter', 'netdev', 'bench', name]);
    return Number(/packets (\d+)/.exec(text)?.[1]);
  };
  return {
    contender: {
      name: nftName,
      start: () => {
        const sink = rig.withoutSink();
        nft(['-f', '-'], rules);
        return {
          [Symbol.dispose]: () => {
            counted = { over: count('over'), within: count('within') };
            nft(['delete', 'table', 'netdev', 'bench']);
            sink[Symbol.dispose]();
          },
        };
      },
    },
    passedShare: () => counted.within / (counted.within + counted.over),
  };
}

export function ourLimit(rig: LiveRig, name: string, dataplane: Dataplane): Limiting {
  const read = () => dataplane.ruleCounters(0);
  let before = read();
  return {
    contender: ours(rig, name, dataplane),
    passedShare: () => {
      const now = read();
      const packets = Number(now.packets - before.packets);
      const dropped = Number(now.droppedPackets - before.droppedPackets);
      before = now;
      return (packets - dropped) / packets;
    },
  };
}

/** The kernel's own way to another CPU. The sender's packets arrive on the queue of its CPU, which is 0. */
export function rps(rig: LiveRig): Contender {
  const set = (mask: string): void => {
    // Only a namespace's own /sys has its devices.
    run('ip', [
      'netns',
      'exec',
      rig.netns,
      'sh',
      '-c',
      `echo ${mask} > /sys/class/net/${rig.device}/queues/rx-0/rps_cpus`,
    ]);
  };
  return {
    name: 'RPS',
    start: () => {
      set((1 << TARGET_CPU).toString(16));
      return { [Symbol.dispose]: () => set('0') };
    },
  };
}

export const tcFilters = {
  drop: { name: 'tc matchall, drop', filter: 'matchall action drop' },
  police: {
    name: 'tc matchall, police',
    filter: 'matchall action police rate 100mbit burst 64k conform-exceed drop/pipe',
  },
} as const;

/** A filter of tc at the place of the sink. */
export function tc(rig: LiveRig, { name, filter }: (typeof tcFilters)[keyof typeof tcFilters]): Peer {
  const add = `tc qdisc add dev ${rig.device} clsact\ntc filter add dev ${rig.device} ingress protocol all ${filter}\n`;
  const remove = `tc qdisc del dev ${rig.device} clsact\n`;
  {
    using _ = rig.withoutSink();
    const refused = tried('nsenter', [...inside(rig), 'sh', '-eu'], add);
    tried('nsenter', [...inside(rig), 'sh', '-eu'], remove);
    if (refused !== null) return { name, reason: `${filter}: ${refused}` };
  }
  return {
    name,
    start: () => {
      const sink = rig.withoutSink();
      runInNamespace(rig.netns, add);
      return {
        [Symbol.dispose]: () => {
          runInNamespace(rig.netns, remove);
          sink[Symbol.dispose]();
        },
      };
    },
  };
}

const XDP_BENCH_START_MS = 5000;

/** xdp-tools' own benchmark, which some kernels refuse. */
export async function xdpBench(rig: LiveRig): Promise<Peer> {
  const name = 'xdp-tools: xdp-bench drop';
  if (spawnSync('xdp-bench', ['help']).error !== undefined) return { name, reason: 'xdp-tools is not installed' };
  const start = async (): Promise<Disposable> => {
    const child = spawn('nsenter', [...inside(rig), 'xdp-bench', 'drop', rig.device], {
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    let stderr = '';
    child.stderr.on('data', (data: Buffer) => (stderr += data.toString()));
    const ended = new Promise<void>((resolve) => child.once('close', () => resolve()));
    const isAttached = (): boolean => /"xdp"/.test(run('ip', ['-n', rig.netns, '-j', 'link', 'show', rig.device]));
    for (const end = performance.now() + XDP_BENCH_START_MS; !isAttached(); await sleep(50)) {
      if (child.exitCode !== null || performance.now() > end) {
        child.kill('SIGINT');
        await ended;
        throw new Error(reasonOf(stderr));
      }
    }
    return {
      [Symbol.dispose]: () => {
        child.kill('SIGINT');
        // It takes its program away before it ends, while this thread waits.
        for (let tries = 0; tries < 50 && isAttached(); tries++) spawnSync('sleep', ['0.05']);
      },
    };
  };
  try {
    (await start())[Symbol.dispose]();
    return { name, start };
  } catch (error) {
    return { name, reason: `it does not load here: ${(error as Error).message}` };
  }
}
