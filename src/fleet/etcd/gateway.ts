// SPDX-License-Identifier: Apache-2.0
/**
 * etcd's JSON gateway, one member of it: requests with a deadline, streams, TLS, the token of a user. Why not gRPC:
 * docs/adr/0014-fleet-over-etcd-gateway.md.
 */
import { type ClientRequest, Agent as HttpAgent, request as httpRequest, type IncomingMessage } from 'node:http';
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https';
import { createInterface } from 'node:readline';
import { buffer } from 'node:stream/consumers';
import { VnicError } from '../../errors.ts';

export interface Credentials {
  /** PEM. `ca` alone verifies the server; cert and key show who we are. */
  tls: { ca: Buffer | null; cert: Buffer | null; key: Buffer | null } | null;
  auth: { user: string; password: string } | null;
}

/** gRPC's codes, which the gateway passes on. */
const grpc = { invalidArgument: 3, permissionDenied: 7, failedPrecondition: 9, unavailable: 14, unauthenticated: 16 };

/** An answer that took longer is none: a member that is frozen or has no quorum keeps callers waiting. */
export const DEADLINE_MS = 2000;
/** etcd hashes passwords slowly on purpose. */
const PASSWORD_DEADLINE_MS = 10_000;
/** Simple tokens end after five idle minutes; another one is asked for then. */
const TOKEN_ENDED = /invalid auth token|auth token is not provided|auth: revision in header is old|user name is empty/;

export class Gateway {
  readonly endpoint: string;
  readonly #credentials: Credentials;
  readonly #agent: HttpAgent;
  readonly #open = new Set<ClientRequest>();
  #token: string | null = null;
  #isClosed = false;

  /** @param endpoint such as https://10.0.0.1:2379 */
  constructor(endpoint: string, credentials: Credentials) {
    this.endpoint = endpoint.replace(/\/+$/, '');
    this.#credentials = credentials;
    const { tls } = credentials;
    const isTls = this.endpoint.startsWith('https:');
    const options = { keepAlive: true, maxSockets: 8 };
    this.#agent = isTls
      ? new HttpsAgent({
          ...options,
          ...(tls?.ca == null ? {} : { ca: tls.ca }),
          ...(tls?.cert == null ? {} : { cert: tls.cert }),
          ...(tls?.key == null ? {} : { key: tls.key }),
        })
      : new HttpAgent(options);
  }

