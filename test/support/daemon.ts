// SPDX-License-Identifier: Apache-2.0
/** A vnicd of its own for a test: its state, socket, port and tokens are private and go with it. */
import { type ChildProcess, spawn } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { request as httpRequest, type IncomingHttpHeaders } from 'node:http';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { buffer } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';
import { vnicctl } from './cli.ts';

export interface DaemonOptions {
  /** The `devices` section of the configuration, as YAML text; and lines of the `daemon` section. */
  devices?: string;
  daemon?: string;
  /** The `fleet` section. */
  fleet?: string;
  env?: Record<string, string>;
  /** Default: a new one that goes with the daemon. */
  folder?: string;
  /** Default: one in the folder. */
  stateFolder?: string;
  /** Do not wait for readiness. */
  impatient?: boolean;
  /** Default: debug, which logs each request. */
  logLevel?: 'debug' | 'info';
}

export interface Reply {
  status: number;
  headers: IncomingHttpHeaders;
  text: string;
  json<T = Record<string, unknown>>(): T;
}

export interface SendOptions {
  body?: unknown;
  headers?: Record<string, string>;
}

const START_TIMEOUT_MS = 60_000;

export async function freePort(): Promise<number> {
  const server = createServer();
  const { promise, resolve } = Promise.withResolvers<void>();
  server.listen(0, '127.0.0.1', resolve);
  await promise;
  const { port } = server.address() as { port: number };
  server.close();
  return port;
}

export function makeToken(): { token: string; sha256: string } {
  const token = `vnic_${randomBytes(32).toString('base64url')}`;
  return { token, sha256: createHash('sha256').update(token).digest('hex') };
}

/** Sends one request over a Unix socket. */
export async function sendTo(
  socketPath: string,
  method: string,
  url: string,
  { body, headers = {} }: SendOptions = {},
): Promise<Reply> {
  const { promise, resolve, reject } = Promise.withResolvers<Reply>();
  const bytes = body === undefined ? undefined : typeof body === 'string' ? body : JSON.stringify(body);
  const outgoing = httpRequest({
    socketPath,
    method,
    path: url,
    headers: { ...(bytes === undefined ? {} : { 'content-type': 'application/json' }), ...headers },
  });
  outgoing.on('error', (error: NodeJS.ErrnoException) => {
    // The daemon closed a connection that had waited for long, just as it was used again: every client asks once more.
    const wasClosed = error.code === 'ECONNRESET' && outgoing.reusedSocket && method === 'GET';
    if (wasClosed) resolve(sendTo(socketPath, method, url, { body, headers }));
    else reject(error);
  });
  outgoing.on('response', (incoming) => {
    buffer(incoming).then((bytesRead) => {
      const text = bytesRead.toString();
      resolve({
        status: incoming.statusCode ?? 0,
        headers: incoming.headers,
        text,
        json: <T>() => JSON.parse(text) as T,
      });
    }, reject);
  });
  outgoing.end(bytes);
  return await promise;
}

