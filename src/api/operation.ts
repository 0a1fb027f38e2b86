// SPDX-License-Identifier: Apache-2.0
/**
 * An operation of the API, declared once: its route, what goes in and out, which errors it can give, who may call it, and
 * the function that performs it. Express routes, the OpenAPI document, the command line's client and the reference page
 * all come from this table.
 */
import type { z } from 'zod';
import type { Controller } from '../app/controller.ts';
import type { ErrorCode } from '../errors.ts';

export type Method = 'get' | 'put' | 'patch' | 'post' | 'delete';

/** `read` changes nothing; `write` needs the right to write. */
export type Access = 'read' | 'write';

/** A request as it arrives: nothing is parsed or checked yet. */
export interface ApiRequest {
  params: Record<string, string>;
  query: Record<string, string>;
  /** Names in lower case; only the ones that operations look at. */
  headers: { [name in HeaderName]?: string };
  body: Uint8Array | null;
}

export const headerNames = ['accept', 'content-type', 'if-match', 'if-none-match'] as const;
export type HeaderName = (typeof headerNames)[number];

export interface ApiResponse {
  status: number;
  headers: Record<string, string>;
  body: Uint8Array | null;
}

/** Something that happened, for whoever follows the events. */
export interface ApiEvent {
  type: string;
  device: string | null;
  data: Record<string, unknown>;
}

/** What operations work with. */
export interface ApiContext {
  controller: Controller;
  publish: (event: ApiEvent) => void;
}

/** What an operation answers: `data` is sent as JSON; `text` as it is. */
export type Answer<Data> = {
  /** Default: the first status of `responses`. */
  status?: number;
  headers?: Record<string, string>;
} & ({ data: Data } | { text: string; contentType: string } | { empty: true });

export interface BodySpec<Schema extends z.ZodType = z.ZodType> {
  /** What is published, and what JSON bodies are checked against unless `read` does it better. */
  schema: Schema;
  /** Media types besides application/json. */
  otherTypes?: readonly string[];
  /** Whether the body may be left out. */
  optional?: boolean;
  /** Replaces the JSON reader. */
  read?: (bytes: Uint8Array, mediaType: string) => z.output<Schema>;
  example?: unknown;
}

export interface ResponseSpec {
  description: string;
  /** Null: no body. */
  schema: z.ZodType | null;
  /** Media types besides application/json, sent as text. */
  otherTypes?: readonly string[];
  etag?: boolean;
  example?: unknown;
}

export interface Input<Params, Query, Body> {
  params: Params;
  query: Query;
  body: Body;
  headers: ApiRequest['headers'];
}

export interface Operation<
  Params extends z.ZodObject = z.ZodObject,
  Query extends z.ZodObject = z.ZodObject,
  Body extends z.ZodType = z.ZodType,
  Result extends z.ZodType = z.ZodType,
> {
  id: string;
  method: Method;
  /** As OpenAPI writes it: /api/v1/devices/{device} */
  path: string;
  tag: string;
  summary: string;
  description?: string;
  access: Access;
  params: Params;
  query: Query;
  body: BodySpec<Body> | null;
  /** Schema of the first success's data; the type of what a client gets. */
  result: Result;
  responses: Readonly<Record<number, ResponseSpec>>;
  /** Beyond those that every operation can give. */
  errors: readonly ErrorCode[];
  /** Works without the rights that loading BPF takes. */
  needsNoRights?: boolean;
  run(
    context: ApiContext,
    input: Input<z.output<Params>, z.output<Query>, z.output<Body>>,
  ): Answer<z.input<Result>> | Promise<Answer<z.input<Result>>>;
}

/** Ties the types of one operation together. */
export function operation<
  const Id extends string,
  Params extends z.ZodObject,
  Query extends z.ZodObject,
  Body extends z.ZodType,
  Result extends z.ZodType,
>(declared: Operation<Params, Query, Body, Result> & { id: Id }): Operation<Params, Query, Body, Result> & { id: Id } {
  return declared;
}

export type ParamsOf<Op> = Op extends Operation<infer P, z.ZodObject, z.ZodType, z.ZodType> ? z.output<P> : never;
