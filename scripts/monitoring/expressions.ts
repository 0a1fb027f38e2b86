// SPDX-License-Identifier: Apache-2.0
/** Every expression that is shipped: those of the dashboards' panels and marks, and those of the rules. */
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { parse } from 'yaml';
import { withoutVariables } from '../dashboards/promql.ts';

const root = path.join(import.meta.dirname, '../..');
export const prometheusFolder = path.join(root, 'deploy/prometheus');
export const dashboardsFolder = path.join(root, 'dashboards');

export interface Expression {
  kind: 'panel' | 'mark' | 'variable' | 'record' | 'alert';
  /** For people: the file, and what in it. */
  where: string;
  /** PromQL: Grafana's variables are replaced. */
  promql: string;
}

interface Target {
  expr?: string;
}

interface DashboardJson {
  panels: { title: string; targets?: Target[]; panels?: DashboardJson['panels'] }[];
  annotations: { list: { name: string; target?: Target }[] };
  templating: { list: { name: string; query: string | { query: string } }[] };
}

export interface Rule {
  file: string;
  record?: string;
  alert?: string;
  expr: string;
  labels?: Record<string, string>;
  annotations?: Record<string, string>;
}

/** What the committed JSON asks Prometheus for. */
export function dashboardExpressions(name: string, text: string): Expression[] {
  const { panels, annotations, templating } = JSON.parse(text) as DashboardJson;
  const found: Expression[] = [];
  const add = (kind: Expression['kind'], title: string, expr: string | undefined) => {
    if (expr !== undefined) found.push({ kind, where: `${name}: ${title}`, promql: withoutVariables(expr) });
  };
  const addPanels = (list: DashboardJson['panels']): void => {
    for (const { title, targets, panels: inner } of list) {
      for (const { expr } of targets ?? []) add('panel', title, expr);
      addPanels(inner ?? []);
    }
  };
  addPanels(panels);
  for (const { name: mark, target } of annotations.list) add('mark', mark, target?.expr);
  for (const { name: variable, query } of templating.list) {
    const text_ = typeof query === 'string' ? query : query.query;
    add('variable', variable, /^label_values\((.*), \w+\)$/.exec(text_)?.[1]);
  }
  return found;
}

export function shippedDashboards(): Expression[] {
  return readdirSync(dashboardsFolder)
    .filter((file) => file.endsWith('.json'))
    .flatMap((file) => dashboardExpressions(file, readFileSync(path.join(dashboardsFolder, file), 'utf8')));
}

export function shippedRules(): Rule[] {
  return readdirSync(prometheusFolder)
    .filter((file) => file.endsWith('.rules.yml'))
    .flatMap((file) => {
      const { groups } = parse(readFileSync(path.join(prometheusFolder, file), 'utf8')) as {
        groups: { rules: Omit<Rule, 'file'>[] }[];
      };
      return groups.flatMap(({ rules }) => rules.map((rule) => ({ ...rule, file })));
    });
}

export function ruleExpressions(rules: readonly Rule[]): Expression[] {
  return rules.map(({ file, record, alert, expr }) => ({
    kind: record === undefined ? 'alert' : 'record',
    where: `${file}: ${record ?? alert ?? ''}`,
    promql: expr,
  }));
}

export function shippedExpressions(): Expression[] {
  return [...shippedDashboards(), ...ruleExpressions(shippedRules())];
}
