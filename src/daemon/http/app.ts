// SPDX-License-Identifier: Apache-2.0
/** The routes: operations go to the engine as bytes, the daemon's own are answered here. */

import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http';
import express, { type ErrorRequestHandler, type Request, type RequestHandler, type Response } from 'express';
import type { Logger } from 'pino';
import { type ApiRequest, type ApiResponse, headerNames, type Method, type Operation } from '../../api/operation.ts';
import { operations } from '../../api/operations/index.ts';
import type { DaemonConfig } from '../../config/daemon.ts';
import { VnicError } from '../../errors.ts';
import type { FleetView } from '../../fleet/node/fleet-node.ts';
import type { Engine } from '../engine.ts';
import type { Metrics } from '../metrics.ts';
import { type AccessNeeded, type AccessRules, decide } from './access.ts';
import { commonEntries, failure, send, sendJson } from './answers.ts';
import type { EventStreams } from './events.ts';
import { beginExchange, exchangeOf } from './exchange.ts';
import { bodyOf, bodyReader, bodyTooLarge, type OpenRequests, type Place, requireFewHeaders } from './limits.ts';

export interface Readiness {
  ready: boolean;
  /** What is waited for. */
  reason: string;
}

/** A page with everything in it, and the Content-Security-Policy that lets nothing else in. */
export interface Page {
  html: Uint8Array;
  policy: string;
}

export interface AppParts {
  engine: Engine;
  config: () => DaemonConfig;
  accessRules: () => AccessRules;
  isReady: () => Readiness;
  log: Logger;
  metrics: Metrics;
  fleet: () => FleetView;
  streams: EventStreams;
  openRequests: OpenRequests;
  rateLimit: RequestHandler;
  /** The OpenAPI document as JSON. */
  document: () => Uint8Array;
  reference: () => Page;
  /** By address. */
  livePage: ReadonlyMap<string, ApiResponse>;
}

interface Endpoint {
  method: Method;
  access: AccessNeeded;
  readsBody: boolean;
  handle: (request: Request, response: Response, place: Place | null) => void | Promise<void>;
}

export function createApp(parts: AppParts): RequestListener {
  const { log, config } = parts;
  const app = express();
  // Errors that nobody handles show their stack in other environments.
  app.set('env', 'production');
  app.set('etag', false);
  app.set('query parser', false);
  app.set('case sensitive routing', true);
  app.set('strict routing', true);
  app.disable('x-powered-by');

  app.use((request, response, next) => {
    const { id } = beginExchange(log, request, response);
    response.setHeaders(new Map([...commonEntries, ['x-request-id', id]]));
    next();
  });
  app.use(parts.rateLimit, checkForm);

  const guard = (access: AccessNeeded): RequestHandler => {
    return (request, _, next) => {
      const exchange = exchangeOf(request);
      const { authorization, host, origin } = request.headers;
      const attempt = { channel: exchange.channel, access, authorization, host, origin };
      exchange.token = decide(attempt, parts.accessRules());
      next();
    };
  };
  const readBody = bodyReader(() => config().limits);
  for (const [path, endpoints] of endpointsByPath(parts)) {
    const route = app.route(path.replaceAll(/\{(\w+)\}/g, ':$1'));
    const allow = allowOf(endpoints);
    const leastAccess = endpoints.some(({ access }) => access === 'open') ? 'open' : 'read';
    for (const { method, access, readsBody, handle } of endpoints) {
      const places = new WeakMap<Request, Place>();
      route[method](
        guard(access),
        (request, response, next) => {
          if (access !== 'open') places.set(request, parts.openRequests.enter(response));
          next();
        },
        ...(readsBody ? [readBody] : []),
        (request, response) => handle(request, response, places.get(request) ?? null),
      );
    }
    route.options(guard(leastAccess), (request, response) => {
      send(request, response, { status: 204, headers: { allow }, body: null });
    });
    route.all(guard(leastAccess), (request, response) => {
      response.setHeader('allow', allow);
      throw new VnicError('method_not_allowed', `${request.method} is not possible on ${path}.`, {
        remedy: `Use ${allow}.`,
      });
    });
  }
  app.use(guard('read'), (request) => {
    throw new VnicError('no_route', `There is no ${request.path} here.`, {
      remedy: 'Look at /api/v1/reference for what there is.',
    });
  });
  app.use(errorHandler(parts));
  return (request, response) => {
    app(request as Request, response as Response, (error: unknown) => answerUnrouted(log, request, response, error));
  };
}

/** Express looks for no route where an address such as `http://` has no path, and comes here if the error handler fails. */
function answerUnrouted(log: Logger, request: IncomingMessage, response: ServerResponse, error: unknown): void {
  if (error != null) {
    log.error({ err: error }, 'an answer failed');
    response.destroy();
    return;
  }
  beginExchange(log, request, response);
  response.setHeaders(new Map(commonEntries));
  const what = new VnicError('usage', 'The address of the request has no path.', {
    remedy: 'Ask for what /api/v1/reference names.',
  });
  send(request, response, failure(what));
}

/** What is wrong with a request whatever it asks for. Throws `usage`, `too_large`. */
const checkForm: RequestHandler = (request, _, next) => {
  requireFewHeaders(request);
  const hosts = request.rawHeaders.filter((text, index) => index % 2 === 0 && text.toLowerCase() === 'host').length;
  if (hosts > 1 || (hosts === 0 && request.httpVersion === '1.1')) {
    throw new VnicError('usage', `The request has ${hosts === 0 ? 'no' : 'more than one'} Host header.`, {
      remedy: 'Send one, as RFC 9112 asks for.',
    });
  }
  try {
    decodeURIComponent(request.originalUrl);
  } catch (cause) {
    throw new VnicError('usage', 'The percent-encoding of the address is not valid.', {
      remedy: 'Encode it as UTF-8, and % itself as %25.',
      cause,
    });
  }
  next();
};

