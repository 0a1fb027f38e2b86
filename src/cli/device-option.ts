// SPDX-License-Identifier: Apache-2.0
/** `-d DEV`, for all commands where the device may be left out. */
import { Option } from 'commander';

export interface DeviceOption {
  device?: string;
}

export function deviceOption(): Option {
  return new Option('-d, --device <device>', 'network device (default: the only attached one)');
}
