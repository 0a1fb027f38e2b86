// SPDX-License-Identifier: Apache-2.0
/** AZs: their state and why, what the kernel sees of them, and buttons for those who may write. */
import { devicePath, Refused } from './api.mjs';
import { byId, element, KeyedViews, setAttribute, setText } from './dom.mjs';
import { formatMs, formatNs, formatShort, formatTime, formatWhole } from './format.mjs';
import { queuesText } from './traffic.mjs';

/** @import { Api } from './api.mjs' */
/** @import { AzChange, AzPlan, AzStatus, BfdSession } from './types.ts' */

/** @typedef {{ az: AzStatus, index: number }} SeenAz */

class Card {
  #title = element('h3');
  #badge = element('span', { class: 'badge' });
  #button = element('button', { type: 'button', hidden: '' });
  #list = element('dl');
  root = element('li', { class: 'az-card' }, element('header', {}, this.#title, this.#badge, this.#button), this.#list);
  /** @type {AzStatus | null} */
  #az = null;

  /** @param {(az: AzStatus) => void} act */
  constructor(act) {
    this.#button.addEventListener('click', () => {
      if (this.#az !== null) act(this.#az);
    });
  }

  /**
   * @param {SeenAz} seen
   * @param {boolean} mayWrite
   */
  show({ az, index }, mayWrite) {
    this.#az = az;
    setText(this.#title, az.name);
    setText(this.#badge, az.state === 'up' ? 'up' : 'failed');
    setText(this.#button, az.state === 'up' ? 'Fail…' : 'Recover…');
    setAttribute(this.#button, 'aria-label', `${az.state === 'up' ? 'Fail' : 'Recover'} ${az.name}…`);
    this.#button.hidden = !mayWrite;
    setAttribute(this.root, 'data-state', az.state);
    setAttribute(this.root, 'data-az', String(index));
    const facts = factsOf(az);
    while (this.#list.children.length > facts.length * 2) this.#list.lastElementChild?.remove();
    for (const [place, [term, text]] of facts.entries()) {
      const at = this.#list.children;
      if (at[place * 2] === undefined) this.#list.append(element('dt'), element('dd'));
      const [name, value] = [at[place * 2], at[place * 2 + 1]];
      if (name === undefined || value === undefined) continue;
      setText(name, term);
      setText(value, text);
    }
  }
}

/**
 * @param {AzStatus} az
 * @returns {[string, string][]}
 */
function factsOf(az) {
  const { health, probe, since, rtt } = az;
  /** @type {[string, string | null][]} */
  const facts = [
    ['Cause', az.cause],
    ['Since', since === null ? null : sinceText(new Date(since))],
    ['Evidence', az.evidence],
    ['Queues', az.queues.length === 0 ? 'none' : queuesText(az.queues).replace(/^queues? /, '')],
    ['Weight', az.weight === 1 ? null : String(az.weight)],
    ['Prefixes', az.prefixes.length === 0 ? null : az.prefixes.join(', ')],
    ['Probe', probe === undefined ? null : `${probe.type} to ${(probe.targets ?? [probe.target]).join(', ')}`],
    ['Silence', health?.silence == null ? null : silenceText(health.silence, az.silence_ms)],
    ...(health?.bfd ?? []).map((session) => /** @type {[string, string]} */ (['BFD', bfdText(session)])),
    [
      'TCP RTT',
      rtt == null ? null : `p50 ${formatNs(rtt.p50Ns)}, p99 ${formatNs(rtt.p99Ns)}, of ${formatShort(rtt.count)}`,
    ],
    ['Refused', health?.refused == null ? null : `dead by ${health.refused}, and too few queues would be left`],
  ];
  return facts.flatMap(([term, text]) => (text === null ? [] : [[term, text]]));
}

/** @param {Date} since */
function sinceText(since) {
  const now = new Date();
  return `${formatTime(since, now)} (${formatMs(Math.max(0, now.getTime() - since.getTime()))} ago)`;
}

/**
 * @param {NonNullable<NonNullable<AzStatus['health']>['silence']>} silence
 * @param {number | undefined} silenceMs
 */
function silenceText({ armed, heardAgoMs, lastWindowPackets, floorPackets, longestGapMs }, silenceMs) {
  const heard = heardAgoMs === null ? 'nothing heard yet' : `heard ${formatMs(heardAgoMs)} ago`;
  const armedText = armed
    ? 'armed'
    : `not armed: takes ${formatWhole(floorPackets)} packets in each of 8 stretches, the last had ${formatWhole(lastWindowPackets)}`;
  return `${formatMs(silenceMs ?? null)}, ${armedText}; ${heard}, longest gap ${formatMs(longestGapMs)}`;
}

/** @param {BfdSession} session */
function bfdText({ peer, state, remoteState, heardAgoMs, detectMs, diag }) {
  const heard = heardAgoMs === null ? 'never heard' : `heard ${formatMs(heardAgoMs)} ago`;
  const detect = detectMs === null ? '' : `, detects in ${formatMs(detectMs)}`;
  return `${peer} ${state}${remoteState === null ? '' : ` (peer ${remoteState})`}; ${heard}${detect}${diag === 'none' ? '' : `; ${diag}`}`;
}

export class AzsView {
  #hint = byId('az-hint', HTMLElement);
  #isReadOnly = true;
  #dialog;
  /** @type {KeyedViews<SeenAz, Card>} */
  #cards;
  /** @type {SeenAz[]} */
  #seen = [];

  /** @param {AzDialog} dialog */
  constructor(dialog) {
    this.#dialog = dialog;
    this.#cards = new KeyedViews(
      byId('az-list', HTMLElement),
      () => new Card((az) => this.#dialog.open(this.#device, az)),
      (card, seen) => card.show(seen, !this.#isReadOnly),
    );
  }

  #device = '';

  clear() {
    this.show('', []);
  }

  /** @param {boolean} mayWrite */
  setMayWrite(mayWrite) {
    this.#isReadOnly = !mayWrite;
    this.show(
      this.#device,
      this.#seen.map(({ az }) => az),
    );
  }

  /**
   * @param {string} device
   * @param {readonly AzStatus[]} azs
   */
  show(device, azs) {
    this.#device = device;
    this.#seen = azs.map((az, index) => ({ az, index }));
    this.#cards.show(this.#seen, ({ az }) => az.name);
    const hint = azs.length === 0 ? 'The device has no AZs.' : 'To fail or recover an AZ, enter a write token.';
    setText(this.#hint, azs.length === 0 || this.#isReadOnly ? hint : '');
  }
}

/** Says what a failure or a recovery would do, and does it when told to. */
export class AzDialog {
  #dialog = byId('az-dialog', HTMLDialogElement);
  #title = byId('az-dialog-title', HTMLElement);
  #plan = byId('az-plan', HTMLElement);
  #force = byId('az-force', HTMLInputElement);
  #forceLine = byId('az-force-line', HTMLElement);
  #problem = byId('az-problem', HTMLElement);
  #perform = byId('az-perform', HTMLButtonElement);
  #api;
  #onDone;
  /** @type {{ device: string, az: string, recover: boolean } | null} */
  #asked = null;

  /**
   * @param {Api} api
   * @param {(text: string) => void} onDone
   */
  constructor(api, onDone) {
    this.#api = api;
    this.#onDone = onDone;
    byId('az-form', HTMLFormElement).addEventListener('submit', (event) => {
      event.preventDefault();
      void this.#act();
    });
    byId('az-cancel', HTMLButtonElement).addEventListener('click', () => this.#dialog.close());
    this.#force.addEventListener('change', () => void this.#showPlan());
  }

  /**
   * @param {string} device
   * @param {AzStatus} az
   */
  open(device, { name, state }) {
    const recover = state === 'failed';
    this.#asked = { device, az: name, recover };
    setText(this.#title, `${recover ? 'Recover' : 'Fail'} ${name}?`);
    setText(this.#perform, `${recover ? 'Recover' : 'Fail'} ${name}`);
    this.#perform.disabled = false;
    this.#force.checked = false;
    this.#forceLine.hidden = recover;
    this.#dialog.showModal();
    void this.#showPlan();
  }

  async #showPlan() {
    const asked = this.#asked;
    if (asked === null) return;
    const { device, az, recover } = asked;
    setText(this.#problem, '');
    setText(this.#plan, 'Asking what it would do…');
    try {
      const body = { az, recover, ...(recover ? {} : { force: this.#force.checked }) };
      /** @type {AzPlan} */
      const plan = await this.#api.send('POST', devicePath(device, '/plan'), body);
      if (asked === this.#asked) setText(this.#plan, planText(plan));
    } catch (error) {
      if (asked !== this.#asked) return;
      setText(this.#plan, '');
      setText(this.#problem, problemText(error));
    }
  }

  async #act() {
    const asked = this.#asked;
    if (asked === null || this.#perform.disabled) return;
    const { device, az, recover } = asked;
    this.#perform.disabled = true;
    setText(this.#problem, '');
    try {
      const path = devicePath(device, `/azs/${encodeURIComponent(az)}/${recover ? 'recover' : 'fail'}`);
      /** @type {AzChange} */
      const change = await this.#api.send('POST', path, recover ? undefined : { force: this.#force.checked });
      this.#dialog.close();
      this.#onDone(`${az} is ${recover ? 'in use again' : 'failed'}: ${formatWhole(change.moved)} buckets moved.`);
    } catch (error) {
      setText(this.#problem, problemText(error));
    } finally {
      this.#perform.disabled = false;
    }
  }
}

/** @param {AzPlan} plan */
function planText({ moved, flows, maxOverMean, queues, breaches, expectedDurationMs }) {
  const left = queues.filter(({ after }) => after > 0).length;
  const settled = expectedDurationMs.settled;
  return [
    `${formatWhole(moved)} buckets would move${flows === null ? '' : `, with ${formatWhole(flows.moved)} of ${formatWhole(flows.known)} flows`};`,
    `${left} queues would be in use, the fullest with ${maxOverMean.toFixed(2)} times its share.`,
    ...(settled === null || settled < 1 ? [] : [`Moves are through after at most ${formatMs(settled)}.`]),
    ...(breaches.length === 0 ? [] : [`${queuesText(breaches.map(({ queue }) => queue))} would be given too much.`]),
  ].join(' ');
}

/**
 * @param {unknown} error
 * @returns {string}
 */
export function problemText(error) {
  if (error instanceof Refused) return [error.message, error.remedy ?? ''].join(' ').trim();
  return error instanceof Error ? `The daemon cannot be reached: ${error.message}.` : String(error);
}
