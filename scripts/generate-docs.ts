// SPDX-License-Identifier: Apache-2.0
/** Writes the reference pages made from the code; with `--check` fails if one differs from what is committed. */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { openApiDocument } from '../src/api/openapi.ts';
import { errorTable } from '../src/errors.ts';
import { daemonMetrics, deviceMetrics } from '../src/telemetry/metrics/catalogue.ts';
import { labelMeanings } from '../src/telemetry/metrics/metric.ts';
import { defaultMetricSettings } from '../src/telemetry/metrics/sample.ts';
import { dropReasonNames, unparsedReasonNames } from '../src/telemetry/metrics/series.ts';
import { exceptionActions, redirectErrors } from '../src/telemetry/traces/model.ts';
import { errorsPage } from './docs/errors-page.ts';
import { metricsPage } from './docs/metrics-page.ts';
import { restPage } from './docs/rest-page.ts';

const root = path.join(import.meta.dirname, '..');
const { version: packageVersion } = JSON.parse(readFileSync(path.join(root, 'package.json'), 'utf8')) as {
  version: string;
};
const generated: Readonly<Record<string, string>> = {
  'docs/errors.md': errorsPage(errorTable),
  'docs/rest.md': restPage(openApiDocument(packageVersion)),
  'docs/metrics.md': metricsPage({
    device: deviceMetrics,
    daemon: daemonMetrics,
    labels: labelMeanings,
    unparsedReasons: unparsedReasonNames,
    dropReasons: dropReasonNames,
    redirectErrors,
    exceptionActions,
    settings: defaultMetricSettings,
  }),
};

const { values } = parseArgs({ options: { check: { type: 'boolean', default: false } } });
for (const [page, text] of Object.entries(generated)) {
  const file = path.join(root, page);
  const isCurrent = existsSync(file) && readFileSync(file, 'utf8') === text;
  if (!values.check) writeFileSync(file, text);
  else if (!isCurrent) {
    console.error(`${page} differs from what the code says: run make generate`);
    process.exitCode = 1;
  }
}
if (values.check && process.exitCode === undefined)
  console.log(`docs: ${Object.keys(generated).join(', ')} up to date`);
