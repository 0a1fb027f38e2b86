// SPDX-License-Identifier: Apache-2.0
/** A policy's text in chunks that fit the store, named by their hash, so that half of it cannot be taken for it. Pure. */
import { createHash } from 'node:crypto';
import { gunzipSync, gzipSync } from 'node:zlib';
import { contentError } from './values.ts';

/** etcd takes requests of 1.5 MiB, and base64 makes it a third more. */
export const CHUNK_BYTES = 512 * 1024;
/** A small value must not stand for a huge one. */
const MAX_TEXT_BYTES = 64 * 1024 * 1024;

export interface Content {
  sha256: string;
  chunks: Uint8Array[];
}

export function packContent(text: string): Content {
  const packed = gzipSync(text);
  const chunks: Uint8Array[] = [];
  for (let at = 0; at < packed.length; at += CHUNK_BYTES) chunks.push(packed.subarray(at, at + CHUNK_BYTES));
  return { sha256: hashOf(text), chunks };
}

/** Throws `fleet_content` where it is not what the hash names. @param key is named in the error */
export function unpackContent(
  expected: { sha256: string; chunks: number },
  chunks: readonly Uint8Array[],
  key: string,
): string {
  if (chunks.length !== expected.chunks) {
    throw contentError(key, `has ${chunks.length} of ${expected.chunks} chunks`);
  }
  let text: string;
  try {
    text = gunzipSync(Buffer.concat(chunks), { maxOutputLength: MAX_TEXT_BYTES }).toString();
  } catch (cause) {
    throw contentError(key, 'cannot be unpacked', cause);
  }
  if (hashOf(text) !== expected.sha256) throw contentError(key, 'is not what its hash names');
  return text;
}

export function hashOf(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}
