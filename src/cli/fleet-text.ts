// SPDX-License-Identifier: Apache-2.0
/** What vnicctl fleet prints for people. Pure. */
import type { NodeStatus } from '../fleet/core/values.ts';
import type { FleetView } from '../fleet/node/fleet-node.ts';
import type { FleetOverview } from '../fleet/operator.ts';
import { green, pairs, red, secondsText, table } from './output.ts';

function revisionText(node: Pick<NodeStatus, 'appliedRevision' | 'canary'>): string {
  const { appliedRevision, canary } = node;
  return appliedRevision === null ? '-' : `${appliedRevision}${canary ? ' (trial)' : ''}`;
}

function stateOf({ specRevision, appliedRevision, drift, problems }: NodeStatus): string {
  const [problem] = problems;
  if (problem !== undefined) return red(`${problem.code}: ${problem.message}`);
  if (drift.length > 0) return red(`drift on ${drift.join(', ')}`);
  return specRevision === appliedRevision ? green('ok') : 'converging';
}

function labelsText(labels: NodeStatus['labels']): string {
  return Object.entries(labels)
    .map(([name, value]) => `${name}=${value}`)
    .join(',');
}

export function overviewText({ spec, candidate, declarations, evidence, nodes, problems }: FleetOverview): string {
  const lines = [
    spec === null
      ? 'There is no policy yet: vnicctl fleet apply FILE.'
      : `Policy: revision ${spec.revision}, ${spec.since} by ${spec.by}${spec.rollbackOf === null ? '' : `, that of revision ${spec.rollbackOf}`}`,
    ...(candidate === null ? [] : [`On trial: revision ${candidate.revision} on ${candidate.nodes.join(', ')}`]),
    ...declarations.map(({ az, by, who, reason, since }) => {
      return `${red('Down')}: ${az}, since ${since} by ${by} (${who})${reason === '' ? '' : `: ${reason}`}`;
    }),
    ...evidence.map(({ az, node, cause, since }) => `Seen dead: ${az} by ${node} (${cause}) since ${since}`),
    ...problems.map(({ code, message }) => red(`${code}: ${message}`)),
  ];
  if (nodes.length === 0) return [...lines, 'No node reports.'].join('\n');
  const nodeTable = table(nodes, [
    { title: 'NODE', value: ({ node }) => node },
    { title: 'LABELS', value: ({ labels }) => labelsText(labels) || '-' },
    { title: 'SPEC', value: ({ specRevision }) => specRevision },
    { title: 'APPLIED', value: revisionText, align: 'right' },
    {
      title: 'AZS FAILED',
      value: ({ azs }) =>
        [...new Set(azs.filter(({ state }) => state === 'failed').map(({ az }) => az))].join(',') || '-',
    },
    { title: 'STATE', value: stateOf },
  ]);
  return [...lines, nodeTable].join('\n');
}

export function nodeText(view: FleetView): string {
  const { node, prefix, connected, endpoint, lastSyncAgeSeconds: age, labels, specRevision, drift, problems } = view;
  const lines = pairs([
    ['node', `${node} of ${prefix}`],
    ['etcd', connected ? `${green('connected')} to ${endpoint}` : red(`away; last asked: ${endpoint ?? 'none'}`)],
    ['heard of', age === null ? 'never' : `${secondsText(age)} ago`],
    ['labels', labelsText(labels) || null],
    ['spec', specRevision === null ? null : String(specRevision)],
    ['applied', revisionText(view)],
    ['drift', drift.join(', ') || null],
  ]);
  return [
    lines,
    ...view.declarations.map(({ az, by, who }) => `${red('Down')}: ${az} by ${by} (${who})`),
    ...problems.map(({ code, message }) => red(`${code}: ${message}`)),
  ].join('\n');
}
