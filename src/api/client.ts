// SPDX-License-Identifier: Apache-2.0
/** Calls operations by their names, typed by what they take and give; how a call travels is a transport's business. */
import type { z } from 'zod';
import { errorOfProblem, thrownFor } from './error-of-problem.ts';
import type { ApiRequest, ApiResponse } from './operation.ts';
import type { OperationId, operationTable } from './operations/index.ts';

type OperationOf<Id extends OperationId> = Extract<(typeof operationTable)[number], { id: Id }>;

/** What the operation answers with. */
export type Output<Id extends OperationId> = z.output<OperationOf<Id>['result']>;

type BodyOf<Op> = Op extends { body: infer Body }
  ? Body extends { schema: infer S extends z.ZodType }
    ? z.input<S>
    : never
  : never;

export interface Call<Id extends OperationId> {
  params?: { [name in keyof z.input<OperationOf<Id>['params']>]: string | number };
  query?: { [name in keyof z.input<OperationOf<Id>['query']>]?: string | number | boolean | undefined };
  /** Sent as JSON. */
  body?: BodyOf<OperationOf<Id>> | undefined;
  /** Sent as it is, with its media type. */
  text?: { content: string; type: string };
  ifMatch?: string;
  ifNoneMatch?: string;
  accept?: string;
}

export interface Transport {
  call(operationId: OperationId, request: ApiRequest): Promise<ApiResponse>;
  close(): void;
}

export interface Reply<Data> {
  status: number;
  etag: string | null;
  data: Data;
}

export class ApiClient {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  /** Throws the VnicError that the other side reported. */
  async call<Id extends OperationId>(id: Id, call: Call<Id> = {}): Promise<Reply<Output<Id>>> {
    const response = await this.#send(id, call);
    const data = response.body === null ? null : (JSON.parse(decodeText(response.body)) as unknown);
    return { status: response.status, etag: response.headers['etag'] ?? null, data: data as Output<Id> };
  }

  /** For answers that are no JSON. */
  async callText<Id extends OperationId>(id: Id, call: Call<Id>): Promise<string> {
    const { body } = await this.#send(id, call);
    return body === null ? '' : decodeText(body);
  }

  async #send<Id extends OperationId>(id: Id, call: Call<Id>): Promise<ApiResponse> {
    const response = await this.#transport.call(id, requestOf(call));
    if (response.status < 400) return response;
    const text = response.body === null ? '' : decodeText(response.body);
    throw errorOfProblem(problemIn(text, response.status), thrownFor(response));
  }

  close(): void {
    this.#transport.close();
  }
}

/** Something between us and the daemon may answer with what is no problem object. */
function problemIn(text: string, status: number): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === 'object' && value !== null && 'code' in value) return value as Record<string, unknown>;
  } catch {
    // Falls through: it was not JSON.
  }
  return { detail: `The daemon answered with status ${status}: ${text.slice(0, 200)}`, code: 'failed' };
}

function decodeText(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString();
}

function requestOf<Id extends OperationId>(call: Call<Id>): ApiRequest {
  const { params = {}, query = {}, body, text, ifMatch, ifNoneMatch, accept } = call;
  const bytes =
    text !== undefined ? Buffer.from(text.content) : body === undefined ? null : Buffer.from(JSON.stringify(body));
  return {
    params: asTexts(params),
    query: asTexts(query),
    headers: {
      ...(bytes === null ? {} : { 'content-type': text?.type ?? 'application/json' }),
      ...(ifMatch === undefined ? {} : { 'if-match': ifMatch }),
      ...(ifNoneMatch === undefined ? {} : { 'if-none-match': ifNoneMatch }),
      ...(accept === undefined ? {} : { accept }),
    },
    body: bytes,
  };
}

function asTexts(values: Record<string, unknown>): Record<string, string> {
  const given = Object.entries(values).filter(([, value]) => value !== undefined);
  return Object.fromEntries(given.map(([name, value]) => [name, String(value)]));
}