  /** Throws `fleet_unreachable`, `unauthorized`, `not_permitted`, `failed`. */
  async call<T>(path: string, body: object): Promise<T> {
    return await this.#authenticated(async () => {
      const response = await this.#send(path, body, DEADLINE_MS);
      return (await this.#read(response)) as T;
    });
  }

  /** Lines of an answer that does not end, each an object. The first one has to come within the deadline. */
  async stream(path: string, body: object, onLine: (line: Record<string, unknown>) => void): Promise<Stream> {
    return await this.#authenticated(async () => {
      const response = await this.#send(path, body, DEADLINE_MS, { 'grpc-metadata-hasleader': 'true' });
      if (response.statusCode !== 200) await this.#read(response);
      const ended = Promise.withResolvers<Error>();
      const lines = createInterface({ input: response });
      // It passes on the errors of its input, which are heard below.
      lines.on('error', () => undefined);
      lines.on('line', (text) => {
        try {
          onLine(JSON.parse(text) as Record<string, unknown>);
        } catch (error) {
          response.destroy(error as Error);
        }
      });
      response.on('error', (error) => ended.resolve(error instanceof VnicError ? error : this.#unreachable(error)));
      response.on('close', () => ended.resolve(this.#unreachable(new Error('the connection ended'))));
      return { ended: ended.promise, close: () => response.destroy() };
    });
  }

  /** With the user's token; once more with a new one where the old one has ended. */
  async #authenticated<T>(action: () => Promise<T>): Promise<T> {
    if (this.#credentials.auth === null) return await action();
    if (this.#token === null) await this.#authenticate();
    try {
      return await action();
    } catch (error) {
      if (!(error instanceof VnicError) || error.code !== 'unauthorized' || !TOKEN_ENDED.test(error.message))
        throw error;
      await this.#authenticate();
      return await action();
    }
  }

  async #authenticate(): Promise<void> {
    const { user, password } = this.#credentials.auth!;
    this.#token = null;
    const response = await this.#send('/v3/auth/authenticate', { name: user, password }, PASSWORD_DEADLINE_MS);
    const { token } = (await this.#read(response)) as { token?: string };
    this.#token = token ?? null;
  }

  #send(path: string, body: object, deadlineMs: number, more: Record<string, string> = {}): Promise<IncomingMessage> {
    const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
    if (this.#isClosed) return Promise.reject(this.#unreachable(new Error('it is closed')));
    const bytes = Buffer.from(JSON.stringify(body));
    const send = this.endpoint.startsWith('https:') ? httpsRequest : httpRequest;
    const outgoing = send(`${this.endpoint}${path}`, {
      method: 'POST',
      agent: this.#agent,
      headers: {
        'content-type': 'application/json',
        'content-length': String(bytes.length),
        ...(this.#token === null ? {} : { authorization: this.#token }),
        ...more,
      },
    });
    this.#open.add(outgoing);
    const timer = setTimeout(() => outgoing.destroy(new Error(`no answer within ${deadlineMs} ms`)), deadlineMs);
    outgoing.on('error', (error) => reject(this.#unreachable(error)));
    outgoing.on('close', () => {
      clearTimeout(timer);
      this.#open.delete(outgoing);
    });
    outgoing.on('response', (response) => {
      clearTimeout(timer);
      resolve(response);
    });
    outgoing.end(bytes);
    return promise;
  }

  async #read(response: IncomingMessage): Promise<unknown> {
    const timer = setTimeout(() => response.destroy(new Error('the answer stopped')), DEADLINE_MS);
    let text: string;
    try {
      text = (await buffer(response)).toString();
    } catch (error) {
      throw this.#unreachable(error as Error);
    } finally {
      clearTimeout(timer);
    }
    const status = response.statusCode ?? 0;
    const parsed = parseJson(text);
    if (status === 200 && parsed !== null) return parsed;
    throw this.errorOf(parsed ?? { error: text.slice(0, 200), code: status === 503 ? grpc.unavailable : undefined });
  }

  /** From what etcd says of an error. */
  errorOf(answer: Record<string, unknown>): VnicError {
    const code = answer['code'] ?? answer['grpc_code'];
    const said =
      [answer['error'], answer['message']].find((text) => typeof text === 'string') ?? JSON.stringify(answer);
    const message = said.replace(/^etcdserver: /, '').trim();
    const text = `etcd at ${this.endpoint} says: ${message}.`;
    if (code === grpc.unauthenticated || /authentication failed|user name is empty/.test(message)) {
      return new VnicError('unauthorized', text, {
        remedy: 'Check fleet.auth: user, and the password in password_file.',
      });
    }
    if (message.includes('CommonName of client')) {
      return new VnicError('unauthorized', text, {
        remedy: 'Use a client certificate without a common name (docs/fleet.md): the user is that of fleet.auth.',
      });
    }
    if (code === grpc.permissionDenied) {
      return new VnicError('not_permitted', text, {
        remedy: "Grant the user's role what docs/fleet.md lists for it, below the fleet's prefix.",
      });
    }
    const isWithout = code === grpc.unavailable || /no leader|request timed out|leader changed/.test(message);
    if (isWithout) {
      return new VnicError('fleet_unreachable', text, { remedy: 'Look at its members with etcdctl endpoint status.' });
    }
    return new VnicError('failed', text, { details: { etcd: message } });
  }

  #unreachable(cause: Error): VnicError {
    const { code, message } = cause as NodeJS.ErrnoException;
    const reason = message === '' ? (code ?? 'no connection') : message;
    return new VnicError('fleet_unreachable', `etcd at ${this.endpoint} cannot be reached: ${reason}.`, {
      remedy: 'Check fleet.endpoints and fleet.tls, and that etcd has a majority of its members.',
      cause,
    });
  }

  close(): void {
    this.#isClosed = true;
    for (const request of this.#open) request.destroy(new Error('it is closed'));
    this.#agent.destroy();
  }
}

export interface Stream {
  /** Why it ended: what onLine threw, or what is wrong with the connection. */
  ended: Promise<Error>;
  close(): void;
}

function parseJson(text: string): Record<string, unknown> | null {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' ? (value as Record<string, unknown>) : null;
  } catch {
    return null;
  }
}
