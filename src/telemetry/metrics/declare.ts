// SPDX-License-Identifier: Apache-2.0
/** How metrics of devices are declared. */
import type { DeviceMetric, LabelName } from './metric.ts';

export const PREFIX = 'virtio_nic_';

type Declare = (
  name: string,
  unit: DeviceMetric['unit'],
  labels: readonly LabelName[],
  help: string,
  series: DeviceMetric['series'],
) => DeviceMetric;

export const declare =
  (type: DeviceMetric['type']): Declare =>
  (name, unit, labels, help, series) => ({ name: PREFIX + name, type, unit, labels, help, series });
