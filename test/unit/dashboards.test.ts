// SPDX-License-Identifier: Apache-2.0
/** What can be known about dashboards and rules without a Prometheus that runs. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { stringify } from 'yaml';
import { conditionalMetrics } from '../../scripts/dashboards/index.ts';
import { metricNames } from '../../scripts/dashboards/promql.ts';
import {
  dashboardsFolder,
  prometheusFolder,
  shippedDashboards,
  shippedExpressions,
  shippedRules,
} from '../../scripts/monitoring/expressions.ts';
import { configFor, findTool } from '../../scripts/monitoring/prometheus.ts';
import { daemonMetrics, deviceMetrics } from '../../src/telemetry/metrics/catalogue.ts';
import { ProcessMetrics } from '../../src/telemetry/metrics/process.ts';
import { parseMetrics } from '../support/metrics-text.ts';
import { skip } from '../support/skip.ts';

const root = path.join(import.meta.dirname, '../..');

/** Of Prometheus itself. */
const ownOfPrometheus = ['up', 'scrape_duration_seconds'];

function promtool(...args: string[]): { status: number | null; output: string } {
  const { status, stdout, stderr } = spawnSync(findTool('promtool')!, args, { encoding: 'utf8' });
  return { status, output: `${stdout}${stderr}` };
}

/** Everything that /metrics can show, under the names that Prometheus stores. */
async function exportedNames(): Promise<string[]> {
  const ofProcess = [...parseMetrics(await new ProcessMetrics().text('prometheus')).values()].flatMap(({ samples }) =>
    [...samples.keys()].map((key) => key.split('{')[0]!),
  );
  const ofCatalogue = [...deviceMetrics, ...daemonMetrics].flatMap(({ name, type }) =>
    type === 'histogram' ? [`${name}_bucket`, `${name}_sum`, `${name}_count`] : [name],
  );
  return [...ofCatalogue, ...ofProcess];
}

