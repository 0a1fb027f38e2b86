// SPDX-License-Identifier: Apache-2.0
/** Writes answers: the bytes of an operation as they are, and errors as problem objects whoever found them. */
import { type IncomingMessage, type ServerResponse, STATUS_CODES } from 'node:http';
import { encodeJson } from '../../api/bodies.ts';
import type { ApiResponse } from '../../api/operation.ts';
import { asVnicError, problemResponse } from '../../api/problem.ts';
import { VnicError } from '../../errors.ts';
import { exchangeOf } from './exchange.ts';

/** Of every answer: what it says may be another thing a moment later, and it is what its type says. */
export const commonHeaders = {
  'cache-control': 'no-store',
  'x-content-type-options': 'nosniff',
  'cross-origin-resource-policy': 'same-origin',
} as const;
export const commonEntries: readonly (readonly [name: string, value: string])[] = Object.entries(commonHeaders);

export const HEADER_TOO_LARGE_STATUS = 431;

const noBytes = new Uint8Array();

export function headerTooLarge(what: string): VnicError {
  return new VnicError('too_large', `The header of the request is too large: ${what}.`, {
    remedy: 'Send fewer and shorter header fields.',
    // RFC 6585 has a status of its own for it, more to the point than the code's.
    details: { status: HEADER_TOO_LARGE_STATUS },
  });
}

/** An error as a response, with the headers that its status asks for. */
export function failure(thrown: unknown): ApiResponse {
  const error = asVnicError(thrown);
  const response = problemResponse(error);
  const { status } = error.details;
  if (status === HEADER_TOO_LARGE_STATUS) return { ...response, status };
  if (error.code !== 'unauthorized') return response;
  return { ...response, headers: { ...response.headers, 'www-authenticate': 'Bearer realm="vnicd"' } };
}

/** Of a HEAD request Node leaves out the body by itself. @param tail goes behind the body, which need not be copied for that */
export function send(
  request: IncomingMessage,
  response: ServerResponse,
  answer: ApiResponse,
  tail: Uint8Array = noBytes,
): void {
  if (response.headersSent || response.destroyed) {
    response.destroy();
    return;
  }
  const { status, headers, body } = answer;
  const hasLength = status !== 204 && status !== 304;
  const bytes = (body?.length ?? 0) + tail.length;
  response.writeHead(status, {
    ...headers,
    ...(hasLength ? { 'content-length': String(bytes) } : {}),
    // A client that waits for leave to send its body may send it yet, or not: what comes next could be either.
    ...(request.headers.expect !== undefined && !request.complete ? { connection: 'close' } : {}),
  });
  if (request.method !== 'HEAD') exchangeOf(request).bytes = bytes;
  if (body !== null && tail.length > 0) response.write(body);
  response.end(tail.length > 0 ? tail : (body ?? undefined));
}

export function sendJson(request: IncomingMessage, response: ServerResponse, data: unknown): void {
  send(request, response, { status: 200, headers: { 'content-type': 'application/json' }, body: encodeJson(data) });
}

/** A whole response as it goes over a connection for which there is no response object. The connection ends with it. */
export function rawAnswer({ status, headers, body }: ApiResponse): Buffer {
  const fields = { ...commonHeaders, ...headers, 'content-length': String(body?.length ?? 0), connection: 'close' };
  const lines = Object.entries(fields).map(([name, value]) => `${name}: ${value}\r\n`);
  const head = `HTTP/1.1 ${status} ${STATUS_CODES[status] ?? ''}\r\n${lines.join('')}\r\n`;
  return Buffer.concat([Buffer.from(head, 'latin1'), body ?? new Uint8Array()]);
}
