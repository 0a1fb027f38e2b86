// SPDX-License-Identifier: Apache-2.0
/** What happened, kept for a while so that a follower that was cut off can go on where it was. */
import type { ApiEvent } from '../api/operation.ts';

export interface LoggedEvent extends ApiEvent {
  /** `<start of the daemon>.<number>`: numbers of another daemon mean nothing to this one. */
  id: string;
  /** ISO 8601. */
  time: string;
}

export interface Missed {
  events: LoggedEvent[];
  /** Whether events between the given id and these may be lost: the id is too old, or of a daemon before this one. */
  incomplete: boolean;
}

const CAPACITY = 4096;

export class EventLog {
  readonly #epoch: string;
  readonly #capacity: number;
  readonly #events: LoggedEvent[] = [];
  readonly #followers = new Set<(event: LoggedEvent) => void>();
  #count = 0;

  constructor(startMs: number, capacity = CAPACITY) {
    this.#epoch = startMs.toString(36);
    this.#capacity = capacity;
  }

  publish(event: ApiEvent, now = new Date()): LoggedEvent {
    this.#count++;
    const logged = { id: `${this.#epoch}.${this.#count}`, time: now.toISOString(), ...event };
    this.#events.push(logged);
    if (this.#events.length > this.#capacity) this.#events.shift();
    for (const follower of this.#followers) follower(logged);
    return logged;
  }

  /** Id of the last event, or of the moment before the first. */
  get position(): string {
    return `${this.#epoch}.${this.#count}`;
  }

  /** Everything that is kept and came after the event of that id; without an id nothing: a new follower sees what comes. */
  since(lastId: string | undefined): Missed {
    if (lastId === undefined) return { events: [], incomplete: false };
    const [epoch, number] = lastId.split('.');
    const last = Number(number);
    if (epoch !== this.#epoch || !Number.isInteger(last) || last > this.#count) {
      return { events: [...this.#events], incomplete: true };
    }
    const first = this.#count - this.#events.length + 1;
    return { events: this.#events.slice(Math.max(0, last + 1 - first)), incomplete: last + 1 < first };
  }

  /** The latest events, the oldest of them first. */
  latest(count: number): LoggedEvent[] {
    return count === 0 ? [] : this.#events.slice(-count);
  }

  /** @returns ends the following */
  follow(follower: (event: LoggedEvent) => void): () => void {
    this.#followers.add(follower);
    return () => this.#followers.delete(follower);
  }
}
