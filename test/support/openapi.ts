// SPDX-License-Identifier: Apache-2.0
/** Holds what a daemon answers against the OpenAPI document that it serves itself. */
import assert from 'node:assert/strict';
import { Ajv2020, type ValidateFunction } from 'ajv/dist/2020.js';
import formats from 'ajv-formats';
import type { ApiDocument, OperationObject, ResponseObject } from '../../src/daemon/http/openapi-shape.ts';

export interface DocumentedOperation {
  readonly id: string;
  /** In upper case. */
  readonly method: string;
  /** With its parameters in braces. */
  readonly path: string;
  readonly described: OperationObject;
}

/** A request and its answer, as a client saw them. */
export interface Exchange {
  method: string;
  /** Without scheme and host. */
  url: string;
  status: number;
  headers: Headers;
  /** Null: a stream, whose body is not looked at. */
  text: string | null;
}

/** Problems of one side with the other are under `default`, of which no status is promised. */
const DEFAULT = 'default';

const DOCUMENT_KEY = 'openapi';

function pointer(...parts: string[]): string {
  return parts.map((part) => `/${encodeURIComponent(part.replaceAll('~', '~0').replaceAll('/', '~1'))}`).join('');
}

/** The document's statuses, as numbers, without `default`. */
export function statusesOf({ described }: DocumentedOperation): number[] {
  return Object.keys(described.responses)
    .filter((status) => status !== DEFAULT)
    .map(Number);
}

export function operationsOf(document: ApiDocument): DocumentedOperation[] {
  return Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, described]) => ({
      id: described.operationId,
      method: method.toUpperCase(),
      path,
      described,
    })),
  );
}

export class Conformance {
  readonly document: ApiDocument;
  readonly operations: readonly DocumentedOperation[];
  readonly #ajv: Ajv2020;
  readonly #validators = new Map<string, ValidateFunction>();
  readonly #seen = new Set<string>();
  #count = 0;

  constructor(document: ApiDocument) {
    this.document = document;
    this.operations = operationsOf(document);
    this.#ajv = new Ajv2020({ allErrors: true, allowUnionTypes: true });
    formats.default(this.#ajv);
    // References are into the document as a whole, whose own fields are no keywords.
    this.#ajv.addVocabulary(Object.keys(document));
    this.#ajv.addSchema(document, DOCUMENT_KEY, false, false);
  }

  /** Answers that were held against the document. */
  get count(): number {
    return this.#count;
  }

  operation(id: string): DocumentedOperation {
    const operation = this.operations.find((candidate) => candidate.id === id);
    assert.ok(operation, `the document has no operation ${id}`);
    return operation;
  }

  /** The operation that a request is for. */
  find(method: string, url: string): DocumentedOperation {
    const [path = ''] = url.split('?');
    const operation = this.operations.find((candidate) => {
      const segments = candidate.path.split('/');
      const given = path.split('/');
      return (
        candidate.method === method.toUpperCase() &&
        segments.length === given.length &&
        segments.every((segment, index) => segment.startsWith('{') || segment === given[index])
      );
    });
    assert.ok(operation, `the document has no ${method} ${path}`);
    return operation;
  }

  /** Throws an AssertionError for whatever the document does not say. */
  check(exchange: Exchange): void {
    const { method, url, status, headers, text } = exchange;
    const operation = this.find(method, url);
    const where = `${operation.id} ${status} (${method} ${url})`;
    const response = operation.described.responses[status];
    assert.ok(response, `${where} is not documented: ${text}`);
    for (const [name, header] of Object.entries(response.headers ?? {})) {
      const value = headers.get(name);
      assert.ok(value !== null, `${where} has no ${name}`);
      this.#validate(value, `${where}: ${name}`, [
        ...this.#pathOf(operation, status),
        'headers',
        name,
        ...('schema' in (header as object) ? ['schema'] : []),
      ]);
    }
    this.#checkBody(operation, response, exchange, where);
    this.#seen.add(`${operation.id} ${status}`);
    this.#count++;
  }

  /** Whether a value is what a named schema of the document says. */
  checkSchema(name: string, value: unknown): void {
    this.#validate(value, name, ['components', 'schemas', name]);
  }

  /** Whether a body is what the document says that an operation takes. */
  checkRequest(id: string, mediaType: string, value: unknown): void {
    const { path, method } = this.operation(id);
    this.#validate(value, `a request of ${id}`, [
      'paths',
      path,
      method.toLowerCase(),
      'requestBody',
      'content',
      mediaType,
      'schema',
    ]);
  }

  /** What was never answered so far: operation and status. */
  missing(): string[] {
    return this.operations
      .flatMap((operation) => statusesOf(operation).map((status) => `${operation.id} ${status}`))
      .filter((pair) => !this.#seen.has(pair));
  }

  #pathOf({ path, method }: DocumentedOperation, status: number): string[] {
    return ['paths', path, method.toLowerCase(), 'responses', String(status)];
  }

  #checkBody(
    operation: DocumentedOperation,
    { content = {} }: ResponseObject,
    { status, headers, text }: Exchange,
    where: string,
  ): void {
    const header = headers.get('content-type');
    const types = Object.keys(content);
    if (types.length === 0) {
      assert.equal(text, '', `${where} has a body`);
      return;
    }
    const mediaType = (header ?? 'nothing').split(';')[0]!.trim();
    assert.ok(types.includes(mediaType), `${where} came as ${mediaType}, documented are ${types.join(', ')}`);
    if (text === null) return;
    const value: unknown = /[/+]json$/.test(mediaType) ? JSON.parse(text) : text;
    this.#validate(value, where, [...this.#pathOf(operation, status), 'content', mediaType, 'schema']);
    if (mediaType === 'application/problem+json') {
      assert.equal((value as { status: number }).status, status, `${where}: the problem names another status`);
    }
  }

  #validate(value: unknown, where: string, path: readonly string[]): void {
    const reference = `${DOCUMENT_KEY}#${pointer(...path)}`;
    let validator = this.#validators.get(reference);
    if (validator === undefined) {
      validator = this.#ajv.compile({ $ref: reference });
      this.#validators.set(reference, validator);
    }
    if (validator(value)) return;
    const errors = validator.errors?.map(({ instancePath, message, params }) => {
      return `${instancePath === '' ? '/' : instancePath} ${message} ${JSON.stringify(params)}`;
    });
    assert.fail(`${where} is not as documented: ${errors?.join('; ')} in ${JSON.stringify(value).slice(0, 1000)}`);
  }
}