describe('the shipped dashboards', () => {
  it('are what their sources make', () => {
    const script = path.join(root, 'scripts/dashboards/generate.ts');
    const { status, stderr } = spawnSync(process.execPath, [script, '--check'], { encoding: 'utf8' });
    assert.equal(status, 0, stderr);
  });

  it('have their own addresses, panels that do not overlap, and explain each panel', () => {
    const files = readdirSync(dashboardsFolder);
    assert.deepEqual(files.sort(), [
      'azs.json',
      'fleet.json',
      'flows.json',
      'host.json',
      'overview.json',
      'perf.json',
      'queues.json',
      'rules.json',
    ]);
    for (const file of files) {
      const { uid, panels } = JSON.parse(readFileSync(path.join(dashboardsFolder, file), 'utf8')) as {
        uid: string;
        panels: {
          id: number;
          title: string;
          type: string;
          description?: string;
          targets?: unknown[];
          gridPos: { x: number; y: number; w: number; h: number };
        }[];
      };
      assert.equal(`${uid}.json`, `vnic-${file}`);
      assert.equal(new Set(panels.map(({ id }) => id)).size, panels.length, `${file}: panel ids`);
      const cells = new Set<string>();
      for (const { title, type, description, targets, gridPos } of panels) {
        assert.ok(gridPos.x + gridPos.w <= 24, `${file}: ${title} is cut off`);
        for (let x = gridPos.x; x < gridPos.x + gridPos.w; x++) {
          for (let y = gridPos.y; y < gridPos.y + gridPos.h; y++) {
            assert.ok(!cells.has(`${x} ${y}`), `${file}: ${title} lies on another panel`);
            cells.add(`${x} ${y}`);
          }
        }
        if (type === 'row') continue;
        assert.ok((description ?? '') !== '', `${file}: ${title} says nothing about itself`);
        assert.ok((targets?.length ?? 0) > 0, `${file}: ${title} asks nothing`);
      }
    }
  });

  it('show every metric of the catalogue somewhere', () => {
    const recorded = new Map(shippedRules().map(({ record, expr }) => [record, metricNames(expr)]));
    const shown = new Set(
      shippedDashboards()
        .flatMap(({ promql }) => metricNames(promql))
        .flatMap((name) => [name, ...(recorded.get(name) ?? [])]),
    );
    const unseen = [...deviceMetrics, ...daemonMetrics]
      .map(({ name, type }) => (type === 'histogram' ? `${name}_bucket` : name))
      .filter((name) => !shown.has(name));
    // The same packets as bytes, which nobody asked to see by queue.
    assert.deepEqual(unseen, ['virtio_nic_steered_bytes_total']);
  });

  it('are PromQL that Prometheus takes', function () {
    if (findTool('promtool') === null) skip(this, 'promtool is not installed');
    const folder = mkdtempSync(path.join(tmpdir(), 'vnic-rules-'));
    try {
      const rules = shippedDashboards().map(({ where, promql }, index) => ({
        record: `expression_${index}`,
        expr: promql,
        labels: { where },
      }));
      const file = path.join(folder, 'dashboards.rules.yml');
      writeFileSync(file, stringify({ groups: [{ name: 'dashboards', rules }] }));
      const { status, output } = promtool('check', 'rules', file);
      assert.equal(status, 0, output);
      assert.match(output, new RegExp(`${rules.length} rules found`));
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  });
});

describe('the expressions of dashboards and rules', () => {
  it('name only metrics that the daemon exports, that are recorded, or that are Prometheus’s own', async () => {
    const recorded = shippedRules().flatMap(({ record }) => record ?? []);
    const known = new Set([...(await exportedNames()), ...recorded, ...ownOfPrometheus]);
    const expressions = shippedExpressions();
    assert.ok(expressions.length > 100, `only ${expressions.length} expressions were found`);
    for (const { where, promql } of expressions) {
      for (const name of metricNames(promql)) assert.ok(known.has(name), `${where}: ${name} does not exist: ${promql}`);
    }
    for (const name of Object.keys(conditionalMetrics)) assert.ok(known.has(name), `${name} does not exist`);
  });

  it('choose only labels that the metric has', () => {
    const labels = new Map([
      ...deviceMetrics.map(({ name, labels: own }) => [name, new Set<string>([...own, 'device'])] as const),
      ...daemonMetrics.map(({ name, labels: own }) => [name, new Set<string>(own)] as const),
    ]);
    const common = new Set(['job', 'instance', 'le']);
    for (const { where, promql } of shippedExpressions()) {
      for (const [, name = '', matchers = ''] of promql.matchAll(/\b(virtio_nic_\w+)\{([^}]*)\}/g)) {
        const own = labels.get(name.replace(/_(?:bucket|sum|count)$/, '')) ?? labels.get(name);
        if (own === undefined) continue;
        for (const [, label = ''] of matchers.matchAll(/(\w+)(?:=~|!~|!=|=)"/g)) {
          assert.ok(own.has(label) || common.has(label), `${where}: ${name} has no label ${label}`);
        }
      }
    }
  });
});

describe('the shipped rules', () => {
  const tests = path.join(prometheusFolder, 'tests');

  it('and the configuration are accepted by promtool', function () {
    if (findTool('promtool') === null) skip(this, 'promtool is not installed');
    const files = readdirSync(prometheusFolder).filter((file) => file.endsWith('.rules.yml'));
    const rules = promtool('check', 'rules', ...files.map((file) => path.join(prometheusFolder, file)));
    assert.equal(rules.status, 0, rules.output);
    const config = promtool('check', 'config', path.join(prometheusFolder, 'prometheus.yml'));
    assert.equal(config.status, 0, config.output);
  });

  it('do what their own tests say', function () {
    this.timeout(120_000);
    if (findTool('promtool') === null) skip(this, 'promtool is not installed');
    const files = readdirSync(tests).map((file) => path.join(tests, file));
    assert.equal(files.length, 2);
    const { status, output } = promtool('test', 'rules', ...files);
    assert.equal(status, 0, output);
  });

  it('are each tested: every alert fires in one case and does not in another, every record has a value', () => {
    const text = (file: string) => readFileSync(path.join(tests, file), 'utf8');
    const cases = text('alerts.test.yml')
      .split(/^ {6}- alertname: /m)
      .slice(1);
    const recordings = text('recording.test.yml');
    for (const { alert, record } of shippedRules()) {
      const own = cases.filter((entry) => entry.split('\n')[0] === alert);
      if (alert !== undefined) {
        assert.ok(
          own.some((entry) => entry.includes('- exp_labels:')),
          `${alert} never fires in a test`,
        );
        assert.ok(
          own.some((entry) => entry.includes('exp_alerts: []')),
          `${alert} always fires in the tests`,
        );
      } else {
        assert.match(recordings, new RegExp(`expr: .*(?:\\b${record ?? ''}\\b|__name__)`), `${record} is not tested`);
      }
    }
  });

  it('say of each alert how bad it is, what it means, and where in the documentation to read on', () => {
    const page = readFileSync(path.join(root, 'docs/monitoring.md'), 'utf8');
    const headings = new Set([...page.matchAll(/^#+ (.*)$/gm)].map(([, heading = '']) => heading));
    const alerts = shippedRules().filter(({ alert }) => alert !== undefined);
    assert.ok(alerts.length >= 15);
    for (const { alert = '', labels = {}, annotations = {} } of alerts) {
      assert.match(labels['severity'] ?? '', /^(?:critical|warning|info)$/, alert);
      assert.ok((annotations['summary'] ?? '') !== '' && (annotations['description'] ?? '') !== '', alert);
      assert.equal(annotations['runbook_url'], `docs/monitoring.md#${alert.toLowerCase()}`);
      assert.ok(headings.has(alert), `docs/monitoring.md has no part about ${alert}`);
    }
  });

  it('are loaded by the configuration under which make monitoring runs Prometheus', () => {
    const config = configFor('192.0.2.1:1234');
    assert.match(config, /192\.0\.2\.1:1234/);
    assert.ok(!config.includes('127.0.0.1:9090'));
    for (const { file } of shippedRules()) assert.ok(config.includes(path.join(prometheusFolder, file)), file);
  });
});
