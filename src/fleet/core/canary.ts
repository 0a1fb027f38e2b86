// SPDX-License-Identifier: Apache-2.0
/** A policy on trial: on which nodes, and whether it may go on. Pure. */
import { VnicError } from '../../errors.ts';
import type { NodeStatus, Traffic } from './values.ts';

/** `10%` or a number of nodes. At least one, and not all of them unless asked for. Throws `usage`. */
export function canaryCount(share: string, nodes: number): number {
  const match = /^(\d{1,9})(%?)$/.exec(share);
  const number = Number(match?.[1]);
  const isShare = match?.[2] === '%';
  if (match === null || number < 1 || (isShare && number > 100)) {
    throw new VnicError('usage', `${JSON.stringify(share)} is not a share of the nodes.`, {
      remedy: 'Write a number of nodes, or 1% to 100%.',
    });
  }
  return Math.min(nodes, isShare ? Math.ceil((nodes * number) / 100) : number);
}

/** Evenly over the nodes in the order of their names, so that a trial meets different kinds of nodes. */
export function chooseCanaries(nodes: readonly string[], count: number): string[] {
  const sorted = [...nodes].sort();
  return Array.from({ length: count }, (_, index) => sorted[Math.floor((index * sorted.length) / count)]!);
}

export interface Trial {
  revision: number;
  nodes: readonly string[];
  /** How much the share of dropped packets may rise, 0 to 1. */
  maxDropRise: number;
}

export interface Verdict {
  /** Nodes on which it is in effect. */
  applied: string[];
  /** Why it must not go on. */
  against: string[];
}

/** Too few packets say nothing. */
const LEAST_PACKETS = 100;

export function judge({ revision, nodes, maxDropRise }: Trial, statuses: readonly NodeStatus[]): Verdict {
  const byNode = new Map(statuses.map((status) => [status.node, status]));
  const verdict: Verdict = { applied: [], against: [] };
  for (const node of nodes) {
    const status = byNode.get(node);
    if (status === undefined) {
      verdict.against.push(`${node} does not report any more`);
      continue;
    }
    const isApplied = status.appliedRevision === revision;
    if (isApplied) verdict.applied.push(node);
    const [problem] = status.specRevision === revision ? status.problems : [];
    if (problem !== undefined) verdict.against.push(`${node}: ${problem.code}: ${problem.message}`);
    const rise = isApplied ? dropRise(status.traffic) : 0;
    if (rise > maxDropRise) {
      verdict.against.push(
        `${node} drops ${percent(rise)} more of its packets than before (${percent(maxDropRise)} allowed)`,
      );
    }
  }
  return verdict;
}

/** The share of dropped packets since the change, less that before it. */
export function dropRise(traffic: NodeStatus['traffic']): number {
  if (traffic === null || traffic.since.packets < LEAST_PACKETS) return 0;
  return shareOf(traffic.since) - shareOf(traffic.before);
}

function shareOf({ packets, dropped }: Traffic): number {
  return packets === 0 ? 0 : dropped / packets;
}

function percent(share: number): string {
  return `${(share * 100).toFixed(2)} %`;
}
