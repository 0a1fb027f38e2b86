// SPDX-License-Identifier: Apache-2.0
/** The one place where a configuration file is read. */
import { readFile } from 'node:fs/promises';
import { type ErrorCode, VnicError } from '../errors.ts';
import { type Config, loadConfig } from './config.ts';

/** Reads and checks a configuration file. Throws invalid_config, not_found or not_permitted. */
export async function readConfigFile(path: string): Promise<Config> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (cause) {
    const { code: errno, message } = cause as NodeJS.ErrnoException;
    const codes: Record<string, ErrorCode> = { ENOENT: 'not_found', EACCES: 'not_permitted' };
    throw new VnicError(codes[errno ?? ''] ?? 'failed', `configuration file cannot be read: ${message}`, {
      remedy: 'Check the path and its permissions.',
      cause,
    });
  }
  return loadConfig(text, path);
}