/** The daemon's own first: routes are tried in turn, and scrapes come most often. */
function endpointsByPath(parts: AppParts): Map<string, Endpoint[]> {
  const byPath = new Map(Object.entries(daemonEndpoints(parts)).map(([path, endpoint]) => [path, [endpoint]]));
  for (const operation of operations) {
    const endpoints = byPath.get(operation.path) ?? [];
    byPath.set(operation.path, [...endpoints, operationEndpoint(operation, parts)]);
  }
  return byPath;
}

function allowOf(endpoints: readonly Endpoint[]): string {
  const methods = endpoints.map(({ method }) => method.toUpperCase());
  return [...methods, ...(methods.includes('GET') ? ['HEAD'] : []), 'OPTIONS'].join(', ');
}

function operationEndpoint({ id, method, access, body }: Operation, { engine, isReady }: AppParts): Endpoint {
  return {
    method,
    access,
    readsBody: body !== null,
    handle: async (request, response, place) => {
      requireReady(isReady());
      const work = engine.call(id, apiRequest(request));
      const answer = await (place?.during(work) ?? work);
      // Nobody is there any more; the work was done all the same.
      if (!response.destroyed) send(request, response, answer);
    },
  };
}

/** Throws `not_ready`. */
function requireReady({ ready, reason }: Readiness): void {
  if (!ready)
    throw new VnicError('not_ready', `The daemon is not ready: ${reason}.`, { remedy: 'Try again in a moment.' });
}

function apiRequest(request: Request): ApiRequest {
  const headers: ApiRequest['headers'] = {};
  for (const name of headerNames) {
    const value = request.headers[name];
    if (value !== undefined) headers[name] = value;
  }
  const params = Object.fromEntries(Object.entries(request.params).map(([name, value]) => [name, String(value)]));
  return { params, query: queryOf(request), headers, body: bodyOf(request.body) };
}

/** Throws `usage` for a parameter that is given twice: which one counts would be anybody's guess. */
function queryOf({ originalUrl }: Request): Record<string, string> {
  const start = originalUrl.indexOf('?');
  if (start === -1) return {};
  const query = new URLSearchParams(originalUrl.slice(start + 1));
  for (const name of query.keys()) {
    if (query.getAll(name).length > 1) {
      throw new VnicError('usage', `The query has ${JSON.stringify(name)} more than once.`, {
        remedy: 'Give it once.',
      });
    }
  }
  return Object.fromEntries(query);
}

function daemonEndpoints(parts: AppParts): Record<string, Endpoint> {
  const { isReady, metrics, streams } = parts;
  const get = (handle: Endpoint['handle'], access: AccessNeeded = 'read'): Endpoint => {
    return { method: 'get', access, readsBody: false, handle };
  };
  return {
    '/healthz': get((request, response) => sendJson(request, response, { status: 'ok' }), 'open'),
    '/readyz': get((request, response) => {
      requireReady(isReady());
      sendJson(request, response, { status: 'ready' });
    }, 'open'),
    '/metrics': get(async (request, response) => {
      requireReady(isReady());
      const { contentType, body, tail } = await metrics.text(request.headers.accept);
      send(request, response, { status: 200, headers: { 'content-type': contentType }, body }, tail);
    }),
    '/api/v1/metrics': get(async (request, response) => {
      requireReady(isReady());
      sendJson(request, response, await metrics.json());
    }),
    '/api/v1/fleet': get((request, response) => {
      requireReady(isReady());
      sendJson(request, response, parts.fleet());
    }),
    '/api/v1/openapi.json': get((request, response) => {
      send(request, response, { status: 200, headers: { 'content-type': 'application/json' }, body: parts.document() });
    }),
    '/api/v1/reference': get((request, response) => {
      const { html, policy } = parts.reference();
      const headers = {
        'content-type': 'text/html; charset=utf-8',
        'content-security-policy': policy,
        'referrer-policy': 'no-referrer',
      };
      send(request, response, { status: 200, headers, body: html });
    }),
    '/api/v1/events': get((request, response, place) => {
      streams.open(request, response, queryOf(request));
      // It may last for days, and has a limit of its own.
      place?.leave();
    }),
    // A browser sends no token with the address of a page; the page asks for one, and sends it with what it reads.
    ...Object.fromEntries(
      Array.from(parts.livePage, ([path, answer]) => [
        path,
        get((request, response) => send(request, response, answer), 'open'),
      ]),
    ),
  };
}

/** Express and its body reader give errors of their own kind. */
function asKnownError(error: unknown, bodyBytes: number): unknown {
  const { type, status } = error as { type?: string; status?: number };
  switch (type) {
    case 'entity.too.large':
      return bodyTooLarge(bodyBytes);
    case 'encoding.unsupported':
      return new VnicError('unsupported_media_type', 'The body is compressed, which is not read here.', {
        remedy: 'Send it without Content-Encoding.',
      });
    default:
      if (error instanceof VnicError || status === undefined || status < 400 || status >= 500) return error;
      return new VnicError('usage', `The request is not valid: ${(error as Error).message}.`, { cause: error });
  }
}

function errorHandler({ config }: AppParts): ErrorRequestHandler {
  // Express tells an error handler by its four parameters.
  return (thrown: unknown, request, response, _next) => {
    const exchange = exchangeOf(request);
    const { type } = (thrown ?? {}) as { type?: string };
    // The client went away while its body was read, or was answered on its socket.
    if (type === 'request.aborted') return;
    const error = asKnownError(thrown, config().limits.bodyBytes);
    if (!(error instanceof VnicError)) exchange.unexpected = error;
    send(request, response, failure(error));
  };
}
