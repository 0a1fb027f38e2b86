// SPDX-License-Identifier: Apache-2.0
/** The engine's side in its worker thread: one operation at a time, and a look at the devices in between. */
import { parentPort, workerData } from 'node:worker_threads';
import { dispatch } from '../api/dispatch.ts';
import type { ApiContext, ApiEvent } from '../api/operation.ts';
import { operationsById } from '../api/operations/index.ts';
import { asVnicError } from '../api/problem.ts';
import { openController } from '../app/environment.ts';
import { Guard } from '../app/guard.ts';
import { Keeper } from '../app/keeper.ts';
import { AutoRebalance } from '../app/rebalancing.ts';
import type { Config } from '../config/config.ts';
import { daemonDefaults, type TelemetryConfig } from '../config/daemon.ts';
import { HealthMonitor } from '../health/monitor.ts';
import { createProber } from '../health/probers/index.ts';
import { deviceText } from '../loader/pins.ts';
import type { EngineOptions, FromEngine, ToEngine } from './engine.ts';
import type { Samples } from './metrics.ts';
import { transferOf } from './transfer.ts';

const LOOK_INTERVAL_MS = 1000;
const GUARD_INTERVAL_MS = 20;
const REBALANCE_INTERVAL_MS = 5000;

const port = parentPort!;
const { stateFolder, config } = workerData as EngineOptions;

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
const context: ApiContext = { controller, publish };
const keeper = new Keeper(controller, publish);
const guard = new Guard(controller, publish);
const rebalance = new AutoRebalance({ controller, publish });
const monitor = new HealthMonitor({ controller, publish, prober: createProber(controller.native) });

function telemetryOf(settings: Config | null): TelemetryConfig {
  return (settings?.daemon ?? daemonDefaults).telemetry;
}

async function perform(message: ToEngine): Promise<void> {
  switch (message.kind) {
    case 'call': {
      const operation = operationsById.get(message.operation)!;
      const response = await dispatch(context, operation, message.request);
      send({ kind: 'answer', id: message.id, response }, transferOf(response.body));
      if (operation.method !== 'get') monitor.refresh();
      return;
    }
    case 'samples':
      takeSamples(message.id);
      return;
    case 'ping':
      send({ kind: 'done', id: message.id, error: null });
      return;
    case 'reload': {
      const { config: next } = message;
      const error = next === null ? null : failureOf(() => keeper.applyConfig(next));
      controller.telemetry.configure(telemetryOf(next));
      monitor.refresh();
      send({ kind: 'done', id: message.id, error });
      return;
    }
    case 'stop':
      clearInterval(looking);
      clearInterval(guarding);
      clearInterval(rebalancing);
      guard.end();
      monitor.stop();
      controller.close();
      port.close();
      return;
  }
}

function takeSamples(id: number): void {
  const taken: Samples[] = [];
  const error = failureOf(() => {
    taken.push({ devices: controller.samples(), machine: controller.telemetry.sample() });
  });
  const [samples] = taken;
  if (samples !== undefined) send({ kind: 'samples', id, samples });
  else send({ kind: 'done', id, error });
}

function failureOf(action: () => void): { message: string; remedy: string | null } | null {
  try {
    action();
    return null;
  } catch (thrown) {
    const { message, remedy = null } = asVnicError(thrown);
    return { message, remedy };
  }
}

/** Operations that wait, so that each finds what the one before it left. */
let queue: Promise<void> = Promise.resolve();

port.on('message', (message: ToEngine) => {
  queue = queue.then(() => perform(message));
});

controller.telemetry.configure(telemetryOf(config));
keeper.start(config);
monitor.refresh();
const looking = setInterval(() => {
  keeper.look();
  monitor.refresh();
}, LOOK_INTERVAL_MS);
const guarding = setInterval(() => {
  if (guard.look()) monitor.refresh();
}, GUARD_INTERVAL_MS);
const rebalancing = setInterval(() => rebalance.run(), REBALANCE_INTERVAL_MS);
send({ kind: 'ready' });
