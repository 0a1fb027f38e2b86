// SPDX-License-Identifier: Apache-2.0
/** What a benchmark run leaves: results.json, and one HTML page that needs nothing else. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { cpus, release, totalmem } from 'node:os';
import path from 'node:path';
import { isDistribution } from './distribution.ts';
import type { PacketResult } from './packet.ts';

export interface Results {
  machine: Record<string, string | number>;
  versions: Record<string, string>;
  parts: Record<string, PacketResult[]>;
}

function versionOf(command: string, args: string[]): string {
  try {
    return execFileSync(command, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).split('\n')[0] ?? '';
  } catch {
    return 'not installed';
  }
}

export function describeMachine(libbpf: string | null): Pick<Results, 'machine' | 'versions'> {
  return {
    machine: {
      cpu: cpus()[0]?.model ?? 'unknown',
      cpus: cpus().length,
      memoryGiB: Math.round(totalmem() / 2 ** 30),
    },
    versions: {
      kernel: release(),
      node: process.version,
      libbpf: libbpf ?? 'unknown',
      clang: versionOf('clang-19', ['--version']),
    },
  };
}

const escapeHtml = (text: string): string => text.replace(/[&<>"]/g, (c) => `&#${c.charCodeAt(0)};`);

/** Nanoseconds are whole. */
const figure = (value: number, unit: string): string => value.toFixed(unit === 'ns' ? 0 : 1);

function section(part: string, results: readonly PacketResult[]): string {
  const widest = Math.max(...results.map((result) => result.median));
  const rows = results.map(({ name, median, min, max, ratio, ratioSpread, bound, unit }) => {
    const met = bound === null ? '' : ratio <= bound ? 'met' : 'missed';
    return `<tr class="${met}"><th scope="row">${escapeHtml(name)}</th>
<td class="bar"><span style="width:${((100 * median) / widest).toFixed(1)}%"></span></td>
<td>${figure(median, unit)} ${unit}</td><td>${figure(min, unit)}&ndash;${figure(max, unit)}</td>
<td>${ratio.toFixed(2)} <small>(${ratioSpread.map((value) => value.toFixed(2)).join('&ndash;')})</small></td>
<td>${bound === null ? '' : `&le; ${bound} ${met}`}</td></tr>`;
  });
  const methods = new Set(results.filter(isDistribution).map(({ method }) => method));
  return `<h2>${escapeHtml(part)}</h2>${[...methods].map((method) => `<p>${escapeHtml(method)}</p>`).join('\n')}<table><thead><tr><th>case</th><th></th><th>median</th><th>min&ndash;max</th>
<th>ratio to floor (quartiles)</th><th>bound</th></tr></thead><tbody>${rows.join('\n')}</tbody></table>`;
}

export function htmlReport(results: Results): string {
  const facts = { ...results.machine, ...results.versions };
  return `<!doctype html><html lang="en"><meta charset="utf-8"><title>vnicctl benchmarks</title><style>
:root{color-scheme:light dark}body{font:15px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem}
table{border-collapse:collapse;width:100%}th{text-align:left;font-weight:500}td{text-align:right;white-space:nowrap}
th,td{padding:.2rem .6rem;border-bottom:1px solid #8883}.bar{width:30%}.bar span{display:block;height:.8rem;background:#3b82c4}
.met td:last-child{color:#2a8a3e}.missed td:last-child{color:#c0392b;font-weight:600}small{opacity:.7}</style>
<h1>vnicctl benchmarks</h1><p>${Object.entries(facts)
    .map(([name, value]) => `${escapeHtml(name)}: <b>${escapeHtml(String(value))}</b>`)
    .join(' &middot; ')}</p>
<p>Every round runs the floor right before each case; the ratio is the median over the rounds, with its quartiles.</p>
${Object.entries(results.parts)
  .map(([part, list]) => section(part, list))
  .join('\n')}</html>
`;
}

export function writeReport(results: Results, folder: string): void {
  mkdirSync(folder, { recursive: true });
  writeFileSync(path.join(folder, 'results.json'), `${JSON.stringify(results, null, 2)}\n`);
  writeFileSync(path.join(folder, 'report.html'), htmlReport(results));
}
