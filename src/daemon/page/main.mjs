// SPDX-License-Identifier: Apache-2.0
/** The live page: looks at the daemon once a second, follows its events, and says so when it is away. */
import { Api, devicePath, Refused, TokenStore, Unreachable } from './api.mjs';
import { AzDialog, AzsView } from './azs.mjs';
import { DevicesView } from './devices.mjs';
import { byId, setAttribute, setText } from './dom.mjs';
import { EventLogView } from './event-log.mjs';
import { FlowsView } from './flows.mjs';
import { formatMs, formatTime } from './format.mjs';
import { LatencyView } from './latency.mjs';
import { Poller } from './poller.mjs';
import { QueuesView } from './queues.mjs';
import { Rates } from './rates.mjs';
import { RulesView } from './rules.mjs';
import { TokenDialog } from './token-dialog.mjs';
import { rateCounters, TrafficView } from './traffic.mjs';

/** @import { AzStatus, DeviceStatus, DeviceSummary, Flow, LatencyReport, Page, QueueStatus } from './types.ts' */

const EVERY_MS = 1000;
/** What took long is asked for again after so many times that. */
const REST_FACTOR = 10;

const connection = byId('connection', HTMLElement);
const connectionText = byId('connection-text', HTMLElement);
const announcer = byId('announcer', HTMLElement);
const notice = byId('notice', HTMLElement);
const pauseButton = byId('pause', HTMLButtonElement);

const store = new TokenStore();
const api = new Api(store);
const poller = new Poller(EVERY_MS, look);
const hurry = () => poller.hurry();
const devices = new DevicesView(hurry);
const traffic = new TrafficView();
const latency = new LatencyView();
const queues = new QueuesView();
const azs = new AzsView(
  new AzDialog(api, (text) => {
    announce(text);
    hurry();
  }),
);
const flows = new FlowsView(() => {
  flowsDueMs = 0;
  hurry();
});
const rules = new RulesView(hurry);
const events = new EventLogView(api, hurry);
const tokenDialog = new TokenDialog({
  api,
  store,
  device: () => shown ?? '-',
  onChange: (mayWrite) => {
    azs.setMayWrite(mayWrite);
    hurry();
  },
});

const rates = new Rates();
/** The device that is shown. @type {string | null} */
let shown = null;
/** States of its AZs when they were looked at last. @type {Map<string, string>} */
let azStates = new Map();
let flowsDueMs = 0;
/** @type {Date | null} */
let awaySince = null;
let isPaused = false;

/**
 * One look, in the order in which it matters.
 * @param {AbortSignal} signal
 */
async function look(signal) {
  try {
    /** @type {Page<DeviceSummary>} */
    const { items } = await api.get('/api/v1/devices');
    if (signal.aborted) return;
    const chosen = devices.show(items);
    if (chosen?.device !== shown) clear();
    shown = chosen?.device ?? null;
    if (chosen?.state === 'attached') await lookAt(chosen.device, signal);
    if (signal.aborted) return;
    reached(chosen);
  } catch (error) {
    if (!signal.aborted) notReached(error);
  }
}

/**
 * @param {string} device
 * @param {AbortSignal} signal
 */
async function lookAt(device, signal) {
  /** @type {DeviceStatus} */
  const status = await api.get(devicePath(device));
  /** @type {Page<QueueStatus>} */
  const { items } = await api.get(devicePath(device, '/queues'));
  if (signal.aborted) return;
  const rate = rates.update(rateCounters(status, items), performance.now());
  traffic.show(status, rate);
  queues.show(
    items,
    status.azs.map(({ name }) => name),
    rate,
  );
  azs.show(device, status.azs);
  announceAzs(status.azs);
  /** @type {LatencyReport} */
  const times = await api.get(devicePath(device, '/latency'));
  if (signal.aborted) return;
  latency.show(times);
  if (performance.now() >= flowsDueMs) await lookAtFlows(device, signal);
  if (!signal.aborted) await rules.load(api, device, status.rules, () => !signal.aborted && shown === device);
}

/**
 * A large flow table takes a while: it is not asked for all the time.
 * @param {string} device
 * @param {AbortSignal} signal
 */
