// SPDX-License-Identifier: Apache-2.0
/** The configuration file: YAML or JSON, one schema. */
import { LineCounter, parseDocument } from 'yaml';
import { VnicError } from '../errors.ts';
import { ProblemList } from '../steering/rules/problems.ts';
import { type DaemonConfig, readDaemon } from './daemon.ts';
import { type DeviceConfig, formatDevice, readDevice } from './device.ts';
import { type FleetConfig, readFleet } from './fleet.ts';
import { type ConfigInput, configOutlineSchema } from './schema.ts';

export interface Config {
  /** In the order of the file. */
  readonly devices: readonly DeviceConfig[];
  readonly daemon: DaemonConfig;
  /** Null: the machine belongs to no fleet. */
  readonly fleet: FleetConfig | null;
}

/**
 * Reads a configuration; `fileName` is for messages, and `.json` is read as JSON, all else as YAML.
 * Throws one invalid_config with every problem in `details.problems`.
 */
export function loadConfig(text: string, fileName: string): Config {
  const input = parseText(text, fileName);
  const problems = new ProblemList();
  const config = readConfig(input, problems);
  problems.throwIfAny('invalid_config', fileName);
  return config;
}

/** What a file says: JSON where it is called so, YAML else. Throws invalid_config. */
export function parseText(text: string, fileName: string): unknown {
  return fileName.endsWith('.json') ? parseJson(text, fileName) : parseYaml(text, fileName);
}

/** The canonical user form of a configuration's devices. */
export function formatConfig(config: Pick<Config, 'devices'>): ConfigInput {
  return { devices: Object.fromEntries(config.devices.map((device) => [device.name, formatDevice(device)])) };
}

function readConfig(input: unknown, problems: ProblemList): Config {
  const outline = problems.checkFields(configOutlineSchema, input, []);
  const devices = Object.entries(outline.devices ?? {}).map(([name, value]) =>
    readDevice(name, value, ['devices', name], problems),
  );
  return {
    devices,
    daemon: readDaemon(outline.daemon, ['daemon'], problems),
    fleet: readFleet(outline.fleet, ['fleet'], problems),
  };
}

function parseJson(text: string, fileName: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw notReadable(fileName, 'JSON', [(cause as Error).message], cause);
  }
}

function parseYaml(text: string, fileName: string): unknown {
  const document = parseDocument(text, { lineCounter: new LineCounter(), prettyErrors: true });
  if (document.errors.length > 0) {
    const messages = document.errors.map((error) => error.message.split('\n')[0] ?? '');
    throw notReadable(fileName, 'YAML', messages, document.errors[0]);
  }
  try {
    return document.toJS();
  } catch (cause) {
    // Too many aliases: a small file that stands for a huge one.
    throw notReadable(fileName, 'YAML', [(cause as Error).message], cause);
  }
}

function notReadable(fileName: string, format: string, messages: readonly string[], cause: unknown): VnicError {
  const remedy = `Correct the ${format} at the place named.`;
  const problems = messages.map((message) => ({ path: '', message, remedy }));
  return new VnicError('invalid_config', `${fileName} is not valid ${format}: ${messages[0]}`, {
    remedy,
    details: { problems },
    cause,
  });
}
