// SPDX-License-Identifier: Apache-2.0
/**
 * Frames of every protocol and every damage that the parser knows, with what it must make of each.
 * Made in code; `writeCaptureSet` puts them in files, one for each theme.
 */

import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { type FrameToWrite, writeCapture } from '../../src/captures/write.ts';
import type { CaptureCase } from './capture-case.ts';
import { cutCases } from './capture-set-cuts.ts';
import { ipCases } from './capture-set-ip.ts';
import { l2Cases } from './capture-set-l2.ts';
import { l4Cases } from './capture-set-l4.ts';

export type { CaptureCase } from './capture-case.ts';

export const captureSet: readonly CaptureCase[] = [...l2Cases, ...ipCases, ...l4Cases, ...cutCases];

export interface CaptureSetFile {
  theme: string;
  path: string;
  cases: readonly CaptureCase[];
}

/** One frame each microsecond, so that every frame has its own time. */
export function framesToWrite(cases: readonly CaptureCase[]): FrameToWrite[] {
  return cases.map(({ frame, wireBytes }, index) => ({
    timeNs: 1_700_000_000_000_000_000n + BigInt(index) * 1000n,
    data: frame,
    wireBytes,
  }));
}

/** Writes pcapng files into a folder that it makes if need be. */
export function writeCaptureSet(directory: string): CaptureSetFile[] {
  mkdirSync(directory, { recursive: true });
  return [...Map.groupBy(captureSet, ({ theme }) => theme)].map(([theme, cases]) => {
    const path = join(directory, `${theme}.pcapng`);
    writeCapture(path, framesToWrite(cases));
    return { theme, path, cases };
  });
}
