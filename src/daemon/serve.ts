// SPDX-License-Identifier: Apache-2.0
/** The life of a daemon: takes the state, adopts the devices, serves, reloads, and stops without touching the dataplane. */
import { flushCompileCache } from 'node:module';
import type { Logger } from 'pino';
import packageFile from '../../package.json' with { type: 'json' };
import type { ApiEvent } from '../api/operation.ts';
import { requireCapabilities, requireObject, stateFolderOf } from '../app/environment.ts';
import { takeState } from '../app/state-lock.ts';
import { formatListen } from '../config/daemon.ts';
import { VnicError } from '../errors.ts';
import { loadNative, type Native } from '../loader/ffi/index.ts';
import { releaseUnusedMemory } from '../loader/own-memory.ts';
import { setUrgency, type Urgency } from '../loader/scheduling.ts';
import { ServiceManager } from '../loader/service-manager.ts';
import { WorkerEngine } from './engine.ts';
import { EventLog } from './event-log.ts';
import { DaemonFleet } from './fleet.ts';
import { HttpServer } from './http/server.ts';
import { createMetrics } from './metrics.ts';
import { type DaemonSettings, readSettings } from './settings.ts';

export interface ServeOptions {
  configFile?: string;
  /** Overrides the configuration and EXPORTER_PORT. */
  listen?: string;
  environment: NodeJS.ProcessEnv;
  log: Logger;
}

/** Open requests get so long to end. */
const GRACE_MS = 5000;

/** By then the first requests and looks at devices have come, whose compiling takes much that the next ones do not need. */
const RELEASE_AGAIN_MS = 60_000;
/** Loading programs takes 16 MiB that nothing after it needs; devices are attached one after another. */
const RELEASE_AFTER_ATTACH_MS = 3000;
const attaching = new Set(['device.attached', 'device.returned', 'device.upgraded']);

/** What it does takes milliseconds: it must not wait for as long as a busy machine would have it. */
const mainThread: Urgency = { nice: -20, sliceNs: 100_000 };

/** Events that somebody should look at. */
const alarming = new Set([
  'device.failed',
  'device.gone',
  'state.damaged',
  'drift.found',
  'config.refused',
  'az.failed',
  'az.fail_refused',
  'az.recover_refused',
  'az.probe_impossible',
  'fleet.disconnected',
  'fleet.refused',
  'fleet.az_refused',
  'fleet.drift',
  'fleet.report_failed',
  'fleet.failed',
  'fleet.state_damaged',
]);

/**
 * Serves until SIGTERM or SIGINT. Throws what keeps it from starting: `not_permitted`, `conflict` (another daemon has the
 * state; an address is in use), `invalid_config`. Throws `failed` when the engine ends by itself.
 */