export class TestDaemon implements AsyncDisposable {
  readonly folder: string;
  readonly socket: string;
  readonly stateFolder: string;
  readonly configFile: string;
  readonly port: number;
  readonly baseUrl: string;
  readonly readToken = makeToken();
  readonly writeToken = makeToken();
  /** Parsed lines of the log, of all runs. */
  readonly log: Record<string, unknown>[] = [];
  stderr = '';
  #options: DaemonOptions;
  #child: ChildProcess | undefined;
  #exit: Promise<{ code: number | null; signal: NodeJS.Signals | null }> = Promise.resolve({
    code: null,
    signal: null,
  });

  private constructor(options: DaemonOptions, port: number) {
    this.#options = options;
    this.folder = options.folder ?? mkdtempSync(path.join(tmpdir(), 'vnic-daemon-'));
    this.socket = path.join(this.folder, 'vnicd.sock');
    this.stateFolder = options.stateFolder ?? path.join(this.folder, 'state');
    this.configFile = path.join(this.folder, 'vnic.yaml');
    this.port = port;
    this.baseUrl = `http://127.0.0.1:${port}`;
  }

  static async start(options: DaemonOptions = {}): Promise<TestDaemon> {
    const daemon = new TestDaemon(options, await freePort());
    daemon.configure(options);
    await daemon.run();
    return daemon;
  }

  get pid(): number {
    return this.#child?.pid ?? 0;
  }

  /** Writes the configuration file. */
  configure({ devices = '{}', daemon = '', fleet }: Pick<DaemonOptions, 'devices' | 'daemon' | 'fleet'>): void {
    writeFileSync(
      this.configFile,
      `devices: ${devices}
daemon:
  tokens:
    - {name: reader, sha256: ${this.readToken.sha256}, scope: read}
    - {name: writer, sha256: ${this.writeToken.sha256}, scope: write}
${daemon}
${fleet === undefined ? '' : `fleet: ${fleet}\n`}`,
    );
  }

  /** Starts the process; again after stop() or kill(). */
  async run(env: Record<string, string> = {}): Promise<void> {
    const child = spawn(
      vnicctl,
      ['serve', '--config', this.configFile, '--log-level', this.#options.logLevel ?? 'debug'],
      {
        stdio: ['ignore', 'pipe', 'pipe'],
        env: {
          ...process.env,
          VNIC_STATE_DIR: this.stateFolder,
          VNIC_SOCKET: this.socket,
          EXPORTER_PORT: String(this.port),
          ...this.#options.env,
          ...env,
        },
      },
    );
    this.#child = child;
    createInterface({ input: child.stdout }).on('line', (line) => {
      this.log.push(parseLine(line));
    });
    child.stderr.on('data', (data: Buffer) => {
      this.stderr += data.toString();
    });
    this.#exit = new Promise((resolve) => {
      child.on('exit', (code, signal) => resolve({ code, signal }));
    });
    if (this.#options.impatient !== true) await this.ready();
  }

  /** Waits until /readyz says so. */
  async ready(): Promise<void> {
    const deadline = performance.now() + START_TIMEOUT_MS;
    while (performance.now() < deadline) {
      if (this.#child?.exitCode != null || this.#child?.signalCode != null) break;
      const reply = await this.send('GET', '/readyz').catch(() => null);
      if (reply?.status === 200) return;
      await sleep(20);
    }
    throw new Error(`the daemon did not become ready: ${this.stderr}${JSON.stringify(this.log.slice(-5))}`);
  }

  async send(method: string, url: string, options: SendOptions = {}): Promise<Reply> {
    return await sendTo(this.socket, method, url, options);
  }

  /** As send(), and throws for anything but a success. */
  async ask<T = Record<string, unknown>>(method: string, url: string, options: SendOptions = {}): Promise<T> {
    const reply = await this.send(method, url, options);
    if (reply.status >= 300) throw new Error(`${method} ${url}: ${reply.status} ${reply.text}`);
    return reply.json<T>();
  }

  events(type: string): Record<string, unknown>[] {
    return this.log.filter(({ msg }) => msg === type);
  }

  async waitForEvent(type: string, timeoutMs = 20_000): Promise<Record<string, unknown>> {
    const deadline = performance.now() + timeoutMs;
    for (;;) {
      const [event] = this.events(type);
      if (event !== undefined) return event;
      if (performance.now() > deadline) throw new Error(`no event ${type}: ${JSON.stringify(this.log.slice(-10))}`);
      await sleep(20);
    }
  }

  signal(signal: NodeJS.Signals): void {
    this.#child?.kill(signal);
  }

  async exited(): Promise<{ code: number | null; signal: NodeJS.Signals | null }> {
    return await this.#exit;
  }

  async stop(): Promise<number | null> {
    this.signal('SIGTERM');
    return (await this.exited()).code;
  }

  async kill(): Promise<void> {
    this.signal('SIGKILL');
    await this.exited();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#child?.exitCode === null && this.#child.signalCode === null) await this.kill();
    if (this.#options.folder === undefined) rmSync(this.folder, { recursive: true, force: true });
  }
}

function parseLine(line: string): Record<string, unknown> {
  try {
    return JSON.parse(line) as Record<string, unknown>;
  } catch {
    return { msg: line };
  }
}
