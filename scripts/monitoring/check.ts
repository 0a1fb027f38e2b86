// SPDX-License-Identifier: Apache-2.0
/** Whether expressions find something in a Prometheus. It is asked through a port, so this has no I/O of its own. */
import { metricNames, requiredParts } from '../dashboards/promql.ts';
import type { Expression } from './expressions.ts';

/** What is asked of Prometheus. */
export interface Queries {
  /** Values of the series that the expression gives now. Throws if Prometheus refuses it. */
  values(promql: string): Promise<number[]>;
  /** Names of all metrics that it has. */
  names(): Promise<Set<string>>;
}

export interface Finding {
  where: string;
  problem: string;
}

export interface Result {
  checked: number;
  findings: Finding[];
  /** What had no samples, and why that is allowed. */
  empty: Finding[];
}

/**
 * An expression fails if Prometheus refuses it, if it names a metric that does not exist, or if what has to have samples
 * has none (see requiredParts).
 * @param conditional metrics that may be missing, with the reason
 */
export async function checkExpressions(
  expressions: readonly Expression[],
  prometheus: Queries,
  conditional: Readonly<Record<string, string>>,
): Promise<Result> {
  const names = await prometheus.names();
  const result: Result = { checked: expressions.length, findings: [], empty: [] };
  for (const { where, promql } of expressions) {
    const used = metricNames(promql);
    const reason = used.map((name) => conditional[name]).find((text) => text !== undefined);
    const unknown = used.filter((name) => !names.has(name) && !(name in conditional));
    if (unknown.length > 0) {
      result.findings.push({ where, problem: `${unknown.join(', ')}: neither exported nor recorded: ${promql}` });
      continue;
    }
    const problem = await problemOf(promql, prometheus);
    if (problem === null) continue;
    if (problem.isEmpty && reason !== undefined) result.empty.push({ where, problem: reason });
    else result.findings.push({ where, problem: problem.text });
  }
  return result;
}

async function problemOf(promql: string, prometheus: Queries): Promise<{ text: string; isEmpty: boolean } | null> {
  try {
    await prometheus.values(promql);
    for (const part of requiredParts(promql)) {
      const values = await prometheus.values(part);
      if (values.length === 0) return { text: `gives nothing: ${part}`, isEmpty: true };
      if (values.every(Number.isNaN)) return { text: `gives nothing but NaN: ${part}`, isEmpty: true };
    }
    return null;
  } catch (error) {
    return { text: `${error instanceof Error ? error.message : String(error)}: ${promql}`, isEmpty: false };
  }
}