export async function serve(options: ServeOptions): Promise<void> {
  const { environment, log } = options;
  requireCapabilities();
  requireObject();
  let settings = await readSettings(options.configFile, options.listen, environment);
  const native = loadNative();
  native.setPrint(null);
  const stateFolder = stateFolderOf(environment);
  using _state = takeState(native, stateFolder);

  const manager = new ServiceManager(native, environment, {
    onFailure: (reason) => log.warn({ reason: String(reason) }, 'the service manager cannot be told'),
  });
  const events = new EventLog(Date.now());
  const releasing = setTimeout(() => releaseUnusedMemory(native), RELEASE_AFTER_ATTACH_MS).unref();
  const publish = (event: ApiEvent): void => {
    const { id, type, device, data } = events.publish(event);
    log[alarming.has(type) ? 'warn' : 'info']({ event: id, device, ...data }, type);
    if (attaching.has(type)) releasing.refresh();
    fleet.note(event);
  };
  const engine = new WorkerEngine({ stateFolder, config: settings.config, version: packageFile.version }, publish);
  const fleet: DaemonFleet = new DaemonFleet({ engine, stateFolder, version: packageFile.version, publish });
  preferMainThread(native, log);
  let state: { ready: boolean; reason: string } = { ready: false, reason: 'devices are being adopted' };
  const http = new HttpServer({
    engine,
    events,
    config: settings.daemon,
    isReady: () => state,
    native,
    log,
    version: packageFile.version,
    metrics: createMetrics({
      engine,
      cacheMs: () => settings.metricsCacheMs,
      fleet: () => fleet.sample(),
    }),
    fleet: () => fleet.view(),
  });

  const stopped = Promise.withResolvers<string>();
  const ended = engine.ended.then((reason) => {
    // A handler of libbpf's messages that ended with its thread would be called no more, but crash.
    native.setPrint(null);
    return reason;
  });
  const stop = (signal: NodeJS.Signals): void => stopped.resolve(signal);
  const reload = (): void => {
    void reloadAll().catch((error: unknown) => log.error({ err: error }, 'reloading failed'));
  };

  async function reloadAll(): Promise<void> {
    manager.reloading();
    try {
      const next = await readSettings(options.configFile, options.listen, environment);
      warnOfFixed(settings, next, log);
      http.reload(next.daemon);
      settings = next;
      await engine.reload(next.config);
      await fleet.configure(next.fleet);
      publish({ type: 'config.reloaded', device: null, data: { file: options.configFile ?? null } });
    } catch (error) {
      const { message, remedy = null } = error instanceof VnicError ? error : new VnicError('failed', String(error));
      publish({ type: 'config.refused', device: null, data: { file: options.configFile ?? null, message, remedy } });
    }
    manager.ready('ready');
  }

  const watchdog = startWatchdog(manager, engine, log);
  process.on('SIGTERM', stop).on('SIGINT', stop).on('SIGHUP', reload);
  try {
    await http.listen();
    manager.status(state.reason);
    await Promise.race([engine.ready.then(() => fleet.configure(settings.fleet)), stopped.promise]);
    state = { ready: true, reason: 'ready' };
    manager.ready('ready');
    releaseUnusedMemory(native);
    setTimeout(() => releaseUnusedMemory(native), RELEASE_AGAIN_MS).unref();
    // Else what was compiled is kept at the end only, and one that is killed leaves nothing to its next start.
    flushCompileCache();
    const { listen, socket } = settings.daemon;
    log.info(
      { socket: socket.path, listen: listen === null ? null : formatListen(listen), state: stateFolder },
      'ready',
    );
    const reason = await Promise.race([stopped.promise, ended.then((text) => new Error(text))]);
    if (reason instanceof Error) {
      throw new VnicError('failed', `The engine of the daemon ended: ${reason.message}.`, {
        remedy: 'What is attached goes on. Report it with the log of the daemon.',
        cause: reason,
      });
    }
    log.info({ signal: reason }, 'stopping; what is attached goes on');
  } finally {
    clearInterval(watchdog);
    process.off('SIGTERM', stop).off('SIGINT', stop).off('SIGHUP', reload);
    state = { ready: false, reason: 'the daemon is stopping' };
    manager.stopping();
    await fleet.stop();
    await http.close(GRACE_MS);
    await engine.stop();
    await ended;
  }
}

/** Answers come before work: the main thread is more urgent than the engine's, which gives itself its own. */
function preferMainThread(native: Native, log: Logger): void {
  try {
    setUrgency(native, mainThread);
  } catch (error) {
    log.debug({ err: error }, 'the main thread keeps its priority');
  }
}

/** An engine that does not come round to a ping within the interval is not reported as alive. */
function startWatchdog(manager: ServiceManager, engine: WorkerEngine, log: Logger): NodeJS.Timeout | undefined {
  const interval = manager.watchdogIntervalMs;
  if (interval === null) return undefined;
  return setInterval(() => {
    engine.ping().then(
      () => manager.watchdog(),
      (error: unknown) => log.error({ err: error }, 'the engine does not answer'),
    );
  }, interval);
}

/** What a running daemon keeps, whatever the file says now. */
function warnOfFixed(before: DaemonSettings, after: DaemonSettings, log: Logger): void {
  for (const field of ['listen', 'socket'] as const) {
    if (JSON.stringify(before.daemon[field]) === JSON.stringify(after.daemon[field])) continue;
    log.warn({ field: `daemon.${field}` }, 'this takes effect when the daemon is started again');
  }
}
