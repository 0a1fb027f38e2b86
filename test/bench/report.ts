// SPDX-License-Identifier: Apache-2.0
/** What a benchmark run leaves: results.json, and one HTML page that needs nothing else. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { isDistribution } from './distribution.ts';
import type { MachineDescription } from './machine.ts';
import type { Part } from './part.ts';
import type { Plot } from './plot.ts';
import { isMet, type Result, verdictText } from './result.ts';
import type { Validation } from './validation.ts';

export interface Results extends MachineDescription {
  parts: Record<string, readonly Result[]>;
  plots: Record<string, readonly Plot[]>;
  validation: Record<string, Validation>;
  overall_score: number | null;
}

const modules = path.join(import.meta.dirname, '../../node_modules');

const escapeHtml = (text: string): string => text.replace(/[&<>"]/g, (c) => `&#${c.charCodeAt(0)};`);

/** So that no text in the data ends the script. */
const scriptJson = (value: unknown): string => JSON.stringify(value).replaceAll('<', '\\u003c');

const figure = (value: number, digits: number): string =>
  value.toLocaleString('en', { minimumFractionDigits: digits, maximumFractionDigits: digits });

function row(result: Result, digits: number): string {
  const { name, unit, median, min, max, ratio, ratioSpread, detail, reason } = result;
  const aside = detail === undefined ? '' : `<br><small>${escapeHtml(detail)}</small>`;
  const head = `<th scope="row">${escapeHtml(name)}${aside}</th>`;
  if (median === null) return `<tr>${head}<td colspan="4">not measured: ${escapeHtml(reason ?? '')}</td></tr>`;
  const met = isMet(result);
  const spread =
    ratioSpread === null ? '' : `<small>(${ratioSpread.map((value) => value.toFixed(2)).join('–')})</small>`;
  return `<tr class="${met === null ? '' : met ? 'met' : 'missed'}">${head}
<td>${figure(median, digits)} ${escapeHtml(unit)}</td><td>${min === null || max === null ? '' : `${figure(min, digits)}–${figure(max, digits)}`}</td>
<td>${ratio === null ? '' : `${ratio.toFixed(2)} ${spread}`}</td>
<td>${escapeHtml(verdictText(result).toLowerCase().replace('<=', '≤').replace('>=', '≥'))}</td></tr>`;
}

function section({ name, title, digits }: Part, results: Results): string {
  const list = results.parts[name] ?? [];
  const methods = new Set(list.filter(isDistribution).map(({ method }) => method));
  const canvases = (results.plots[name] ?? []).map((plot, index) => {
    const height = plot.kind === 'bars' && plot.upright !== true ? 90 + 22 * plot.bars.length : 320;
    return `<figure><figcaption>${escapeHtml(plot.title)}</figcaption><div style="height:${height}px"><canvas data-plot="${escapeHtml(name)}/${index}" role="img" aria-label="${escapeHtml(plot.title)}"></canvas></div></figure>`;
  });
  return `<section><h2>${escapeHtml(name)}</h2><p>${escapeHtml(title)}</p>
${canvases.join('\n')}
<details${canvases.length === 0 ? ' open' : ''}><summary>${list.length} figure${list.length === 1 ? '' : 's'}</summary>
${[...methods].map((method) => `<p><small>${escapeHtml(method)}</small></p>`).join('\n')}
<table><thead><tr><th>what</th><td>median</td><td>min–max</td><td>ratio to floor (quartiles)</td><td>promised</td></tr></thead>
<tbody>${list.map((result) => row(result, digits)).join('\n')}</tbody></table></details></section>`;
}

function targetRow([name, { target, unit, achieved, met, method }]: [string, Validation]): string {
  const state = met === null ? '' : met ? 'met' : 'missed';
  const value = achieved === null ? 'not measured' : String(Number(achieved.toPrecision(6)));
  return `<tr class="${state}"><th scope="row">${escapeHtml(name)}</th><td>${target} ${escapeHtml(unit)}</td>
<td>${value}</td><td>${state}</td><td class="method">${escapeHtml(method)}</td></tr>`;
}

export function htmlReport(results: Results, parts: readonly Part[]): string {
  const facts = Object.entries({ ...results.machine, ...results.versions })
    .filter(([, value]) => value !== null)
    .map(([name, value]) => `<dt>${escapeHtml(name.replaceAll('_', ' '))}</dt><dd>${escapeHtml(String(value))}</dd>`);
  const library = readFileSync(path.join(modules, 'chart.js/dist/chart.umd.min.js'), 'utf8');
  const drawing = readFileSync(path.join(import.meta.dirname, 'report-page.mjs'), 'utf8');
  const style = readFileSync(path.join(import.meta.dirname, 'report-page.css'), 'utf8');
  const score = results.overall_score === null ? 'nothing measured' : results.overall_score.toFixed(3);
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>vnicctl benchmarks</title><style>${style}</style></head><body>
<h1>vnicctl benchmarks</h1>
<p>Floors and peers ran between the cases of the same run; ratios are medians over the rounds, with their quartiles. Figures
of two runs are not for comparing: the machine is never the same twice.</p>
<h2>Targets <small>overall score ${score}</small></h2>
<table><thead><tr><th>target</th><td>wanted</td><td>achieved</td><td></td><td class="method">how</td></tr></thead>
<tbody>${Object.entries(results.validation).map(targetRow).join('\n')}</tbody></table>
${parts
  .filter(({ name }) => name in results.parts)
  .map((part) => section(part, results))
  .join('\n')}
<section><h2>Machine</h2><dl>${facts.join('\n')}</dl></section>
<script>${library.replaceAll('</script', '<\\/script').replace(/^\/\/# sourceMappingURL=.*$/m, '')}</script>
<script type="application/json" id="plots">${scriptJson(results.plots)}</script>
<script type="module">${drawing.replaceAll('</script', '<\\/script')}</script>
</body></html>
`;
}

/** @param output a folder, or the JSON file's name
 *  @returns the files that were written */
export function writeReport(results: Results, parts: readonly Part[], output: string): string[] {
  const isFile = output.endsWith('.json');
  const json = isFile ? output : path.join(output, 'results.json');
  const html = isFile ? output.replace(/\.json$/, '.html') : path.join(output, 'report.html');
  mkdirSync(path.dirname(json), { recursive: true });
  writeFileSync(json, `${JSON.stringify(results, null, 2)}\n`);
  writeFileSync(html, htmlReport(results, parts));
  return [json, html];
}
