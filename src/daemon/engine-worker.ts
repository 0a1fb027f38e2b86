// SPDX-License-Identifier: Apache-2.0
/** The engine's side in its worker thread: one operation at a time, and a look at the devices in between. */
import { flushCompileCache } from 'node:module';
import { parentPort, workerData } from 'node:worker_threads';
import { encodeJson, encodeText } from '../api/bodies.ts';
import { dispatch } from '../api/dispatch.ts';
import type { ApiContext, ApiEvent } from '../api/operation.ts';
import { operationsById } from '../api/operations/index.ts';
import { asVnicError } from '../api/problem.ts';
import { openController } from '../app/environment.ts';
import { Guard } from '../app/guard.ts';
import { Keeper } from '../app/keeper.ts';
import { AutoRebalance } from '../app/rebalancing.ts';
import { RedirectKeeper } from '../app/redirect-keeper.ts';
import { specViews } from '../app/spec-parts.ts';
import { AutoCoalescing } from '../app/tuning/auto-coalescing.ts';
import type { Config } from '../config/config.ts';
import { daemonDefaults, type TelemetryConfig } from '../config/daemon.ts';
import { HealthMonitor } from '../health/monitor.ts';
import { createProber } from '../health/probers/index.ts';
import { deviceText } from '../loader/pins.ts';
import { setUrgency, type Urgency } from '../loader/scheduling.ts';
import { receivedPackets } from '../telemetry/counters.ts';
import { Exposition } from '../telemetry/metrics/exposition.ts';
import type { EngineOptions, FromEngine, ToEngine } from './engine.ts';
import { withRoomFor } from './heap-room.ts';
import type { MetricsRequest } from './metrics.ts';
import { transferOf } from './transfer.ts';

const ROUND_MS = 500;

/**
 * Scrapes and failovers run here, and rule sets of seconds: less than the main thread, and far less than the threads that
 * take packets out of their rings (cpumap-threads.ts).
 */
const thisThread: Urgency = { nice: -10, sliceNs: 100_000 };

const port = parentPort!;
const { stateFolder, config, version } = workerData as EngineOptions;

function send(message: FromEngine, transfer: ArrayBuffer[] = []): void {
  port.postMessage(message, transfer);
}

function publish(event: ApiEvent): void {
  send({ kind: 'event', event });
}

const controller = openController(
  { ...process.env, VNIC_STATE_DIR: stateFolder },
  {
    keepOpen: true,
    onDamage: ({ device, ...report }) =>
      publish({ type: 'state.damaged', device: deviceText(device), data: { ...report } }),
  },
);
const exposition = new Exposition({ version });
const context: ApiContext = { controller, publish };
const keeper = new Keeper(controller, publish);
const guard = new Guard(controller, publish);
const rebalance = new AutoRebalance({ controller, publish });
const coalescing = new AutoCoalescing({ controller, publish, received: ({ dataplane }) => receivedPackets(dataplane) });
const redirects = new RedirectKeeper(controller, publish);
const monitor = new HealthMonitor({ controller, publish, prober: createProber(controller.native) });

function telemetryOf(settings: Config | null): TelemetryConfig {
  return (settings?.daemon ?? daemonDefaults).telemetry;
}

async function perform(message: Exclude<ToEngine, { kind: 'metrics' }>): Promise<void> {
  switch (message.kind) {
    case 'call': {
      const operation = operationsById.get(message.operation)!;
      const bytes = message.request.body?.length ?? 0;
      const response = await withRoomFor(bytes, () => dispatch(context, operation, message.request));
      send({ kind: 'answer', id: message.id, response }, transferOf(response.body));
      if (operation.method !== 'get') monitor.refresh();
      controller.rest();
      return;
    }
    case 'look':
      send({ kind: 'looked', id: message.id, devices: specViews(controller) });
      return;
    case 'ping':
      send({ kind: 'done', id: message.id, error: null });
      return;
    case 'reload': {
      const { config: next } = message;
      let error: ReturnType<typeof failureOf> | null = null;
      try {
        if (next !== null) keeper.applyConfig(next);
      } catch (thrown) {
        error = failureOf(thrown);
      }
      controller.telemetry.configure(telemetryOf(next));
      monitor.refresh();
      send({ kind: 'done', id: message.id, error });
      return;
    }
    case 'stop':
      clearInterval(going);
      clearTimeout(guarding);
      coalescing.end();
      guard.end();
      monitor.stop();
      controller.close();
      port.close();
      return;
  }
}

/** What is done again and again, in turns that begin together: each time that an idle thread wakes costs more than most of it. */
const rounds: readonly { everyMs: number; run: () => void }[] = [
  { everyMs: ROUND_MS, run: () => coalescing.run() },
  {
    everyMs: 1000,
    run: () => {
      keeper.look();
      monitor.refresh();
    },
  },
  { everyMs: 3000, run: () => redirects.run() },
  { everyMs: 5000, run: () => rebalance.run() },
];

function goRound(): void {
  roundMs += ROUND_MS;
  for (const { everyMs, run } of rounds) if (roundMs % everyMs === 0) run();
}

function watchOver(): void {
  if (guard.look()) monitor.refresh();
  guarding = setTimeout(watchOver, guard.intervalMs);
}

/** Written here, and handed over as bytes: to copy samples from thread to thread takes longer than to read them. */
async function writeMetrics(id: number, { format, fleet }: MetricsRequest): Promise<void> {
  try {
    const samples = controller.samples();
    const machine = { ...controller.telemetry.sample(), fleet };
    const body =
      format === 'json'
        ? encodeJson(await exposition.json(samples, machine))
        : encodeText(await exposition.text(samples, format, machine));
    send({ kind: 'metrics', id, body }, transferOf(body));
  } catch (thrown) {
    send({ kind: 'done', id, error: failureOf(thrown) });
  }
}

function failureOf(thrown: unknown): { message: string; remedy: string | null } {
  const { message, remedy = null } = asVnicError(thrown);
  return { message, remedy };
}

/** Operations that wait, so that each finds what the one before it left. */
let queue: Promise<void> = Promise.resolve();

port.on('message', (message: ToEngine) => {
  // Taken at once, between two steps of an operation that waits for something or walks through the flow table.
  if (message.kind === 'metrics') void writeMetrics(message.id, message);
  else queue = queue.then(() => perform(message));
});

try {
  setUrgency(controller.native, thisThread);
} catch {
  // Without CAP_SYS_NICE it waits for its turn like any other.
}
controller.telemetry.configure(telemetryOf(config));
keeper.start(config);
monitor.refresh();
controller.rest();
let roundMs = 0;
const going = setInterval(goRound, ROUND_MS);
let guarding = setTimeout(watchOver, guard.intervalMs);
send({ kind: 'ready' });
flushCompileCache();
