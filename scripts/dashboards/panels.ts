// SPDX-License-Identifier: Apache-2.0
/** What panels have in common, and the kinds of panels that the dashboards use. */

import * as bargauge from '@grafana/grafana-foundation-sdk/bargauge';
import * as common from '@grafana/grafana-foundation-sdk/common';
import {
  BarGaugeDisplayMode,
  LegendDisplayMode,
  LegendPlacement,
  StackingMode,
} from '@grafana/grafana-foundation-sdk/common';
import * as dashboard from '@grafana/grafana-foundation-sdk/dashboard';
import * as heatmap from '@grafana/grafana-foundation-sdk/heatmap';
import * as prometheus from '@grafana/grafana-foundation-sdk/prometheus';
import * as stat from '@grafana/grafana-foundation-sdk/stat';
import * as statetimeline from '@grafana/grafana-foundation-sdk/statetimeline';
import * as timeseries from '@grafana/grafana-foundation-sdk/timeseries';

export const DATASOURCE: common.DataSourceRef = { type: 'prometheus', uid: '$datasource' };

/** Series of the chosen devices: the metric's name, and further matchers. */
export function of(metric: string, matchers = ''): string {
  return `${metric}{instance=~"$instance",device=~"$device"${matchers === '' ? '' : `,${matchers}`}}`;
}

/** Series of the chosen daemons. */
export function ofDaemon(metric: string): string {
  return `${metric}{job="vnic",instance=~"$instance"}`;
}

export const rate = (selector: string): string => `rate(${selector}[$__rate_interval])`;

export interface Query {
  expr: string;
  /** With Grafana's `{{label}}`. */
  legend: string;
}

export interface PanelOptions {
  title: string;
  description: string;
  queries: readonly Query[];
  /** Of 24. */
  width: number;
  /** Default 8. */
  height?: number;
  /** Grafana's name of the unit. */
  unit?: string;
  decimals?: number;
  min?: number;
  max?: number;
  /** Shown where there are no samples: why there may be none. */
  noValue?: string;
  /** Ascending bounds from which the value has that colour; below the first it is green. */
  thresholds?: readonly { from: number; color: 'yellow' | 'orange' | 'red' }[];
}

interface CommonPanel {
  title(text: string): this;
  description(text: string): this;
  datasource(ref: common.DataSourceRef): this;
  height(rows: number): this;
  span(columns: number): this;
  unit(name: string): this;
  decimals(count: number): this;
  min(value: number): this;
  max(value: number): this;
  noValue(text: string): this;
  thresholds(config: dashboard.ThresholdsConfigBuilder): this;
  withTarget(query: prometheus.DataqueryBuilder): this;
}

function withOptions<Panel extends CommonPanel>(panel: Panel, options: PanelOptions, toQuery = rangeQuery): Panel {
  const { title, description, queries, width, height = 8, unit, decimals, min, max, noValue, thresholds } = options;
  panel.title(title).description(description).datasource(DATASOURCE).height(height).span(width);
  if (unit !== undefined) panel.unit(unit);
  if (decimals !== undefined) panel.decimals(decimals);
  if (min !== undefined) panel.min(min);
  if (max !== undefined) panel.max(max);
  if (noValue !== undefined) panel.noValue(noValue);
  const steps = [
    { value: null, color: 'green' },
    ...(thresholds ?? []).map(({ from, color }) => ({ value: from, color })),
  ];
  panel.thresholds(new dashboard.ThresholdsConfigBuilder().mode(dashboard.ThresholdsMode.Absolute).steps(steps));
  queries.forEach((query, index) => {
    panel.withTarget(toQuery(query).refId(String.fromCharCode('A'.charCodeAt(0) + index)));
  });
  return panel;
}

function baseQuery({ expr, legend }: Query): prometheus.DataqueryBuilder {
  return new prometheus.DataqueryBuilder().datasource(DATASOURCE).expr(expr).legendFormat(legend);
}

const rangeQuery = (query: Query) => baseQuery(query).range();
const instantQuery = (query: Query) => baseQuery(query).instant();
const bucketQuery = (query: Query) => rangeQuery(query).format(prometheus.PromQueryFormat.Heatmap);

