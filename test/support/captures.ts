// SPDX-License-Identifier: Apache-2.0
/** Captures in memory for the tests of the readers. */

import assert from 'node:assert/strict';
import type { CapturedFrame } from '../../src/captures/frame.ts';
import { readCaptureBytes } from '../../src/captures/read.ts';
import { encodePcap, encodePcapng, type FrameToWrite } from '../../src/captures/write.ts';
import { VnicError } from '../../src/errors.ts';
import { udpFrame } from './packet.ts';
import { concat, filler } from './packet-bytes.ts';

export const frameSet: readonly FrameToWrite[] = [
  { timeNs: 1_700_000_000_123_456_000n, data: udpFrame('10.0.0.1', '10.0.0.2', 1000, 53) },
  { timeNs: 1_700_000_000_123_457_000n, data: udpFrame('fd00::1', 'fd00::2', 1000, 53, 3) },
  { timeNs: 1_700_000_001_000_000_000n, data: filler(20), wireBytes: 9000 },
  { timeNs: 1_700_000_001_999_999_000n, data: new Uint8Array(0), wireBytes: 0 },
  { timeNs: 1_700_000_002_000_000_000n, data: filler(1) },
];

export type Brief = Pick<CapturedFrame, 'timeNs' | 'wireBytes' | 'data'>;

export const brief = ({ timeNs, wireBytes, data }: CapturedFrame): Brief => ({ timeNs, wireBytes, data: data.slice() });

export const asRead = (frames: readonly FrameToWrite[]): Brief[] =>
  frames.map(({ timeNs, data, wireBytes }) => ({ timeNs, wireBytes: wireBytes ?? data.length, data }));

export const pcap = (...options: Parameters<typeof encodePcap>) => concat(...encodePcap(...options));
export const pcapng = (...options: Parameters<typeof encodePcapng>) => concat(...encodePcapng(...options));

/** What could be read, and the error at the end if there was one. */
export function readAll(bytes: Uint8Array): { frames: CapturedFrame[]; error: VnicError | null } {
  const frames: CapturedFrame[] = [];
  try {
    for (const frame of readCaptureBytes(bytes, 'test.cap')) frames.push(frame);
  } catch (error) {
    assert.ok(error instanceof VnicError, String(error));
    assert.equal(error.code, 'invalid_capture');
    assert.ok(error.message.startsWith('test.cap: '), error.message);
    assert.ok((error.remedy ?? '') !== '', error.message);
    return { frames, error };
  }
  return { frames, error: null };
}
