// SPDX-License-Identifier: Apache-2.0
/** Performs one request: checks what came in, runs the operation, encodes what goes out. Errors become problem objects. */
import { VnicError } from '../errors.ts';
import { checkInput, encodeJson, encodeText, negotiate, readBody } from './bodies.ts';
import type { Answer, ApiContext, ApiRequest, ApiResponse, Operation } from './operation.ts';
import { problemResponse } from './problem.ts';

const JSON_TYPE = 'application/json';

/** Never throws: what goes wrong is in the response. */
export async function dispatch(context: ApiContext, operation: Operation, request: ApiRequest): Promise<ApiResponse> {
  try {
    requireAcceptable(operation, request.headers.accept);
    const { headers } = request;
    const params = checkInput(operation.params, request.params, 'The path is not valid');
    const query = checkInput(operation.query, request.query, 'The query is not valid', ['query']);
    const body = operation.body === null ? null : readBody(operation.body, request.body, headers['content-type']);
    const answer = await operation.run(context, { params, query, body, headers });
    return encode(operation, answer);
  } catch (error) {
    return problemResponse(error);
  }
}

function requireAcceptable(operation: Operation, accept: string | undefined): void {
  const offered = Object.values(operation.responses).flatMap(({ schema, otherTypes = [] }) =>
    schema === null ? [] : [JSON_TYPE, ...otherTypes],
  );
  if (offered.length === 0 || negotiate(accept, offered) !== null) return;
  throw new VnicError('not_acceptable', `This is not to be had as ${accept}.`, {
    remedy: `It can be had as ${[...new Set(offered)].join(', ')}.`,
  });
}

function encode(operation: Operation, answer: Answer<unknown>): ApiResponse {
  const status = answer.status ?? Number(Object.keys(operation.responses)[0]);
  const headers = answer.headers ?? {};
  if ('data' in answer) {
    return { status, headers: { 'content-type': JSON_TYPE, ...headers }, body: encodeJson(answer.data) };
  }
  if ('text' in answer) {
    return { status, headers: { 'content-type': answer.contentType, ...headers }, body: encodeText(answer.text) };
  }
  return { status, headers, body: null };
}
