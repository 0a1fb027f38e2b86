// SPDX-License-Identifier: Apache-2.0
/** A dashboard of panels, with what all dashboards have: variables, links to each other, marks where an AZ failed. */
import type * as cog from '@grafana/grafana-foundation-sdk/cog';
import * as dashboard from '@grafana/grafana-foundation-sdk/dashboard';
import * as prometheus from '@grafana/grafana-foundation-sdk/prometheus';
import { DATASOURCE, of } from './panels.ts';

type Panel = cog.Builder<dashboard.Panel> & { id(id: number): unknown };

export interface DashboardParts {
  /** Of the file, and of the address in Grafana: `vnic-<name>`. */
  name: string;
  title: string;
  description: string;
  /** Panels by row. */
  rows: readonly { title: string; panels: readonly Panel[] }[];
}

/** Marks a minute from the moment at which a failover was counted: long enough for every scrape interval. */
const FAILOVERS = `changes(${of('virtio_nic_failovers_total')}[1m]) > 0`;

function allOf(name: string, label: string, query: string): dashboard.QueryVariableBuilder {
  return new dashboard.QueryVariableBuilder(name)
    .label(label)
    .datasource(DATASOURCE)
    .query({ query, refId: name })
    .refresh(dashboard.VariableRefresh.OnTimeRangeChanged)
    .sort(dashboard.VariableSort.NaturalAsc)
    .multi(true)
    .includeAll(true)
    .allValue('.+')
    .current({ selected: true, text: 'All', value: '$__all' });
}

export function makeDashboard({ name, title, description, rows }: DashboardParts): dashboard.Dashboard {
  const builder = new dashboard.DashboardBuilder(`vnic / ${title}`)
    .uid(`vnic-${name}`)
    .description(description)
    .tags(['vnic'])
    .timezone('browser')
    .time({ from: 'now-15m', to: 'now' })
    .refresh('5s')
    .readonly()
    .tooltip(dashboard.DashboardCursorSync.Crosshair)
    .withVariable(new dashboard.DatasourceVariableBuilder('datasource').label('Prometheus').type('prometheus'))
    .withVariable(allOf('instance', 'Daemon', 'label_values(virtio_nic_build_info, instance)'))
    .withVariable(allOf('device', 'Device', 'label_values(virtio_nic_scrape_seconds{instance=~"$instance"}, device)'))
    .link(
      new dashboard.DashboardLinkBuilder('vnic')
        .type(dashboard.DashboardLinkType.Dashboards)
        .tags(['vnic'])
        .includeVars(true)
        .keepTime(true),
    )
    .annotation(
      new dashboard.AnnotationQueryBuilder()
        .name('Failovers')
        .datasource(DATASOURCE)
        .enable(true)
        .iconColor('red')
        .expr(FAILOVERS)
        .step('1s')
        .titleFormat('{{az}} failed ({{cause}})')
        .target(new prometheus.DataqueryBuilder().datasource(DATASOURCE).expr(FAILOVERS).range().refId('Failovers')),
    );
  let id = 1;
  for (const row of rows) {
    builder.withRow(new dashboard.RowBuilder(row.title).id(id++));
    for (const panel of row.panels) {
      panel.id(id++);
      builder.withPanel(panel);
    }
  }
  return builder.build();
}
