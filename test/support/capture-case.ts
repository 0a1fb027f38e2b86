// SPDX-License-Identifier: Apache-2.0
/** One frame and what the parser must make of it. */

import type { PacketBuilder } from './packet.ts';
import { type ParseResult, referenceParse } from './reference-parser.ts';

export interface CaptureCase {
  theme: string;
  name: string;
  /** What was captured. */
  frame: Uint8Array;
  /** Length on the wire, at least the frame's. */
  wireBytes: number;
  /** What the reference parser says. */
  expect: ParseResult;
  /** What a person says, as `resultText` prints it. */
  byHand: string | undefined;
  /** Valid by the standards and whole: another dissector must agree with us. */
  wellFormed: boolean;
}

export interface CaseOptions {
  wireBytes?: number;
  wellFormed?: boolean;
}

/** The endpoints that the packet builder uses unless told otherwise. */
export const v4Udp = '10.0.0.1 40000 > 10.0.0.2 4000 proto 17';
export const v4Tcp = '10.0.0.1 40000 > 10.0.0.2 443 proto 6';
export const v6Udp = 'fd00::1 40000 > fd00::2 4000 proto 17';
export const v6Tcp = 'fd00::1 40000 > fd00::2 443 proto 6';
export const v4Without = (proto: number): string => `10.0.0.1 0 > 10.0.0.2 0 proto ${proto}`;
export const v6Without = (proto: number): string => `fd00::1 0 > fd00::2 0 proto ${proto}`;

function captureCase(
  theme: string,
  name: string,
  content: PacketBuilder | Uint8Array,
  byHand: string | undefined,
  options: CaseOptions,
  wellFormed: boolean,
): CaptureCase {
  const frame = content instanceof Uint8Array ? content : content.build();
  const wireBytes = options.wireBytes ?? frame.length;
  return {
    theme,
    name,
    frame,
    wireBytes,
    expect: referenceParse(frame, wireBytes),
    byHand,
    wellFormed: options.wellFormed ?? wellFormed,
  };
}

type MakeCase = (
  name: string,
  content: PacketBuilder | Uint8Array,
  byHand?: string,
  options?: CaseOptions,
) => CaptureCase;

/** Cases of one theme: `good` ones are well-formed, `bad` ones are not. */
export function caseMakers(theme: string): { good: MakeCase; bad: MakeCase } {
  return {
    good: (name, content, byHand, options = {}) => captureCase(theme, name, content, byHand, options, true),
    bad: (name, content, byHand, options = {}) => captureCase(theme, name, content, byHand, options, false),
  };
}
