// SPDX-License-Identifier: Apache-2.0
/** Traffic to all nodes of a fleet, and what of it arrived behind their dataplanes. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import type { FleetNetwork } from './fleet-network.ts';

const FLOWS = 16;

/** Of a round: the flows of a node. */
export function isPortOf(round: number): number {
  return 9000 + (round % FLOWS);
}

/** Packets to ports where nobody listens that reached the UDP of the namespace of a process. */
function arrivals(pid: number): number {
  const lines = readFileSync(`/proc/${pid}/net/snmp`, 'utf8')
    .split('\n')
    .filter((line) => line.startsWith('Udp:'));
  const [names = [], values = []] = lines.map((line) => line.split(' '));
  return Number(values[names.indexOf('NoPorts')]);
}

export interface TrafficResult {
  sent: number;
  lost: number;
}

export class FleetTraffic {
  readonly #child: ChildProcess;
  readonly #lines: AsyncIterator<string>;
  readonly #pids: readonly number[];
  readonly #before: number[];

  private constructor(child: ChildProcess, lines: AsyncIterator<string>, pids: readonly number[]) {
    this.#child = child;
    this.#lines = lines;
    this.#pids = pids;
    this.#before = pids.map(arrivals);
  }

  /** @param pids a process in the namespace of each node */
  static async start(network: FleetNetwork, pids: readonly number[]): Promise<FleetTraffic> {
    const script = path.join(import.meta.dirname, 'fleet-traffic-child.ts');
    const addresses = network.nodes.map(({ deviceAddress }) => deviceAddress);
    const child = spawn('nsenter', [`--net=/run/netns/${network.fabric}`, process.execPath, script, ...addresses], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
    const before = pids.map(arrivals);
    await lines.next();
    const traffic = new FleetTraffic(child, lines, pids);
    traffic.#before.splice(0, before.length, ...before);
    return traffic;
  }

  /** Goes on until so many packets arrived, for ten seconds at most: a fault may be over before much was sent. */
  async atLeast(packets: number): Promise<void> {
    const arrived = (): number => this.#pids.reduce((sum, pid, node) => sum + arrivals(pid) - this.#before[node]!, 0);
    for (let tries = 0; arrived() < packets && tries < 500; tries++) await sleep(20);
  }

  /** Waits for what is under way. */
  async stop(): Promise<TrafficResult> {
    this.#child.stdin!.end();
    const { value } = (await this.#lines.next()) as { value: string };
    if (this.#child.exitCode === null) await once(this.#child, 'exit');
    const sent = JSON.parse(value) as number[];
    const missing = (): number =>
      sent.reduce(
        (sum, count, index) => sum + Math.max(0, count - (arrivals(this.#pids[index]!) - this.#before[index]!)),
        0,
      );
    // A busy machine has some of them in its rings.
    for (let tries = 0; missing() > 0 && tries < 100; tries++) await sleep(20);
    return { sent: sent.reduce((sum, count) => sum + count, 0), lost: missing() };
  }

  kill(): void {
    this.#child.kill('SIGKILL');
  }
}
