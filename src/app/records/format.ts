// SPDX-License-Identifier: Apache-2.0
/**
 * The two texts of a record. Pure.
 *
 * Record file: `{"sha256":"<of the record's text>","record":{...}}` and a line feed. It is JSON, but what is hashed are the
 * bytes between, so that nothing in it can change unseen.
 * Rules file: one rule a line, as JSON; the record names its SHA-256 and the file has it in its name.
 */
import { hash } from 'node:crypto';
import type { DeviceInput } from '../../config/schema.ts';

type RuleInput = NonNullable<DeviceInput['rules']>[number];

const HEAD = '{"sha256":"';
const MIDDLE = '","record":';
const TAIL = '}\n';
const HASH_LENGTH = 64;
const BODY_START = HEAD.length + HASH_LENGTH + MIDDLE.length;

export function sha256(bytes: Uint8Array): string {
  return hash('sha256', bytes);
}

export function sealText(value: unknown): Buffer {
  const body = JSON.stringify(value);
  return Buffer.from(`${HEAD}${sha256(Buffer.from(body))}${MIDDLE}${body}${TAIL}`);
}

/** Whether the text has a checksum at all: records of version 1 have none. */
export function isSealed(bytes: Buffer): boolean {
  return bytes.subarray(0, HEAD.length).toString('latin1') === HEAD;
}

/** Gives back what was sealed. Throws an Error when a bit of it is another. */
export function unsealText(bytes: Buffer): unknown {
  const text = (from: number, to: number): string => bytes.subarray(from, to).toString('latin1');
  const hashEnd = HEAD.length + HASH_LENGTH;
  const bodyEnd = bytes.length - TAIL.length;
  if (
    bodyEnd < BODY_START ||
    text(0, HEAD.length) !== HEAD ||
    text(hashEnd, BODY_START) !== MIDDLE ||
    text(bodyEnd, bytes.length) !== TAIL
  ) {
    throw new Error('it is cut off or not a record');
  }
  const body = bytes.subarray(BODY_START, bodyEnd);
  if (sha256(body) !== text(HEAD.length, hashEnd)) throw new Error('its checksum is wrong');
  return JSON.parse(body.toString('utf8'));
}

/** A rule that was kept before is not made into text again: rules are never changed in place. */
const lines = new WeakMap<RuleInput, string>();

function lineOf(rule: RuleInput): string {
  const known = lines.get(rule);
  if (known !== undefined) return known;
  const line = `${JSON.stringify(rule)}\n`;
  lines.set(rule, line);
  return line;
}

export function formatRules(rules: readonly RuleInput[]): Buffer {
  let text = '';
  for (const rule of rules) text += lineOf(rule);
  return Buffer.from(text);
}

/** Throws an Error when a line is not JSON. The rules themselves are checked by who makes a configuration of them. */
export function parseRules(bytes: Buffer): RuleInput[] {
  // One parse of all lines: JSON writes a line feed within a string as \n, so those in the text are between rules.
  const text = bytes.toString('utf8').trimEnd().replaceAll('\n', ',');
  return JSON.parse(`[${text}]`) as RuleInput[];
}
