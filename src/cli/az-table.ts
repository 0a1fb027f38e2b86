// SPDX-License-Identifier: Apache-2.0
/** AZs as a table. */
import type { Output } from '../api/client.ts';
import { formatQueueList } from '../config/queue-list.ts';
import { type Column, count, durationText, green, red, table, yellow } from './output.ts';

type Az = Output<'getAz'>;

/** What is not the same for all is in the table; all of it, and evidence at its full length, is in JSON and YAML. */
export function azTable(azs: readonly Az[]): string {
  const columns: Column<Az>[] = [
    { title: 'AZ', value: (az) => az.name },
    { title: 'STATE', value: (az) => (az.state === 'up' ? green('up') : red('failed')) },
    { title: 'CAUSE', value: (az) => az.cause },
    { title: 'SINCE', value: (az) => az.since },
    { title: 'WEIGHT', value: (az) => az.weight },
    { title: 'QUEUES', value: (az) => formatQueueList(az.queues) },
    { title: 'PREFIXES', value: (az) => az.prefixes.join(', ') || null },
    { title: 'DETECTORS', value: (az) => detectorsText(az) },
  ];
  if (azs.some(({ rtt }) => rtt !== null)) columns.push({ title: 'RTT P50/P99', value: rttText });
  if (azs.some(({ health }) => health !== null)) columns.push({ title: 'SEEN', value: seenText });
  if (azs.some(({ evidence }) => evidence !== null)) {
    columns.push({ title: 'EVIDENCE', value: ({ evidence }) => (evidence === null ? null : shortened(evidence)) });
  }
  return table(azs, columns);
}

/** Round-trip times of TCP since attach. */
function rttText({ rtt }: Az): string | null {
  if (rtt === null || rtt.p50Ns === null || rtt.p99Ns === null) return null;
  return `${durationText(rtt.p50Ns)} / ${durationText(rtt.p99Ns)}`;
}

/** What may find the AZ dead. */
function detectorsText({ silence_ms: silenceMs, probe, bfd }: Az): string | null {
  const detectors = [
    ...(silenceMs === undefined ? [] : [`silence ${silenceMs} ms`]),
    ...(probe === undefined ? [] : [`probe ${probe.type} ${count(probe.targets?.length ?? 1, 'target')}`]),
    ...(bfd === undefined ? [] : [`bfd ${count(bfd.peers.length, 'peer')}`]),
  ];
  return detectors.join(', ') || null;
}

/** What the kernel sees of it now. */
function seenText({ health }: Az): string | null {
  if (health === null) return null;
  const { silence, bfd, refused } = health;
  const up = bfd.filter(({ state }) => state === 'up').length;
  const seen = [
    ...(silence === null ? [] : [silenceText(silence)]),
    ...(bfd.length === 0 ? [] : [`bfd ${up} of ${bfd.length} up`]),
    ...(refused === null ? [] : [red(`${refused}: too few queues would be left`)]),
  ];
  return seen.join(', ') || null;
}

function silenceText({ armed, heardAgoMs }: NonNullable<NonNullable<Az['health']>['silence']>): string {
  if (heardAgoMs === null) return 'never heard';
  const ago = heardAgoMs < 10_000 ? `${Math.round(heardAgoMs)} ms` : `${Math.round(heardAgoMs / 1000)} s`;
  return armed ? `heard ${ago} ago` : yellow(`idle, heard ${ago} ago`);
}

const EVIDENCE_WIDTH = 60;

/** Cut at a word, so that a line stays a line. */
function shortened(text: string): string {
  if (text.length <= EVIDENCE_WIDTH) return text;
  const cut = text.slice(0, EVIDENCE_WIDTH - 1);
  const end = cut.lastIndexOf(' ');
  return `${cut.slice(0, end > EVIDENCE_WIDTH / 2 ? end : undefined)}…`;
}