const lastValue = () => new common.ReduceDataOptionsBuilder().calcs(['lastNotNull']).fields('').values(false);

/** Lines over time; `stacked` where the sum means something. */
export function lines(options: PanelOptions & { stacked?: boolean }): timeseries.PanelBuilder {
  const panel = withOptions(new timeseries.PanelBuilder(), { min: 0, ...options })
    .lineWidth(1)
    .fillOpacity(options.stacked === true ? 40 : 10)
    .showPoints(common.VisibilityMode.Never)
    .legend(
      new common.VizLegendOptionsBuilder()
        .displayMode(LegendDisplayMode.Table)
        .placement(LegendPlacement.Bottom)
        .showLegend(true)
        .calcs(['lastNotNull', 'max']),
    )
    .tooltip(
      new common.VizTooltipOptionsBuilder().mode(common.TooltipDisplayMode.Multi).sort(common.SortOrder.Descending),
    );
  return options.stacked === true
    ? panel.stacking(new common.StackingConfigBuilder().mode(StackingMode.Normal))
    : panel;
}

/** One number, or one for each series, as it is now. */
export function number(options: PanelOptions): stat.PanelBuilder {
  return withOptions(new stat.PanelBuilder(), { height: 4, ...options })
    .graphMode(common.BigValueGraphMode.Area)
    .colorMode(common.BigValueColorMode.Value)
    .reduceOptions(lastValue());
}

/** A bar for each series, as it is now. */
export function bars(options: PanelOptions): bargauge.PanelBuilder {
  return withOptions(new bargauge.PanelBuilder(), { min: 0, ...options }, instantQuery)
    .displayMode(BarGaugeDisplayMode.Gradient)
    .orientation(common.VizOrientation.Horizontal)
    .reduceOptions(lastValue());
}

/** A band for each series: green while it is 1, red while it is 0. */
export function states(options: PanelOptions & { texts: { up: string; down: string } }): statetimeline.PanelBuilder {
  const { up, down } = options.texts;
  return withOptions(new statetimeline.PanelBuilder(), { ...options, min: 0, max: 1 })
    .mappings([
      {
        type: dashboard.MappingType.ValueToText,
        options: { '0': { text: down, color: 'red', index: 0 }, '1': { text: up, color: 'green', index: 1 } },
      },
    ])
    .mergeValues(true)
    .showValue(common.VisibilityMode.Auto)
    .rowHeight(0.8);
}

function coloured(panel: heatmap.PanelBuilder): heatmap.PanelBuilder {
  return panel
    .calculate(false)
    .color(
      new heatmap.HeatmapColorOptionsBuilder()
        .mode(heatmap.HeatmapColorMode.Scheme)
        .scheme('Turbo')
        .scale(heatmap.HeatmapColorScale.Linear)
        .steps(64),
    )
    .cellGap(1)
    .tooltip(new heatmap.HeatmapTooltipBuilder().mode(common.TooltipDisplayMode.Single).yHistogram(false))
    .showLegend();
}

/** A row for each series, its value as colour. */
export function heatmapOfSeries({ unit = 'short', ...options }: PanelOptions): heatmap.PanelBuilder {
  return coloured(withOptions(new heatmap.PanelBuilder(), options))
    .cellValues(new heatmap.CellValuesBuilder().unit(unit))
    .yAxis(new heatmap.YAxisConfigBuilder().unit('string').axisPlacement(common.AxisPlacement.Left));
}

/** Rows are the buckets of a histogram. */
export function heatmapOfBuckets({ unit = 's', ...options }: PanelOptions): heatmap.PanelBuilder {
  return coloured(withOptions(new heatmap.PanelBuilder(), options, bucketQuery)).yAxis(
    new heatmap.YAxisConfigBuilder().unit(unit).axisPlacement(common.AxisPlacement.Left),
  );
}

/** Two digits, so that rows sorted by text are sorted by number. */
export const padded = (vector: string, label: string): string =>
  `label_replace(${vector}, "${label}", "0$1", "${label}", "(.)")`;