async function lookAtFlows(device, signal) {
  const startMs = performance.now();
  const { query } = flows;
  /** @type {Page<Flow>} */
  const { items } = await api.get(devicePath(device, `/flows${query}`));
  const nowMs = performance.now();
  if (signal.aborted || query !== flows.query) return;
  flows.show(items);
  flowsDueMs = nowMs + Math.max(EVERY_MS, (nowMs - startMs) * REST_FACTOR);
}

function clear() {
  rates.reset();
  azStates = new Map();
  flowsDueMs = 0;
  traffic.clear();
  latency.clear();
  queues.clear();
  azs.clear();
  flows.clear();
  rules.clear();
}

/** @param {DeviceSummary | null} chosen */
function reached(chosen) {
  if (awaySince !== null) announce('The daemon answers again.');
  awaySince = null;
  document.body.removeAttribute('data-stale');
  showConnection('live', `Live, ${formatTime(new Date(), new Date())}`);
  if (chosen === null) return showNotice('No device is attached. Run: vnicctl attach DEVICE', false);
  if (chosen.state === 'attached') return showNotice('', false);
  const why = chosen.problem === null ? 'It is attached again when it comes back.' : chosen.problem.detail;
  showNotice(`${chosen.device} is ${chosen.state}. ${why}`, true);
}

/** @param {unknown} error */
function notReached(error) {
  if (error instanceof Refused && error.status === 401) {
    const hadToken = store.value !== null;
    if (hadToken) tokenDialog.forget();
    showConnection('lost', 'Not permitted');
    showNotice(
      hadToken
        ? 'The daemon does not accept the token any more.'
        : 'Reading takes a token here: enter one of scope read or write.',
      true,
    );
    return;
  }
  if (error instanceof Refused && error.status === 404) {
    // The device went away between two requests; the next look knows more.
    return;
  }
  const now = new Date();
  awaySince ??= now;
  document.body.setAttribute('data-stale', '');
  const isAway = error instanceof Unreachable;
  const why = error instanceof Error ? error.message.replace(/\.$/, '') : String(error);
  showConnection('lost', `Not live for ${formatMs(now.getTime() - awaySince.getTime())}`);
  const what = isAway ? 'The daemon cannot be reached' : 'The daemon does not say how things are';
  showNotice(
    `${what} since ${formatTime(awaySince, now)}: ${why}. What is shown is from before. Trying again each second.`,
    true,
  );
  // An error of the page itself is one for its console.
  if (!isAway && !(error instanceof Refused)) console.error(error);
}

/**
 * @param {'live' | 'lost' | 'waiting'} state
 * @param {string} text
 */
function showConnection(state, text) {
  setAttribute(connection, 'data-state', state);
  setText(connectionText, text);
}

/**
 * @param {string} text empty: none
 * @param {boolean} isBad
 */
function showNotice(text, isBad) {
  notice.hidden = text === '';
  notice.classList.toggle('bad', isBad);
  setText(notice, text);
}

/** @param {string} text */
function announce(text) {
  setText(announcer, text);
}

/** @param {readonly AzStatus[]} seen */
function announceAzs(seen) {
  const changed = seen.filter(({ name, state }) => (azStates.get(name) ?? state) !== state);
  azStates = new Map(seen.map(({ name, state }) => [name, state]));
  if (changed.length > 0) {
    announce(
      changed.map(({ name, state, cause }) => `${name} is ${state}${cause === null ? '' : ` (${cause})`}.`).join(' '),
    );
  }
  const failed = seen.filter(({ state }) => state === 'failed').map(({ name }) => name);
  document.title = failed.length === 0 ? 'vnicctl' : `${failed.join(', ')} failed – vnicctl`;
}

/** Nobody looks at a hidden page, and somebody who paused it wants to read. */
function run() {
  if (document.hidden || isPaused) {
    poller.stop();
    events.stop();
    rates.reset();
    showConnection('waiting', 'Paused');
  } else {
    poller.start();
    events.start();
  }
}

pauseButton.addEventListener('click', () => {
  isPaused = !isPaused;
  pauseButton.setAttribute('aria-pressed', String(isPaused));
  run();
});
document.addEventListener('visibilitychange', run);
void tokenDialog.restore();
run();
