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
import { cliPage } from './docs/cli-page.ts';
import { commandTree } from './docs/command-tree.ts';
import { configFields } from './docs/config-fields.ts';
import { configMeanings } from './docs/config-meanings.ts';
import { configManual, configPage } from './docs/config-page.ts';
import { errorsPage } from './docs/errors-page.ts';
import { commandManual } from './docs/man-pages.ts';
import { metricsPage } from './docs/metrics-page.ts';
import { pictures } from './docs/pictures/index.ts';
import { restPage } from './docs/rest-page.ts';

const root = path.join(import.meta.dirname, '..');
const { version: packageVersion } = JSON.parse(readFileSync(path.join(root, 'package.json'), 'utf8')) as {
  version: string;
};
const program = await commandTree();
const fields = configFields(configMeanings);
const exitCodes = {
  0: 'Done.',
  1: 'Failed.',
  2: 'The command line, a rule or a file is wrong.',
  3: 'Refused by preflight, a policy or a limit; nothing was changed.',
  4: 'No such device, rule or AZ.',
  5: 'No permission; the missing capability is named.',
  6: 'Conflict: another process is at work, or something has changed meanwhile.',
};
const generated: Readonly<Record<string, string>> = {
  ...Object.fromEntries([...pictures()].map(([name, text]) => [`docs/pictures/${name}`, text])),
  'docs/cli.md': cliPage(program),
  'docs/config.md': configPage(fields),
  'man/vnicctl.8.scd': commandManual(program, exitCodes),
  'man/vnic.yaml.5.scd': configManual(fields),
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
  console.log(`docs: ${Object.keys(generated).length} generated pages, manuals and pictures are up to date`);
