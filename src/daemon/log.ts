// SPDX-License-Identifier: Apache-2.0
/** The daemon's log: one JSON object a line on stdout, where systemd or a container takes it up. */
import { type Logger, pino } from 'pino';

export function createLog(level: string): Logger {
  return pino({
    level,
    base: { pid: process.pid },
    timestamp: pino.stdTimeFunctions.isoTime,
    formatters: { level: (label) => ({ level: label }) },
  });
}
