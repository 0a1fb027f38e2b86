// SPDX-License-Identifier: Apache-2.0
/** What happened, the newest first; what comes while somebody listens is read out. */
import { Refused } from './api.mjs';
import { byId, element, setText } from './dom.mjs';
import { EventFollower } from './event-stream.mjs';
import { formatEventData, formatTime } from './format.mjs';

/** @import { Api } from './api.mjs' */
/** @import { StreamEvent } from './event-stream.mjs' */
/** @import { Event } from './types.ts' */

const MAX_SHOWN = 200;
/** What came before the page was opened is not news. */
const LATEST = 50;

export class EventLogView {
  #box = byId('event-box', HTMLElement);
  #list = byId('event-log', HTMLElement);
  #state = byId('events-state', HTMLElement);
  #follower;
  #onEvent;

  /**
   * @param {Api} api
   * @param {() => void} onEvent
   */
  constructor(api, onEvent) {
    this.#onEvent = onEvent;
    this.#follower = new EventFollower({
      open: (lastId, signal) => api.events(lastId, LATEST, signal),
      onEvent: (event) => this.#add(event),
      onState: (error) => this.#showState(error),
    });
  }

  start() {
    this.#follower.start();
  }

  stop() {
    this.#follower.stop();
  }

  /** @param {Error | null} error */
  #showState(error) {
    const why = error instanceof Refused ? error.message : error?.message;
    setText(this.#state, error === null ? '' : `Not followed: ${why}. Trying again.`);
    // What the first answer brings is read when somebody comes to it, what follows when it comes.
    if (error === null) setTimeout(() => this.#box.setAttribute('aria-live', 'polite'), 1000);
  }

  /** @param {StreamEvent} event */
  #add({ type, data }) {
    this.#onEvent();
    if (type === 'reset') {
      this.#prepend(element('li', {}, 'Some events before this are not kept any more.'));
      return;
    }
    /** @type {Event} */
    const event = JSON.parse(data);
    const time = new Date(event.time);
    const about = [event.device ?? '', formatEventData(event.data)].filter((text) => text !== '').join(' · ');
    const title = element('strong', {}, event.type);
    const mark = markOf(event.type);
    if (mark !== null) title.dataset['mark'] = mark;
    this.#prepend(
      element(
        'li',
        {},
        element('time', { datetime: event.time }, formatTime(time, new Date())),
        title,
        element('span', { class: 'about' }, about),
      ),
    );
  }

  /** @param {HTMLElement} item */
  #prepend(item) {
    this.#list.prepend(item);
    while (this.#list.children.length > MAX_SHOWN) this.#list.lastElementChild?.remove();
  }
}

/**
 * @param {string} type
 * @returns {'bad' | 'good' | null}
 */
function markOf(type) {
  if (/\.(failed|refused|damaged|fail_refused|recover_refused|probe_impossible)$/.test(type)) return 'bad';
  return /\.(recovered|mended)$/.test(type) ? 'good' : null;
}
