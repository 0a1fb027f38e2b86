// SPDX-License-Identifier: Apache-2.0

/** What of a body can be handed over between threads instead of copied: memory that it has to itself. */
export function transferOf(body: Uint8Array | null): ArrayBuffer[] {
  const isAlone = body !== null && body.buffer instanceof ArrayBuffer && body.byteLength === body.buffer.byteLength;
  return isAlone ? [body.buffer as ArrayBuffer] : [];
}
