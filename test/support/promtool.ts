// SPDX-License-Identifier: Apache-2.0
/** Prometheus's own judgement of names and help texts. */
import { spawnSync } from 'node:child_process';
import { findTool } from '../../scripts/monitoring/prometheus.ts';

/** What `promtool check metrics` complains of, line by line; null if it is not installed. */
export function promtoolComplaints(text: string): string[] | null {
  const promtool = findTool('promtool');
  if (promtool === null) return null;
  const result = spawnSync(promtool, ['check', 'metrics'], { input: text, encoding: 'utf8' });
  const lines = `${result.stdout}${result.stderr}`.split('\n').filter((line) => line !== '');
  if (result.status !== 0 && lines.length === 0) throw new Error(`promtool ended with ${result.status}`);
  return lines;
}
