// SPDX-License-Identifier: Apache-2.0
/** The `daemon` section of the configuration: where it listens, who may do what, and how much of it. */
import { isIP } from 'node:net';
import { VnicError } from '../errors.ts';
import type { Path, ProblemList } from '../steering/rules/problems.ts';
import { type DaemonInput, daemonSchema, type traceModes } from './schema.ts';

export interface ListenAddress {
  /** An IP address: a name could come to mean another one. */
  host: string;
  port: number;
}

export interface TokenConfig {
  /** For the log: the token itself never appears there. */
  name: string;
  /** SHA-256 of the token, 64 hexadecimal digits. */
  sha256: string;
  scope: 'read' | 'write';
}

export interface DaemonLimits {
  /** Of a request's body. */
  bodyBytes: number;
  /** Of one remote address, over TCP. */
  requestsPerSecond: number;
  /** Being worked on at the same time, all clients together. */
  openRequests: number;
  connections: number;
  /** Followers of the events. */
  eventStreams: number;
  /** A request has to arrive within it. */
  requestTimeoutMs: number;
}

export interface TelemetryConfig {
  /** `basic` counts what is dropped, `all` also polls, batches and time, which costs a little for each of them. */
  tracepoints: (typeof traceModes)[number];
  /** Has the kernel count runs and run time of all BPF programs, which costs time on each packet. */
  programStats: boolean;
  /** Times a sample of the packets up to the queue of their socket, which costs a little for each packet that has one. */
  socketLatency: boolean;
}

export interface DaemonConfig {
  /** Null: no TCP listener. */
  listen: ListenAddress | null;
  socket: { path: string; mode: number; group: string | null };
  tls: { cert: string; key: string } | null;
  tokens: readonly TokenConfig[];
  limits: DaemonLimits;
  telemetry: TelemetryConfig;
}

export const daemonDefaults: DaemonConfig = {
  listen: { host: '127.0.0.1', port: 9090 },
  socket: { path: '/run/vnic/vnicd.sock', mode: 0o660, group: null },
  tls: null,
  tokens: [],
  limits: {
    bodyBytes: 64 * 1024 * 1024,
    requestsPerSecond: 200,
    openRequests: 64,
    connections: 512,
    eventStreams: 64,
    requestTimeoutMs: 30_000,
  },
  telemetry: { tracepoints: 'basic', programStats: false, socketLatency: false },
};

/** Reads the section, recording problems. */
export function readDaemon(input: unknown, path: Path, problems: ProblemList): DaemonConfig {
  const user = problems.checkFields(daemonSchema, input ?? {}, path) as DaemonInput;
  const { socket = {}, limits = {}, telemetry = {} } = user;
  const listen =
    user.listen === undefined
      ? daemonDefaults.listen
      : (problems.attempt([...path, 'listen'], () => parseListen(user.listen!)) ?? null);
  const config: DaemonConfig = {
    listen,
    socket: {
      path: socket.path ?? daemonDefaults.socket.path,
      mode: socket.mode === undefined ? daemonDefaults.socket.mode : Number.parseInt(socket.mode, 8),
      group: socket.group ?? null,
    },
    tls: user.tls ?? null,
    tokens: user.tokens ?? [],
    limits: {
      bodyBytes: limits.body_bytes ?? daemonDefaults.limits.bodyBytes,
      requestsPerSecond: limits.requests_per_second ?? daemonDefaults.limits.requestsPerSecond,
      openRequests: limits.open_requests ?? daemonDefaults.limits.openRequests,
      connections: limits.connections ?? daemonDefaults.limits.connections,
      eventStreams: limits.event_streams ?? daemonDefaults.limits.eventStreams,
      requestTimeoutMs: limits.request_timeout_ms ?? daemonDefaults.limits.requestTimeoutMs,
    },
    telemetry: {
      tracepoints: telemetry.tracepoints ?? daemonDefaults.telemetry.tracepoints,
      programStats: telemetry.program_stats ?? daemonDefaults.telemetry.programStats,
      socketLatency: telemetry.socket_latency ?? daemonDefaults.telemetry.socketLatency,
    },
  };
  const names = config.tokens.map(({ name }) => name);
  const twice = names.find((name, index) => names.indexOf(name) !== index);
  if (twice !== undefined) problems.add([...path, 'tokens'], `token name ${twice} is used twice`, 'Name each its own.');
  if (listen !== null && !isLoopback(listen.host) && config.tls === null) {
    problems.add(
      [...path, 'listen'],
      `${formatListen(listen)} is off loopback, where only TLS is served`,
      'Add daemon.tls with cert and key, or listen on 127.0.0.1.',
    );
  }
  return config;
}

/** `127.0.0.1:9090`, `[::1]:9090`; `off` is null. Throws `invalid_config`. */
export function parseListen(text: string): ListenAddress | null {
  if (text === 'off') return null;
  const match = /^(?:\[([^\]]+)\]|([^:[\]]+)):(\d{1,5})$/.exec(text);
  const host = match?.[1] ?? match?.[2] ?? '';
  const port = Number(match?.[3]);
  if (match === null || isIP(host) === 0 || port < 1 || port > 65_535) {
    throw new VnicError('invalid_config', `${JSON.stringify(text)} is not an IP address and port`, {
      remedy: 'Write 127.0.0.1:9090, [::1]:9090 or off.',
    });
  }
  return { host, port };
}

export function formatListen({ host, port }: ListenAddress): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
}

export function isLoopback(address: string): boolean {
  const plain = address.startsWith('::ffff:') ? address.slice('::ffff:'.length) : address;
  return plain === '::1' || /^127\.\d{1,3}\.\d{1,3}\.\d{1,3}$/.test(plain);
}
